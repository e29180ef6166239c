"""Exceptions: one class per status code of the library, all of them DsoptError."""

import builtins


class DsoptError(Exception):
    """A call of the library failed.

    code         the number, dsopt_code of dsopt.h
    status_name  its name, such as "DSOPT_E_IO"
    message      one line: the thing, the value found and the value expected
    """

    code = -99
    status_name = "DSOPT_E_INTERNAL"

    def __init__(self, message=""):
        super().__init__(message)
        self.message = message

    def __str__(self):
        return f"{self.status_name}: {self.message}"


class InvalidArgumentError(DsoptError, ValueError):
    """An argument that no state of the object would accept."""

    code, status_name = -1, "DSOPT_E_INVALID_ARGUMENT"


class InvalidStateError(DsoptError):
    """The right call at the wrong moment, such as one on a closed object."""

    code, status_name = -2, "DSOPT_E_INVALID_STATE"


class OutOfMemoryError(DsoptError, MemoryError):
    """Host memory, or the limit of host_memory_limit."""

    code, status_name = -3, "DSOPT_E_OUT_OF_MEMORY"


class DeviceMemoryError(DsoptError, MemoryError):
    """Device memory, the session's cache, or max_device_bytes."""

    code, status_name = -4, "DSOPT_E_DEVICE_MEMORY"


class IoError(DsoptError, OSError):
    """Reading a file failed."""

    code, status_name = -5, "DSOPT_E_IO"


class CorruptError(DsoptError):
    """A file or buffer is malformed, or its checksum fails."""

    code, status_name = -6, "DSOPT_E_CORRUPT"


class UnsupportedError(DsoptError):
    """Valid, but not by this build or device."""

    code, status_name = -7, "DSOPT_E_UNSUPPORTED"


class VersionError(DsoptError):
    """A file or plugin is newer than this library."""

    code, status_name = -8, "DSOPT_E_VERSION"


class NotFoundError(DsoptError, LookupError):
    """No such file, device, or key."""

    code, status_name = -9, "DSOPT_E_NOT_FOUND"


class BufferTooSmallError(DsoptError):
    """A buffer of the caller is too small."""

    code, status_name = -10, "DSOPT_E_BUFFER_TOO_SMALL"


class CancelledError(DsoptError):
    """Something was cancelled or interrupted."""

    code, status_name = -11, "DSOPT_E_CANCELLED"


class TimeoutError(DsoptError, builtins.TimeoutError):
    """Nothing happened within the time given."""

    code, status_name = -12, "DSOPT_E_TIMEOUT"


class DeviceLostError(DsoptError):
    """The device is gone. Close every object that uses it."""

    code, status_name = -13, "DSOPT_E_DEVICE_LOST"


class BusyError(DsoptError):
    """Another thread is in a call on the same session."""

    code, status_name = -14, "DSOPT_E_BUSY"


class CallbackError(DsoptError):
    """A callback of the host failed."""

    code, status_name = -15, "DSOPT_E_CALLBACK"


class InternalError(DsoptError):
    """A defect of the library."""

    code, status_name = -99, "DSOPT_E_INTERNAL"


CLASSES = (
    InvalidArgumentError, InvalidStateError, OutOfMemoryError, DeviceMemoryError, IoError, CorruptError,
    UnsupportedError, VersionError, NotFoundError, BufferTooSmallError, CancelledError, TimeoutError,
    DeviceLostError, BusyError, CallbackError, InternalError)
BY_CODE = {cls.code: cls for cls in CLASSES}
BY_NAME = {cls.status_name: cls for cls in CLASSES}


def make(code, message):
    """The exception for a status. Native code calls this."""
    cls = BY_CODE.get(code)
    if cls is not None:
        return cls(message)
    error = DsoptError(message)
    error.code, error.status_name = code, f"DSOPT_E_{code}"  # of a newer library
    return error
