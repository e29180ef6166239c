"""Runtime: threads, devices, log and memory that models share."""

import logging
import threading

from . import _native
from ._callbacks import LogReceiver
from ._convert import U64_MAX, c_string, integer, optional_c_string, path, read_text
from ._errors import InvalidArgumentError
from ._handle import Handle
from ._types import DeviceInfo, DeviceKind

_LOG_LEVELS = ((logging.ERROR, 1), (logging.WARNING, 2), (logging.INFO, 3), (logging.DEBUG, 4))


def _log_level(level):
    """Of logging's levels the library's least verbose one that still holds it."""
    integer("log_level", level, 0)
    for name, native in _LOG_LEVELS:
        if level >= name:
            return native
    return 4


class Runtime(Handle):
    """The root object. Most programs need none: a Model without runtime= uses default_runtime().

    cpu_threads        compute threads including the caller; 0: all cores
    log                a logging.Logger, a callable (level, component, message), or None: silent. It runs on any thread
    log_level          of the logging module; default WARNING
    host_memory_limit  bytes of host memory for this runtime and all that is made from it; above it calls raise
                       OutOfMemoryError. 0: only count. None: the library's own allocator
    backend_path       folder of plugins such as libdsopt_cuda.so; default: the one of libdsopt.so
    scan_backends      False: only load_backend() loads plugins
    cpu_variant        "scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16": use at most
                       this one
    """

    __slots__ = ("_log", "_memory")

    def __init__(self, *, cpu_threads=0, log=None, log_level=logging.WARNING, host_memory_limit=None,
                 backend_path=None, scan_backends=True, cpu_variant=None):
        if log is not None and not isinstance(log, logging.Logger) and not callable(log):
            raise InvalidArgumentError(f"log: {type(log).__name__}, expected a logging.Logger or a callable")
        self._log = LogReceiver(log) if log is not None else None
        self._memory = None
        if host_memory_limit is not None:
            self._memory = _native.HostMemory(integer("host_memory_limit", host_memory_limit, 0, U64_MAX))
        self._raw = _native.runtime_create(
            integer("cpu_threads", cpu_threads), _log_level(log_level), self._log, self._memory, bool(scan_backends),
            path("backend_path", backend_path), optional_c_string("cpu_variant", cpu_variant))

    @property
    def devices(self):
        """List of DeviceInfo, in the order in which they are preferred."""
        raw, devices = self._handle(), []
        for index in range(_native.dsopt_device_count(raw)):
            info = _native.dsopt_device_info()
            _native.dsopt_device_get_info(raw, index, info)
            devices.append(DeviceInfo(
                DeviceKind(info.kind), info.id, info.name, info.arch, info.multiprocessors, info.memory_total,
                info.memory_free, info.preferred_rows))
        return devices

    @property
    def report(self):
        """Lines of text: what was found, which kernels were chosen and why, why a plugin was not used."""
        return read_text(lambda buffer: _native.runtime_report(self._handle(), buffer)).decode("utf-8", "replace")

    @property
    def host_memory_used(self):
        """Bytes in use now, or None without host_memory_limit."""
        return self._memory.used() if self._memory is not None else None

    @property
    def host_memory_peak(self):
        """Most bytes that were in use, or None without host_memory_limit."""
        return self._memory.peak() if self._memory is not None else None

    def load_backend(self, file):
        """Loads a plugin from an explicit file; its devices are appended to the list."""
        _native.dsopt_runtime_load_backend(self._handle(), path("file", file))

    def measure_read(self, device="cpu", size=0):
        """Bytes per second that the device can stream, over size bytes of memory (0: 1 GiB). Takes about a second."""
        result = _native.dsopt_device_measure_read(
            self._handle(), c_string("device", device), integer("size", size, 0, U64_MAX))
        return result[-1]


_default_lock = threading.Lock()
_default = None


def default_runtime():
    """The runtime of models that name none: all cores, warnings to the logger "dsopt". Made at its first use; a new one
    if it was closed."""
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Runtime(log=logging.getLogger("dsopt"))
        return _default
