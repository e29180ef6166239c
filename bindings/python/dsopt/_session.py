"""Session: cache memory and the step loop of the streams of one model."""

import time

from . import _native
from ._convert import U64_MAX, integer, microseconds
from ._errors import TimeoutError
from ._handle import Handle
from ._stream import Stream
from ._types import PollResult, Precision, SessionMemory, SessionStats

_SLICE_US = 50_000  # native code sees no Ctrl-C: it returns this often


def _raw_options(*, max_streams=0, max_tokens=0, prefill_chunk=0, device_slice_us=0, kv_dtype=0,
                 precision=Precision.FAST, max_cache_bytes=0, max_device_bytes=0, max_host_cache_bytes=0):
    options = _native.dsopt_session_options()
    options.max_streams = integer("max_streams", max_streams)
    options.max_tokens = integer("max_tokens", max_tokens)
    options.prefill_chunk = integer("prefill_chunk", prefill_chunk)
    options.device_slice_us = integer("device_slice_us", device_slice_us)
    options.kv_dtype = integer("kv_dtype", kv_dtype, 0, 2**31 - 1)
    options.precision = integer("precision", precision, 0, 2**31 - 1)
    options.max_cache_bytes = integer("max_cache_bytes", max_cache_bytes, 0, U64_MAX)
    options.max_device_bytes = integer("max_device_bytes", max_device_bytes, 0, U64_MAX)
    options.max_host_cache_bytes = integer("max_host_cache_bytes", max_host_cache_bytes, 0, U64_MAX)
    return options


def plan(model, **options):
    """SessionMemory of Session(model, **options)."""
    raw = _native.dsopt_session_memory()
    _native.dsopt_session_plan(model._handle(), _raw_options(**options), raw)
    return SessionMemory(raw.page_tokens, raw.wanted_tokens, raw.tokens, raw.wanted_cache_bytes, raw.cache_bytes,
                         raw.workspace_bytes, raw.host_bytes, raw.device_free_bytes, raw.host_cache_bytes,
                         raw.host_tokens)


class Session(Handle):
    """Streams that are computed together. Nothing runs by itself: poll(), wait(), run() or iterating a stream does the
    work, on the calling thread. One call at a time, its streams included: a second thread gets BusyError.

    Made by Model.session()."""

    __slots__ = ("model",)

    def __init__(self, model, *, max_streams=0, max_tokens=0, prefill_chunk=0, device_slice_us=0, kv_dtype=0,
                 precision=Precision.FAST, max_cache_bytes=0, max_device_bytes=0, max_host_cache_bytes=0):
        options = _raw_options(max_streams=max_streams, max_tokens=max_tokens, prefill_chunk=prefill_chunk,
                               device_slice_us=device_slice_us, kv_dtype=kv_dtype, precision=precision,
                               max_cache_bytes=max_cache_bytes, max_device_bytes=max_device_bytes,
                               max_host_cache_bytes=max_host_cache_bytes)
        self.model = model
        self._raw = _native.session_create(model._handle(), options)

    def stream(self):
        """A new, empty Stream."""
        return Stream(self, _native.stream_create(self._handle()))

    def poll(self, budget):
        """Works for about budget (a timedelta or seconds), exceeded by at most about 0.3 ms, and never blocks on a
        device: what a frame or control loop calls. Returns a PollResult. What a callback raised comes out here."""
        return PollResult(*_native.session_poll(self._handle(), microseconds("budget", budget)))

    def wait(self, timeout=None):
        """Works until an event is ready or was delivered, or nothing generates. TimeoutError after timeout (a timedelta
        or seconds; None: never); CancelledError after interrupt()."""
        left_us = None if timeout is None else microseconds("timeout", timeout)
        while True:
            slice_us = _SLICE_US if left_us is None else min(left_us, _SLICE_US)
            started = time.monotonic()
            try:
                _native.dsopt_session_wait(self._handle(), slice_us)
                return
            except TimeoutError:
                if left_us is not None:
                    left_us -= min(left_us, max(slice_us, int((time.monotonic() - started) * 1e6)))
                    if left_us == 0:
                        raise

    def run(self):
        """Works until no stream generates. Events stay for Stream.read()."""
        while True:
            result = self.poll(_SLICE_US * 1e-6)
            if not result.pending:
                return
            if result.suggested_wait_us > 0:
                time.sleep(min(result.suggested_wait_us, 500) * 1e-6)

    def interrupt(self):
        """Makes a poll or wait in progress return within 2 ms, or the next one at once. From any thread."""
        if not self.closed:
            _native.dsopt_session_interrupt(self._handle())

    def trim(self):
        """Gives back memory that is not needed now; the cache stays."""
        _native.session_trim(self._handle())

    def set_cache_limit(self, size):
        """From now on the streams hold at most size bytes of cache, in whole pages; 0: all that the session was made
        with. Pages already held stay. A stream that needs one more page while the limit is reached ends with
        DeviceMemoryError and may go on when pages were given back; the others are not touched. stats.kv_tokens_total
        says what the limit allows."""
        _native.dsopt_session_set_cache_limit(self._handle(), integer("size", size, 0, U64_MAX))

    @property
    def stats(self):
        """SessionStats."""
        raw = _native.dsopt_session_stats()
        _native.dsopt_session_get_stats(self._handle(), raw)
        return SessionStats(raw.kv_tokens_used, raw.kv_tokens_total, raw.batches, raw.prefill_tokens, raw.prefill_us,
                            raw.decode_tokens, raw.decode_us, raw.host_bytes, raw.device_bytes,
                            raw.kv_host_tokens_used, raw.kv_host_tokens_total, raw.replayed_batches)
