package ai.dsopt;

/** How a model is opened ({@code dsopt_model_options}). Immutable; made by {@link #builder()}. */
public final class ModelOptions {
  /** The best device with room, loaded when the open returns. */
  public static final ModelOptions DEFAULT = builder().build();

  private static final int VERIFY = 1;
  private static final int METADATA_ONLY = 2;
  private static final int LAZY = 4;
  private static final int MMAP = 8;

  private final int flags;
  private final String device;
  private final long maxDeviceBytes;
  private final ProgressListener progress;

  private ModelOptions(Builder b) {
    flags = b.flags;
    device = b.device;
    maxDeviceBytes = b.maxDeviceBytes;
    progress = b.progress;
  }

  /**
   * Starts from {@link #DEFAULT}.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  int flags() {
    return flags;
  }

  /**
   * Where the model is to run.
   *
   * @return for example "cpu" or "cuda:0"; {@code null}: the best device with room
   */
  public String device() {
    return device;
  }

  /**
   * Most bytes the weights may take on the device.
   *
   * @return 0: no limit
   */
  public long maxDeviceBytes() {
    return maxDeviceBytes;
  }

  /**
   * Who follows the loading.
   *
   * @return {@code null}: nobody
   */
  public ProgressListener progress() {
    return progress;
  }

  /** Builds {@link ModelOptions}. Each method returns the builder. */
  public static final class Builder {
    private int flags;
    private String device;
    private long maxDeviceBytes;
    private ProgressListener progress;

    private Builder() {}

    /**
     * Sets {@link ModelOptions#device()}: this one or an exception.
     *
     * @param id as {@link DeviceInfo#id()}
     * @return this
     */
    public Builder device(String id) {
      device = id;
      return this;
    }

    /**
     * Sets {@link ModelOptions#maxDeviceBytes()}; weights that exceed it throw {@link
     * DsoptException.OutOfMemory}.
     *
     * @param bytes 0: no limit
     * @return this
     */
    public Builder maxDeviceBytes(long bytes) {
      maxDeviceBytes = Check.range(bytes, Long.MAX_VALUE, "options.maxDeviceBytes");
      return this;
    }

    /**
     * Sets {@link ModelOptions#progress()}.
     *
     * @param listener called while the model loads
     * @return this
     */
    public Builder progress(ProgressListener listener) {
      progress = listener;
      return this;
    }

    /**
     * Also checks the checksum of the decoded bytes of each chunk.
     *
     * @return this
     */
    public Builder verify() {
      flags |= VERIFY;
      return this;
    }

    /**
     * Information, metadata and text functions only; no weights are read.
     *
     * @return this
     */
    public Builder metadataOnly() {
      flags |= METADATA_ONLY;
      return this;
    }

    /**
     * The open returns after the header; {@link Model#poll} does the rest.
     *
     * @return this
     */
    public Builder lazy() {
      flags |= LAZY;
      return this;
    }

    /**
     * Maps the file instead of reading it. Faster, but a file that others truncate while it loads ends the
     * process.
     *
     * @return this
     */
    public Builder mmap() {
      flags |= MMAP;
      return this;
    }

    /**
     * The options as set so far.
     *
     * @return a new object
     */
    public ModelOptions build() {
      return new ModelOptions(this);
    }
  }
}
