// Status.cs - turns what raw calls return into exceptions, on the thread that made the call, which is where the library
// keeps the message.
using System;
using System.Threading;
using Dsopt.Raw;

namespace Dsopt
{
    internal static class Status
    {
        // true: finished; false: DSOPT_PENDING.
        public static bool Check(int status)
        {
            if (status < 0) throw Last(status);
            return status == (int)DsoptStatus.Ok;
        }

        // A dsopt_length: the length or count, which fits an int or cannot be had as an array.
        public static int CheckLength(long length)
        {
            if (length < 0) throw Last((int)length);
            if (length > int.MaxValue)
            {
                throw new DsoptUnsupportedException("result: " + length + " elements, at most " + int.MaxValue +
                                                    " fit an array");
            }
            return (int)length;
        }

        // A handle that a raw call returned.
        public static IntPtr CheckHandle(IntPtr handle)
        {
            if (handle == IntPtr.Zero) throw Last(DsoptNative.raw_status());
            return handle;
        }

        // The exception of the raw call that the calling thread made last.
        public static Exception Last(int status)
        {
            return Make(status, Utf8.Read(DsoptNative.raw_error()), CancellationToken.None);
        }

        public static Exception Make(int status, string message, CancellationToken cancellation)
        {
            switch ((DsoptStatus)status)
            {
                case DsoptStatus.InvalidArgument: return new DsoptInvalidArgumentException(message);
                case DsoptStatus.InvalidState: return new DsoptInvalidStateException(message);
                case DsoptStatus.OutOfMemory: return new DsoptOutOfMemoryException(message);
                case DsoptStatus.DeviceMemory: return new DsoptDeviceMemoryException(message);
                case DsoptStatus.IO: return new DsoptIOException(message);
                case DsoptStatus.Corrupt: return new DsoptCorruptException(message);
                case DsoptStatus.Unsupported: return new DsoptUnsupportedException(message);
                case DsoptStatus.Version: return new DsoptVersionException(message);
                case DsoptStatus.NotFound: return new DsoptNotFoundException(message);
                case DsoptStatus.Cancelled: return new DsoptCancelledException(message, cancellation);
                case DsoptStatus.Timeout: return new DsoptTimeoutException(message);
                case DsoptStatus.DeviceLost: return new DsoptDeviceLostException(message);
                case DsoptStatus.Busy: return new DsoptBusyException(message);
                case DsoptStatus.Callback: return new DsoptCallbackException(message);
                default: return new DsoptException((DsoptStatus)status, message);
            }
        }
    }
}
