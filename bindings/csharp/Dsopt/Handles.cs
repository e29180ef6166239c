// Handles.cs - SafeHandles: a native object is released once, after the calls in progress on it, whoever drops it last
// and in whatever order. The library keeps parents alive as long as their children.
using System;
using System.Runtime.InteropServices;
using Dsopt.Raw;

namespace Dsopt
{
    internal abstract class NativeHandle : SafeHandle
    {
        protected NativeHandle(IntPtr native) : base(IntPtr.Zero, true)
        {
            SetHandle(native);
        }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }
    }

    internal sealed class RuntimeHandle : NativeHandle
    {
        public RuntimeHandle(IntPtr native) : base(native)
        {
        }

        protected override bool ReleaseHandle()
        {
            DsoptNative.release_runtime(handle);
            return true;
        }
    }

    internal sealed class ModelHandle : NativeHandle
    {
        public ModelHandle(IntPtr native) : base(native)
        {
        }

        protected override bool ReleaseHandle()
        {
            DsoptNative.release_model(handle);
            return true;
        }
    }

    internal sealed class SessionHandle : NativeHandle
    {
        public SessionHandle(IntPtr native) : base(native)
        {
        }

        protected override bool ReleaseHandle()
        {
            DsoptNative.release_session(handle);
            return true;
        }
    }

    internal sealed class StreamHandle : NativeHandle
    {
        public StreamHandle(IntPtr native) : base(native)
        {
        }

        protected override bool ReleaseHandle()
        {
            DsoptNative.release_stream(handle);
            return true;
        }
    }
}
