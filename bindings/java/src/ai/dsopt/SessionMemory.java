package ai.dsopt;

/**
 * What a session takes, before it takes anything ({@code dsopt_session_memory}).
 *
 * @param pageTokens tokens come in whole pages of so many
 * @param wantedTokens {@link SessionOptions#maxTokens()} or, when that is 0, the model's context length
 * @param tokens of those, what the caps have room for, on the device and on the host
 * @param wantedCacheBytes cache of {@code wantedTokens}
 * @param cacheBytes cache of {@code tokens} without {@code hostTokens}, on the device
 * @param workspaceBytes device memory for the batches
 * @param hostBytes host memory of its tables
 * @param deviceFreeBytes free memory of the device at the time of the call, for comparison
 * @param hostCacheBytes cache of {@code hostTokens}, in pinned host memory
 * @param hostTokens of {@code tokens}, those that {@link SessionOptions#maxHostCacheBytes()} gives room to
 */
public record SessionMemory(long pageTokens, long wantedTokens, long tokens, long wantedCacheBytes, long cacheBytes,
    long workspaceBytes, long hostBytes, long deviceFreeBytes, long hostCacheBytes, long hostTokens) {}
