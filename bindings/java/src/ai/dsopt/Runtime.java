package ai.dsopt;

import ai.dsopt.raw.DsoptNative;
import ai.dsopt.raw.HostMemory;
import ai.dsopt.raw.dsopt_device_info;
import java.lang.ref.Cleaner;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The root object: log, memory account, threads and devices. A program may have several. Thread-safe.
 *
 * <p>{@link Model#open(String)} makes one by itself; a runtime of one's own is for settings and several models.
 */
public final class Runtime implements AutoCloseable {
  private final Handle handle;
  private final Cleaner.Cleanable cleanable;
  private final Shared shared;
  private final HostMemory memory;

  private Runtime(long pointer, Shared shared, HostMemory memory) {
    this.shared = shared;
    this.memory = memory;
    handle = new Handle("runtime", pointer, DsoptNative::dsopt_runtime_release, shared::drop);
    cleanable = handle.ownedBy(this);
  }

  /**
   * A runtime with default settings: all cores, no log.
   *
   * @return to be closed
   */
  public static Runtime create() {
    return builder().build();
  }

  /**
   * Starts from the settings of {@link #create()}.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Opens a model file.
   *
   * @param path of a .dsopt file
   * @return to be closed
   */
  public Model open(String path) {
    return open(path, ModelOptions.DEFAULT);
  }

  /**
   * Opens a model file.
   *
   * @param path of a .dsopt file
   * @param options how
   * @return to be closed
   */
  public Model open(String path, ModelOptions options) {
    byte[] utf8 = Check.utf8Name(path, "path");
    return Opening.run(this, null, null, options,
        (pointer, device, o, opening)
            -> DsoptNative.model_open(
                pointer, utf8, o.flags(), device, o.maxDeviceBytes(), opening.progress()));
  }

  /**
   * Opens a model file.
   *
   * @param path of a .dsopt file in the default file system
   * @param options how
   * @return to be closed
   */
  public Model open(Path path, ModelOptions options) {
    return open(Check.notNull(path, "path").toString(), options);
  }

  /**
   * Opens a model that is in memory.
   *
   * @param bytes the contents of a .dsopt file; copied
   * @param options how
   * @return to be closed
   */
  public Model open(byte[] bytes, ModelOptions options) {
    return open(ByteBuffer.wrap(Check.notNull(bytes, "bytes")), options);
  }

  /**
   * Opens a model that is in memory.
   *
   * @param bytes the contents of a .dsopt file, from position to limit. A direct buffer is used where it is and
   *     must not change until the model has loaded; another one is copied.
   * @param options how
   * @return to be closed
   */
  public Model open(ByteBuffer bytes, ModelOptions options) {
    ByteBuffer direct = Check.notNull(bytes, "bytes").isDirect() ? bytes.slice() : copy(bytes);
    return Opening.run(this, direct, null, options,
        (pointer, device, o, opening)
            -> DsoptNative.model_open_direct(
                pointer, direct, o.flags(), device, o.maxDeviceBytes(), opening.progress()));
  }

  /**
   * Opens a model that is inside something else.
   *
   * @param reader of its bytes; closed when the model has loaded or this failed
   * @param options how
   * @return to be closed
   */
  public Model open(ModelReader reader, ModelOptions options) {
    Check.notNull(reader, "reader");
    return Opening.run(this, null, reader, options,
        (pointer, device, o, opening)
            -> DsoptNative.model_open_io(pointer, opening.source(), opening.source().size(), o.flags(), device,
                o.maxDeviceBytes(), opening.progress()));
  }

  /**
   * The devices that models can run on.
   *
   * @return at least the CPU
   */
  public List<DeviceInfo> devices() {
    long pointer = handle.enter();
    dsopt_device_info info = new dsopt_device_info();
    try {
      List<DeviceInfo> devices = new ArrayList<>();
      long count = DsoptNative.dsopt_device_count(pointer);
      for (long i = 0; i < count; ++i) {
        DsoptNative.dsopt_device_get_info(pointer, i, info);
        devices.add(Records.device(info));
      }
      return List.copyOf(devices);
    } finally {
      info.delete();
      handle.leave(this);
    }
  }

  /**
   * What was found, which kernels were chosen and why, why a plugin was not used.
   *
   * @return several lines
   */
  public String report() {
    long pointer = handle.enter();
    try {
      return Out.text(4096, buffer -> DsoptNative.runtime_report(pointer, buffer));
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Loads a backend plugin; its devices are appended to the list.
   *
   * @param path of the plugin's file
   */
  public void loadBackend(String path) {
    byte[] utf8 = Check.utf8Name(path, "path");
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_runtime_load_backend(pointer, utf8);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Measures the best streaming read of a device, which a decode step is compared with. Takes about a second.
   *
   * @param device as {@link DeviceInfo#id()}
   * @param bytes to allocate and read; 0: 1 GiB
   * @return bytes per second
   */
  public double measureRead(String device, long bytes) {
    byte[] utf8 = Check.utf8Name(device, "device");
    Check.range(bytes, Long.MAX_VALUE, "bytes");
    double[] rate = new double[1];
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_device_measure_read(pointer, utf8, bytes, rate);
      return rate[0];
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Host memory that this runtime and everything made from it use now, as its allocator counts it.
   *
   * @return in bytes
   */
  public long hostBytes() {
    handle.enter();
    try {
      return memory.used();
    } finally {
      handle.leave(this);
    }
  }

  /** Releases the runtime. Models opened from it stay usable. */
  @Override
  public void close() {
    cleanable.clean();
  }

  long enter() {
    return handle.enter();
  }

  void leave() {
    handle.leave(this);
  }

  Shared shared() {
    return shared;
  }

  private static ByteBuffer copy(ByteBuffer bytes) {
    return ByteBuffer.allocateDirect(bytes.remaining()).put(bytes.duplicate()).flip();
  }

  /** Builds a {@link Runtime}. Each method returns the builder. */
  public static final class Builder {
    private int threads;
    private LogListener log;
    private LogLevel logLevel = LogLevel.DEFAULT;
    private long maxHostBytes;
    private boolean scanBackends = true;
    private String backendPath;
    private String cpuVariant;

    private Builder() {}

    /**
     * Compute threads, the caller included.
     *
     * @param count 0: all cores; 1: no threads of its own
     * @return this
     */
    public Builder threads(int count) {
      threads = Check.notNegative(count, "threads");
      return this;
    }

    /**
     * Who receives the log. Kept until the last object made from this runtime is released.
     *
     * @param listener {@code null}: nobody
     * @return this
     */
    public Builder log(LogListener listener) {
      log = listener;
      return this;
    }

    /**
     * How much is logged.
     *
     * @param level the last level that is
     * @return this
     */
    public Builder logLevel(LogLevel level) {
      logLevel = Check.notNull(level, "logLevel");
      return this;
    }

    /**
     * Most host memory that the runtime and everything made from it may use; beyond it calls throw {@link
     * DsoptException.OutOfMemory}.
     *
     * @param bytes 0: no limit
     * @return this
     */
    public Builder maxHostBytes(long bytes) {
      maxHostBytes = Check.range(bytes, Long.MAX_VALUE, "maxHostBytes");
      return this;
    }

    /**
     * Where backend plugins are looked for.
     *
     * @param folder {@code null}: the folder of libdsopt.so
     * @return this
     */
    public Builder backendPath(String folder) {
      backendPath = folder;
      return this;
    }

    /**
     * Looks for no plugins: only {@link Runtime#loadBackend} loads them.
     *
     * @return this
     */
    public Builder withoutBackendScan() {
      scanBackends = false;
      return this;
    }

    /**
     * At most this variant of the CPU kernels.
     *
     * @param name "scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni" or "avx512_bf16"; {@code null}: the best
     * @return this
     */
    public Builder cpuVariant(String name) {
      cpuVariant = name;
      return this;
    }

    /**
     * Makes the runtime.
     *
     * @return to be closed
     */
    public Runtime build() {
      byte[] path = Check.utf8NameOrNull(backendPath, "backendPath");
      byte[] variant = Check.utf8NameOrNull(cpuVariant, "cpuVariant");
      NativeLibrary.load();
      HostMemory memory = new HostMemory(maxHostBytes);
      LogBridge bridge = log != null ? new LogBridge(log) : null;
      Shared shared = new Shared(() -> {
        if (bridge != null) {
          bridge.delete();
        }
        memory.delete();
      });
      try {
        long pointer = DsoptNative.runtime_create(
            threads, logLevel.ordinal(), bridge, memory, scanBackends, path, variant);
        return new Runtime(pointer, shared, memory);
      } catch (Throwable failure) {
        shared.drop();
        throw failure;
      }
    }
  }
}
