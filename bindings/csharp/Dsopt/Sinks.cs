// Sinks.cs - the way of a callback from native code to a managed object. Native code knows a static function and a key;
// the key is a weak handle, so that a callback never keeps its receiver alive and never reaches one that is gone. No
// exception leaves these functions: they would unwind native frames.
using System;
using System.Runtime.InteropServices;
using Dsopt.Raw;

namespace Dsopt
{
    // Unity's ahead-of-time compiler knows functions that native code may call by an attribute of this name.
    [AttributeUsage(AttributeTargets.Method)]
    internal sealed class MonoPInvokeCallbackAttribute : Attribute
    {
        public MonoPInvokeCallbackAttribute(Type type)
        {
        }
    }

    // Receivers catch what their host's code throws, and keep it for the call that led here.
    internal interface IEventReceiver
    {
        bool OnEvent(NativeEvent raw); // false: cancel
    }

    internal interface ILogReceiver
    {
        void OnLog(int level, string component, string message);
    }

    internal interface IProgressReceiver
    {
        bool OnProgress(float progress); // false: cancel
    }

    internal interface IReadReceiver
    {
        bool OnRead(IntPtr source, ulong offset, ulong length); // false: the read failed
        void OnClose();
    }

    // A native sink. After its release no callback reaches the receiver any more.
    internal sealed class SinkHandle : SafeHandle
    {
        public static readonly SinkHandle None = new SinkHandle();

        private GCHandle key;

        private SinkHandle() : base(IntPtr.Zero, true)
        {
        }

        private SinkHandle(object receiver, Func<IntPtr, IntPtr> make) : base(IntPtr.Zero, true)
        {
            key = GCHandle.Alloc(receiver, GCHandleType.Weak);
            IntPtr sink = make(GCHandle.ToIntPtr(key));
            if (sink == IntPtr.Zero)
            {
                key.Free();
                throw new OutOfMemoryException();
            }
            SetHandle(sink);
        }

        public static SinkHandle Of(IEventReceiver receiver)
        {
            return new SinkHandle(receiver, key => DsoptNative.new_event_sink(Trampolines.Event, key));
        }

        public static SinkHandle Of(ILogReceiver receiver)
        {
            return new SinkHandle(receiver, key => DsoptNative.new_log_sink(Trampolines.Log, key));
        }

        public static SinkHandle Of(IProgressReceiver receiver)
        {
            return new SinkHandle(receiver, key => DsoptNative.new_progress_sink(Trampolines.Progress, key));
        }

        public static SinkHandle Of(IReadReceiver receiver)
        {
            return new SinkHandle(receiver, key => DsoptNative.new_io_sink(Trampolines.Read, Trampolines.Close, key));
        }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }

        protected override bool ReleaseHandle()
        {
            DsoptNative.retire_sink(handle); // waits for calls of other threads
            key.Free();
            return true;
        }
    }

    internal static class Trampolines
    {
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate int EventFunction(IntPtr key, IntPtr nativeEvent);

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate void LogFunction(IntPtr key, int level, IntPtr component, IntPtr message);

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate int ProgressFunction(IntPtr key, float progress);

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate int ReadFunction(IntPtr key, IntPtr source, ulong offset, ulong length);

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate void CloseFunction(IntPtr key);

        // In static fields, so that the collector never takes what native code points at.
        private static readonly EventFunction EventDelegate = OnEvent;
        private static readonly LogFunction LogDelegate = OnLog;
        private static readonly ProgressFunction ProgressDelegate = OnProgress;
        private static readonly ReadFunction ReadDelegate = OnRead;
        private static readonly CloseFunction CloseDelegate = OnClose;

        public static readonly IntPtr Event = Marshal.GetFunctionPointerForDelegate(EventDelegate);
        public static readonly IntPtr Log = Marshal.GetFunctionPointerForDelegate(LogDelegate);
        public static readonly IntPtr Progress = Marshal.GetFunctionPointerForDelegate(ProgressDelegate);
        public static readonly IntPtr Read = Marshal.GetFunctionPointerForDelegate(ReadDelegate);
        public static readonly IntPtr Close = Marshal.GetFunctionPointerForDelegate(CloseDelegate);

        private const int Continue = 0;
        private const int Cancel = 1;

        [MonoPInvokeCallback(typeof(EventFunction))]
        private static int OnEvent(IntPtr key, IntPtr nativeEvent)
        {
            try
            {
                var receiver = (IEventReceiver)GCHandle.FromIntPtr(key).Target;
                return receiver != null && receiver.OnEvent(new NativeEvent(nativeEvent, false)) ? Continue : Cancel;
            }
            catch (Exception)
            {
                return Cancel;
            }
        }

        [MonoPInvokeCallback(typeof(LogFunction))]
        private static void OnLog(IntPtr key, int level, IntPtr component, IntPtr message)
        {
            try
            {
                var receiver = (ILogReceiver)GCHandle.FromIntPtr(key).Target;
                if (receiver != null) receiver.OnLog(level, Utf8.Read(component), Utf8.Read(message));
            }
            catch (Exception)
            {
                // The line is lost: there is no call that could throw it.
            }
        }

        [MonoPInvokeCallback(typeof(ProgressFunction))]
        private static int OnProgress(IntPtr key, float progress)
        {
            try
            {
                var receiver = (IProgressReceiver)GCHandle.FromIntPtr(key).Target;
                return receiver != null && receiver.OnProgress(progress) ? Continue : Cancel;
            }
            catch (Exception)
            {
                return Cancel;
            }
        }

        [MonoPInvokeCallback(typeof(ReadFunction))]
        private static int OnRead(IntPtr key, IntPtr source, ulong offset, ulong length)
        {
            try
            {
                var receiver = (IReadReceiver)GCHandle.FromIntPtr(key).Target;
                return receiver != null && receiver.OnRead(source, offset, length) ? Continue : Cancel;
            }
            catch (Exception)
            {
                return Cancel;
            }
        }

        [MonoPInvokeCallback(typeof(CloseFunction))]
        private static void OnClose(IntPtr key)
        {
            try
            {
                var receiver = (IReadReceiver)GCHandle.FromIntPtr(key).Target;
                if (receiver != null) receiver.OnClose();
            }
            catch (Exception)
            {
                // Closing a source is best effort.
            }
        }
    }
}
