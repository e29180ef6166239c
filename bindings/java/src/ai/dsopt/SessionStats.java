package ai.dsopt;

import java.time.Duration;

/**
 * Counters of a session ({@code dsopt_session_stats}).
 *
 * @param kvTokensUsed cache in use, in whole pages; shared pages count once
 * @param kvTokensTotal capacity of the cache, or what its limit allows
 * @param batches computed so far
 * @param prefillTokens prompt tokens computed
 * @param prefillTime that took
 * @param decodeTokens sampled one by one
 * @param decodeTime that took
 * @param hostBytes memory of this session
 * @param deviceBytes device memory of this session
 * @param kvHostTokensUsed of {@code kvTokensUsed}, those in pinned host memory
 * @param kvHostTokensTotal of {@code kvTokensTotal}, those in pinned host memory
 * @param replayedBatches of {@code batches}, those that took the device one launch, as a graph of an earlier one
 */
public record SessionStats(long kvTokensUsed, long kvTokensTotal, long batches, long prefillTokens,
    Duration prefillTime, long decodeTokens, Duration decodeTime, long hostBytes, long deviceBytes,
    long kvHostTokensUsed, long kvHostTokensTotal, long replayedBatches) {}
