package ai.dsopt;

/**
 * The memory and arithmetic of a session ({@code dsopt_session_options}).
 *
 * @param maxStreams in one batch, at most 1024; 0: 1. More may generate, the others wait their turn
 * @param maxTokens capacity of the cache for all streams together; 0: the model's context length
 * @param prefillChunk most prompt tokens in one batch; 0: what the device prefers
 * @param deviceSliceMicros longest device work submitted at once; 0: unlimited
 * @param cacheType number format of the cache
 * @param precision of the arithmetic
 * @param maxCacheBytes most device memory of the cache; 0: no cap. With {@code maxTokens} 0 the session gets as many
 *     tokens as fit; a number that does not fit throws {@link DsoptException.OutOfMemory}
 * @param maxDeviceBytes most device memory of the model's weights and the session together; 0: no cap. What it leaves
 *     for the cache counts as {@code maxCacheBytes} does
 * @param maxHostCacheBytes what of the cache has no room on a GPU may lie in so much pinned host memory, where the GPU
 *     reads it, slower; 0: none may
 */
public record SessionOptions(int maxStreams, int maxTokens, int prefillChunk, int deviceSliceMicros,
    DataType cacheType, Precision precision, long maxCacheBytes, long maxDeviceBytes,
    long maxHostCacheBytes) {
  /**
   * Without caps on the whole device and without pages on the host.
   *
   * @param maxStreams see above
   * @param maxTokens see above
   * @param prefillChunk see above
   * @param deviceSliceMicros see above
   * @param cacheType see above
   * @param precision see above
   * @param maxCacheBytes see above
   */
  public SessionOptions(int maxStreams, int maxTokens, int prefillChunk, int deviceSliceMicros, DataType cacheType,
      Precision precision, long maxCacheBytes) {
    this(maxStreams, maxTokens, prefillChunk, deviceSliceMicros, cacheType, precision, maxCacheBytes, 0, 0);
  }

  /** One stream of the model's context length. */
  public static final SessionOptions DEFAULT = builder().build();

  /**
   * Starts from {@link #DEFAULT}.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /** Builds {@link SessionOptions}; each method sets the component of its name and returns the builder. */
  public static final class Builder {
    private int maxStreams;
    private int maxTokens;
    private int prefillChunk;
    private int deviceSliceMicros;
    private DataType cacheType = DataType.DEFAULT;
    private Precision precision = Precision.FAST;
    private long maxCacheBytes;
    private long maxDeviceBytes;
    private long maxHostCacheBytes;

    private Builder() {}

    /**
     * Sets {@link SessionOptions#maxStreams()}.
     *
     * @param value 0: 1
     * @return this
     */
    public Builder maxStreams(int value) {
      maxStreams = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#maxTokens()}.
     *
     * @param value 0: the model's context length
     * @return this
     */
    public Builder maxTokens(int value) {
      maxTokens = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#prefillChunk()}.
     *
     * @param value 0: what the device prefers
     * @return this
     */
    public Builder prefillChunk(int value) {
      prefillChunk = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#deviceSliceMicros()}.
     *
     * @param value 0: unlimited
     * @return this
     */
    public Builder deviceSliceMicros(int value) {
      deviceSliceMicros = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#cacheType()}.
     *
     * @param value the number format
     * @return this
     */
    public Builder cacheType(DataType value) {
      cacheType = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#precision()}.
     *
     * @param value the arithmetic
     * @return this
     */
    public Builder precision(Precision value) {
      precision = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#maxCacheBytes()}.
     *
     * @param value 0: no cap
     * @return this
     */
    public Builder maxCacheBytes(long value) {
      maxCacheBytes = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#maxDeviceBytes()}.
     *
     * @param value 0: no cap
     * @return this
     */
    public Builder maxDeviceBytes(long value) {
      maxDeviceBytes = value;
      return this;
    }

    /**
     * Sets {@link SessionOptions#maxHostCacheBytes()}.
     *
     * @param value 0: no part of the cache may lie on the host
     * @return this
     */
    public Builder maxHostCacheBytes(long value) {
      maxHostCacheBytes = value;
      return this;
    }

    /**
     * The options as set so far.
     *
     * @return a new record
     */
    public SessionOptions build() {
      return new SessionOptions(maxStreams, maxTokens, prefillChunk, deviceSliceMicros, cacheType, precision,
          maxCacheBytes, maxDeviceBytes, maxHostCacheBytes);
    }
  }
}
