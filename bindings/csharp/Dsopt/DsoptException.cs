// DsoptException.cs - one exception class per status code. Status.cs makes them.
using System;
using System.Threading;

namespace Dsopt
{
    /// <summary>What all exceptions of this library have in common.</summary>
    /// <remarks><see cref="DsoptCancelledException"/> is an <see cref="OperationCanceledException"/>, as tasks and
    /// hosts expect of a cancellation; all others are <see cref="DsoptException"/>.</remarks>
    public interface IDsoptError
    {
        /// <summary>Why the call failed.</summary>
        DsoptStatus Code { get; }
        /// <summary>The library's one-line message: the thing, the value found and the value expected.</summary>
        string Message { get; }
    }

    /// <summary>A call of the library failed. Its objects are as they were before the call.</summary>
    public class DsoptException : Exception, IDsoptError
    {
        /// <summary>Makes the exception of a status code.</summary>
        /// <param name="code">why the call failed</param>
        /// <param name="message">the library's message</param>
        public DsoptException(DsoptStatus code, string message) : base(message)
        {
            Code = code;
        }

        /// <inheritdoc/>
        public DsoptStatus Code { get; private set; }
    }

    /// <summary>The work was cancelled: by a <see cref="CancellationToken"/>, by <see cref="Model.Cancel"/> or
    /// <see cref="Session.Interrupt"/>, or by a callback.</summary>
    public sealed class DsoptCancelledException : OperationCanceledException, IDsoptError
    {
        internal DsoptCancelledException(string message, CancellationToken cancellation) : base(message, cancellation)
        {
        }

        /// <summary>Always <see cref="DsoptStatus.Cancelled"/>.</summary>
        public DsoptStatus Code
        {
            get { return DsoptStatus.Cancelled; }
        }
    }

    /// <summary>An argument has a value that is not allowed.</summary>
    public sealed class DsoptInvalidArgumentException : DsoptException
    {
        internal DsoptInvalidArgumentException(string message) : base(DsoptStatus.InvalidArgument, message)
        {
        }
    }

    /// <summary>The right call at the wrong moment, such as appending while generating.</summary>
    public sealed class DsoptInvalidStateException : DsoptException
    {
        internal DsoptInvalidStateException(string message) : base(DsoptStatus.InvalidState, message)
        {
        }
    }

    /// <summary>Host memory is exhausted, or <see cref="RuntimeOptions.HostMemoryLimit"/> is reached.</summary>
    public sealed class DsoptOutOfMemoryException : DsoptException
    {
        internal DsoptOutOfMemoryException(string message) : base(DsoptStatus.OutOfMemory, message)
        {
        }
    }

    /// <summary>Device memory, cache pages or a cap in bytes are exhausted.</summary>
    public sealed class DsoptDeviceMemoryException : DsoptException
    {
        internal DsoptDeviceMemoryException(string message) : base(DsoptStatus.DeviceMemory, message)
        {
        }
    }

    /// <summary>Reading or writing failed.</summary>
    public sealed class DsoptIOException : DsoptException
    {
        internal DsoptIOException(string message) : base(DsoptStatus.IO, message)
        {
        }
    }

    /// <summary>The file or buffer is malformed, or its checksum fails.</summary>
    public sealed class DsoptCorruptException : DsoptException
    {
        internal DsoptCorruptException(string message) : base(DsoptStatus.Corrupt, message)
        {
        }
    }

    /// <summary>Valid, but not by this build or device.</summary>
    public sealed class DsoptUnsupportedException : DsoptException
    {
        internal DsoptUnsupportedException(string message) : base(DsoptStatus.Unsupported, message)
        {
        }
    }

    /// <summary>The file or plugin is newer than this library.</summary>
    public sealed class DsoptVersionException : DsoptException
    {
        internal DsoptVersionException(string message) : base(DsoptStatus.Version, message)
        {
        }
    }

    /// <summary>There is no such file, device, key or template.</summary>
    public sealed class DsoptNotFoundException : DsoptException
    {
        internal DsoptNotFoundException(string message) : base(DsoptStatus.NotFound, message)
        {
        }
    }

    /// <summary>The time allowed is over.</summary>
    public sealed class DsoptTimeoutException : DsoptException
    {
        internal DsoptTimeoutException(string message) : base(DsoptStatus.Timeout, message)
        {
        }
    }

    /// <summary>The device is gone; dispose of every object on it.</summary>
    public sealed class DsoptDeviceLostException : DsoptException
    {
        internal DsoptDeviceLostException(string message) : base(DsoptStatus.DeviceLost, message)
        {
        }
    }

    /// <summary>Another thread is inside a call on this object that must be alone.</summary>
    public sealed class DsoptBusyException : DsoptException
    {
        internal DsoptBusyException(string message) : base(DsoptStatus.Busy, message)
        {
        }
    }

    /// <summary>A callback of the host failed without an exception of its own.</summary>
    public sealed class DsoptCallbackException : DsoptException
    {
        internal DsoptCallbackException(string message) : base(DsoptStatus.Callback, message)
        {
        }
    }
}
