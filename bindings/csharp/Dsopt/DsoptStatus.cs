// DsoptStatus.cs - why a call failed, as a number. Names and values are those of dsopt_code in dsopt.h.
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>What a call of the library came to: the <c>Code</c> of every exception that it raises.</summary>
    public enum DsoptStatus
    {
        /// <summary>The call succeeded.</summary>
        Ok = dsopt_code.DSOPT_OK,
        /// <summary>Not finished yet: call again.</summary>
        Pending = dsopt_code.DSOPT_PENDING,
        /// <summary>An argument has a value that is not allowed.</summary>
        InvalidArgument = dsopt_code.DSOPT_E_INVALID_ARGUMENT,
        /// <summary>The right call at the wrong moment.</summary>
        InvalidState = dsopt_code.DSOPT_E_INVALID_STATE,
        /// <summary>Host memory is exhausted, or the runtime's limit is reached.</summary>
        OutOfMemory = dsopt_code.DSOPT_E_OUT_OF_MEMORY,
        /// <summary>Device memory, cache pages or a cap in bytes are exhausted.</summary>
        DeviceMemory = dsopt_code.DSOPT_E_DEVICE_MEMORY,
        /// <summary>Reading or writing failed.</summary>
        IO = dsopt_code.DSOPT_E_IO,
        /// <summary>The file or buffer is malformed, or its checksum fails.</summary>
        Corrupt = dsopt_code.DSOPT_E_CORRUPT,
        /// <summary>Valid, but not by this build or device.</summary>
        Unsupported = dsopt_code.DSOPT_E_UNSUPPORTED,
        /// <summary>The file or plugin is newer than this library.</summary>
        Version = dsopt_code.DSOPT_E_VERSION,
        /// <summary>There is no such file, device, key or template.</summary>
        NotFound = dsopt_code.DSOPT_E_NOT_FOUND,
        /// <summary>The buffer is too small for the result.</summary>
        BufferTooSmall = dsopt_code.DSOPT_E_BUFFER_TOO_SMALL,
        /// <summary>The work was cancelled.</summary>
        Cancelled = dsopt_code.DSOPT_E_CANCELLED,
        /// <summary>The time allowed is over.</summary>
        Timeout = dsopt_code.DSOPT_E_TIMEOUT,
        /// <summary>The device is gone; dispose of every object on it.</summary>
        DeviceLost = dsopt_code.DSOPT_E_DEVICE_LOST,
        /// <summary>Another thread is inside a call on this object that must be alone.</summary>
        Busy = dsopt_code.DSOPT_E_BUSY,
        /// <summary>A callback of the host failed.</summary>
        Callback = dsopt_code.DSOPT_E_CALLBACK,
        /// <summary>A defect of the library.</summary>
        Internal = dsopt_code.DSOPT_E_INTERNAL,
    }
}
