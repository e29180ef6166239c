// ModelOpening.cs - one opening of a model: what the native library may still need of the host while it loads.
using System;
using System.Runtime.InteropServices;
using System.Threading;
using Dsopt.Raw;

namespace Dsopt
{
    // Becomes part of the Model. Release() when the weights are complete or the model goes.
    internal sealed class ModelOpening
    {
        public readonly PendingExceptions Thrown = new PendingExceptions();

        private readonly Runtime runtime;
        private readonly ModelOptions options;
        private readonly byte[] device;
        private readonly CancellationToken cancellation;
        private readonly ProgressReceiver progress; // kept alive here; the sinks know their receivers weakly
        private readonly SinkHandle progressSink;
        private SourceReader source;
        private SinkHandle sourceSink;
        private GCHandle pin;

        public ModelOpening(Runtime runtime, ModelOptions options, CancellationToken cancellation)
        {
            this.runtime = runtime;
            this.options = options ?? new ModelOptions();
            this.cancellation = cancellation;
            Require.NotNegative(this.options.MaxDeviceBytes, "options.MaxDeviceBytes");
            device = Utf8.TerminatedOrNull(this.options.Device, "options.Device");
            if (cancellation.IsCancellationRequested)
                throw new DsoptCancelledException("model: loading was cancelled before it began", cancellation);
            bool watched = this.options.Progress != null || cancellation.CanBeCanceled;
            progress = watched ? new ProgressReceiver(this.options.Progress, cancellation, Thrown) : null;
            progressSink = watched ? SinkHandle.Of(progress) : SinkHandle.None;
        }

        // Of a lazy model that nobody disposed of: its native half is gone or going, and reads nothing any more.
        ~ModelOpening()
        {
            if (pin.IsAllocated) pin.Free();
        }

        private ulong MaxDeviceBytes
        {
            get { return (ulong)options.MaxDeviceBytes; }
        }

        public Model FromPath(byte[] path)
        {
            return Finish(() => DsoptNative.model_open(runtime.Handle, path, options.Flags, device, MaxDeviceBytes,
                                                       progressSink));
        }

        public Model FromMemory(byte[] bytes)
        {
            pin = GCHandle.Alloc(bytes, GCHandleType.Pinned);
            return Finish(() => DsoptNative.model_open_memory(runtime.Handle, pin.AddrOfPinnedObject(),
                                                              (ulong)bytes.LongLength, options.Flags, device,
                                                              MaxDeviceBytes, progressSink));
        }

        public Model FromStream(System.IO.Stream stream, bool leaveOpen)
        {
            source = new SourceReader(stream, leaveOpen, Thrown);
            sourceSink = SinkHandle.Of(source);
            return Finish(() => DsoptNative.model_open_io(runtime.Handle, sourceSink, (ulong)stream.Length,
                                                          options.Flags, device, MaxDeviceBytes, progressSink));
        }

        public void Release()
        {
            if (progressSink != SinkHandle.None) progressSink.Dispose();
            if (sourceSink != null) sourceSink.Dispose();
            if (source != null) source.OnClose();
            if (pin.IsAllocated) pin.Free();
        }

        // The host's own exception goes before the status that it led to.
        public Exception Failure(Exception status)
        {
            try
            {
                Thrown.Rethrow();
            }
            catch (Exception thrown)
            {
                return thrown;
            }
            if (status is DsoptCancelledException && cancellation.IsCancellationRequested)
                return new DsoptCancelledException(status.Message, cancellation);
            return status;
        }

        private Model Finish(Func<IntPtr> open)
        {
            ModelHandle handle = null;
            try
            {
                handle = new ModelHandle(open());
                if (handle.IsInvalid) throw Status.Last(DsoptNative.raw_status());
                if (!options.Lazy) Release();
                return new Model(runtime, handle, this, options.Lazy);
            }
            catch (Exception e)
            {
                if (handle != null) handle.Dispose();
                Release();
                Exception failure = Failure(e);
                if (failure == e) throw;
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(failure).Throw();
                throw;
            }
        }
    }

    // A System.IO.Stream as the library's byte source.
    internal sealed class SourceReader : IReadReceiver
    {
        private const int BufferBytes = 256 * 1024;

        private readonly System.IO.Stream stream;
        private readonly bool leaveOpen;
        private readonly PendingExceptions thrown;
        private readonly byte[] buffer = new byte[BufferBytes];
        private int closed;

        public SourceReader(System.IO.Stream stream, bool leaveOpen, PendingExceptions thrown)
        {
            this.stream = stream;
            this.leaveOpen = leaveOpen;
            this.thrown = thrown;
        }

        public bool OnRead(IntPtr native, ulong offset, ulong length)
        {
            try
            {
                stream.Seek((long)offset, System.IO.SeekOrigin.Begin);
                while (length > 0)
                {
                    int wanted = (int)Math.Min(length, BufferBytes);
                    int got = stream.Read(buffer, 0, wanted);
                    if (got <= 0)
                    {
                        throw new System.IO.EndOfStreamException("source: ended at " + stream.Position + ", " + length +
                                                                 " more bytes expected");
                    }
                    if (!DsoptNative.fill_io(native, buffer, (ulong)got)) return false;
                    length -= (ulong)got;
                }
                return true;
            }
            catch (Exception e)
            {
                thrown.Add(e);
                return false;
            }
        }

        public void OnClose()
        {
            if (Interlocked.Exchange(ref closed, 1) == 0 && !leaveOpen) stream.Dispose();
        }
    }
}
