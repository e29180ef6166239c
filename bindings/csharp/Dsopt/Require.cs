// Require.cs - checks of arguments that the native types cannot hold.
using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Dsopt
{
    internal static class Require
    {
        public static void NotNegative(long value, string name)
        {
            if (value >= 0) return;
            throw new ArgumentOutOfRangeException(name, value, name + ": " + value + ", expected 0 or more");
        }

        public static void NotDisposed(SafeHandle handle, string name)
        {
            if (handle.IsClosed) throw new ObjectDisposedException(name);
        }

        // Less than nothing is nothing, as what is left of a frame may be; Timeout.InfiniteTimeSpan is no limit.
        public static ulong Microseconds(TimeSpan time)
        {
            if (time == Timeout.InfiniteTimeSpan) return ulong.MaxValue;
            return time.Ticks <= 0 ? 0 : (ulong)time.Ticks / 10;
        }
    }
}
