// Runtime.cs - the library in this process: devices, threads, memory, and the models it opens.
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>The library with its threads and devices. A program needs one; several do not disturb each
    /// other.</summary>
    /// <remarks>Thread-safe. Objects may be disposed of in any order; the native ones live as long as something that
    /// was made from them.</remarks>
    public sealed class Runtime : IDisposable
    {
        private readonly RuntimeHandle handle;
        private readonly LogReceiver log; // kept alive here; the sink knows it weakly
        private readonly SinkHandle logSink;
        private readonly HostMemory memory;

        /// <summary>Starts the library with default options.</summary>
        public Runtime() : this(new RuntimeOptions())
        {
        }

        /// <summary>Starts the library.</summary>
        /// <param name="options">threads, log, memory limit</param>
        public Runtime(RuntimeOptions options)
        {
            if (options == null) throw new ArgumentNullException("options");
            Require.NotNegative(options.CpuThreads, "options.CpuThreads");
            Require.NotNegative(options.HostMemoryLimit, "options.HostMemoryLimit");
            byte[] backendPath = Utf8.TerminatedOrNull(options.BackendPath, "options.BackendPath");
            byte[] cpuVariant = Utf8.TerminatedOrNull(options.CpuVariant, "options.CpuVariant");
            if (options.HostMemoryLimit > 0) memory = new HostMemory((ulong)options.HostMemoryLimit);
            log = options.Log != null ? new LogReceiver(options.Log) : null;
            logSink = log != null ? SinkHandle.Of(log) : SinkHandle.None;
            try
            {
                handle = new RuntimeHandle(Status.CheckHandle(DsoptNative.runtime_create(
                    (uint)options.CpuThreads, (int)options.LogLevel, logSink, memory, !options.DisableBackendScan,
                    backendPath, cpuVariant)));
            }
            catch (Exception)
            {
                ReleaseParts();
                throw;
            }
        }

        /// <summary>Version of the native library, such as 1.0.0.</summary>
        public static Version NativeVersion
        {
            get
            {
                int number = (int)DsoptNative.dsopt_version_number();
                return new Version(number / 1000000, number / 1000 % 1000, number % 1000);
            }
        }

        /// <summary>How the native library was built.</summary>
        public static string BuildInfo
        {
            get { return Utf8.Read(DsoptNative.dsopt_build_info()); }
        }

        /// <summary>The devices that models can run on, in the library's order.</summary>
        public IReadOnlyList<DeviceInfo> Devices
        {
            get
            {
                var devices = new DeviceInfo[DsoptNative.dsopt_device_count(Handle)];
                using (var raw = new dsopt_device_info())
                {
                    for (int i = 0; i < devices.Length; ++i)
                    {
                        Status.Check(DsoptNative.dsopt_device_get_info(Handle, (uint)i, raw));
                        devices[i] = new DeviceInfo(raw);
                    }
                }
                return devices;
            }
        }

        /// <summary>Several lines: what was found, which kernels were chosen and why, why a plugin was not
        /// used.</summary>
        public string Report
        {
            get
            {
                RuntimeHandle native = Handle;
                return Utf8.ReadText((buffer, capacity) => DsoptNative.runtime_report(native, buffer, capacity));
            }
        }

        /// <summary>Bytes of host memory that this runtime and all that it made hold; 0 unless
        /// <see cref="RuntimeOptions.HostMemoryLimit"/> was given.</summary>
        public long HostMemoryUsed
        {
            get { return Handle.IsClosed || memory == null ? 0 : (long)memory.used(); }
        }

        /// <summary>The most that <see cref="HostMemoryUsed"/> ever was.</summary>
        public long HostMemoryPeak
        {
            get { return Handle.IsClosed || memory == null ? 0 : (long)memory.peak(); }
        }

        internal RuntimeHandle Handle
        {
            get
            {
                Require.NotDisposed(handle, "Runtime");
                return handle;
            }
        }

        /// <summary>Loads a plugin from a file; its devices join the list.</summary>
        /// <param name="path">the file</param>
        public void LoadBackend(string path)
        {
            Status.Check(DsoptNative.dsopt_runtime_load_backend(Handle, Utf8.Terminated(path, "path")));
        }

        /// <summary>The best streaming read that a device can do: what decoding is measured against. Takes about a
        /// second.</summary>
        /// <param name="device">"cpu", "cuda:0"; null: "cpu"</param>
        /// <param name="bytes">memory to read, allocated for the measurement; 0: 1 GiB</param>
        /// <returns>bytes per second</returns>
        public double MeasureRead(string device = null, long bytes = 0)
        {
            Require.NotNegative(bytes, "bytes");
            double rate;
            Status.Check(DsoptNative.dsopt_device_measure_read(Handle, Utf8.TerminatedOrNull(device, "device"),
                                                               (ulong)bytes, out rate));
            return rate;
        }

        /// <summary>Opens a model file.</summary>
        /// <param name="path">a .dsopt file</param>
        /// <param name="options">device, limits, progress; null: defaults</param>
        /// <param name="cancellation">ends the loading with <see cref="DsoptCancelledException"/></param>
        public Model OpenModel(string path, ModelOptions options = null,
                               CancellationToken cancellation = default(CancellationToken))
        {
            byte[] utf8 = Utf8.Terminated(path, "path");
            return new ModelOpening(this, options, cancellation).FromPath(utf8);
        }

        /// <summary>Opens a model in memory. The array is pinned, not copied: do not change it before the model is
        /// loaded.</summary>
        /// <param name="bytes">the bytes of a .dsopt file</param>
        /// <param name="options">device, limits, progress; null: defaults</param>
        /// <param name="cancellation">ends the loading with <see cref="DsoptCancelledException"/></param>
        public Model OpenModel(byte[] bytes, ModelOptions options = null,
                               CancellationToken cancellation = default(CancellationToken))
        {
            if (bytes == null) throw new ArgumentNullException("bytes");
            return new ModelOpening(this, options, cancellation).FromMemory(bytes);
        }

        /// <summary>Opens a model that any seekable stream gives, such as an entry of a game's archive.</summary>
        /// <param name="source">read from position 0 to its end; the thread that loads reads it</param>
        /// <param name="options">device, limits, progress; null: defaults</param>
        /// <param name="leaveOpen">do not dispose of <paramref name="source"/> when it is no longer needed</param>
        /// <param name="cancellation">ends the loading with <see cref="DsoptCancelledException"/></param>
        /// <remarks>What the stream throws comes out of the call that loads.</remarks>
        public Model OpenModel(System.IO.Stream source, ModelOptions options = null, bool leaveOpen = false,
                               CancellationToken cancellation = default(CancellationToken))
        {
            if (source == null) throw new ArgumentNullException("source");
            if (!source.CanSeek)
                throw new ArgumentException("source: cannot seek, expected a seekable stream", "source");
            return new ModelOpening(this, options, cancellation).FromStream(source, leaveOpen);
        }

        /// <summary>Opens a model file on a thread of the pool.</summary>
        /// <param name="path">a .dsopt file</param>
        /// <param name="options">device, limits, progress; null: defaults</param>
        /// <param name="cancellation">cancels the task</param>
        public Task<Model> OpenModelAsync(string path, ModelOptions options = null,
                                          CancellationToken cancellation = default(CancellationToken))
        {
            if (path == null) throw new ArgumentNullException("path");
            Require.NotDisposed(handle, "Runtime");
            return Task.Run(() => OpenModel(path, options, cancellation), cancellation);
        }

        /// <summary>Releases the library. Models that are still open stay usable, without a log.</summary>
        public void Dispose()
        {
            handle.Dispose();
            ReleaseParts();
        }

        private void ReleaseParts()
        {
            if (logSink != SinkHandle.None) logSink.Dispose();
            if (memory != null) memory.Dispose();
        }
    }
}
