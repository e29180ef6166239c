"""Stream: one sequence of tokens. Pieces: the text of one generation."""

import asyncio
import time

from . import _errors, _native
from ._callbacks import EventReceiver
from ._convert import encoded, integer, read_array, token_array
from ._handle import Handle
from ._options import request_of
from ._types import EventKind, Finish, event_of

_SLICE_US = 2000          # of work between two looks at the events
_LONGEST_SLEEP_S = 0.0005


def _sleep_s(suggested_wait_us):
    return min(suggested_wait_us * 1e-6, _LONGEST_SLEEP_S)


class Stream(Handle):
    """One sequence: append a prompt, generate, iterate.

        with model.session() as session, session.stream() as stream:
            stream.append("Once upon a time")
            stream.generate(max_tokens=64)
            for piece in stream:
                print(piece, end="", flush=True)

    Iterating drives the session, and may go on after a break. "async for" works in short slices on the event loop's own
    thread, so any number of tasks may iterate streams of one session. Made by Session.stream() and fork()."""

    __slots__ = ("_finish", "_receiver", "session")

    def __init__(self, session, raw):
        self.session = session
        self._raw = raw
        self._receiver = None
        self._finish = Finish.NONE

    # ---- prompt ----------------------------------------------------------------------------------

    def append(self, text, *, bos=None, special=False):
        """Appends text (a str or UTF-8 bytes). bos: begin token first; default: if the stream is empty. special: let
        text such as "<|eot|>" become a control token."""
        raw = self._handle()
        if bos is None:
            bos = _native.dsopt_stream_token_count(raw) == 0
        flags = ((_native.DSOPT_TOKENIZE_ADD_BOS if bos else 0)
                 | (_native.DSOPT_TOKENIZE_PARSE_SPECIAL if special else 0))
        _native.stream_append_text(raw, encoded("text", text), flags)

    def append_tokens(self, tokens):
        """Appends token ids."""
        _native.dsopt_stream_append_tokens(self._handle(), token_array("tokens", tokens))

    def rewind(self, count):
        """Drops everything after the first count tokens."""
        _native.dsopt_stream_rewind(self._handle(), integer("count", count, 0, 2**64 - 1))

    @property
    def token_count(self):
        """Tokens appended and sampled so far."""
        return _native.dsopt_stream_token_count(self._handle())

    @property
    def tokens(self):
        """All tokens, as a list."""
        raw = self._handle()
        call = lambda found: _native.stream_get_tokens(raw, 0, found)
        return read_array("i", _native.dsopt_stream_token_count(raw), call).tolist()

    # ---- generating ------------------------------------------------------------------------------

    def generate(self, *, on_event=None, **options):
        """Queues a generation; Session.poll, wait, run or iterating does it. It goes on only while this Stream is
        alive. Keywords, all optional:

        max_tokens        end after so many; default: an end token, the context length or the cache
        temperature       0: greedy. Without any sampling keyword the model file's defaults hold
        top_k, top_p, min_p, typical_p, top_n_sigma, seed      only together with temperature
        repeat_penalty, presence_penalty, frequency_penalty, penalty_window
        stop              a string or several; not part of the text
        stop_tokens       token ids that end it besides the model's own
        bias              {token: number added to its logit}; float("-inf") bans it
        ignore_eos        the model's end tokens do not end it
        priority          larger first
        logprobs          report the log probability of each token
        top_logprobs      0 .. 20: and of the most probable ones
        prefill_only      only bring the appended tokens into the cache
        score             also compute the log probability of each appended token: see logprobs()
        on_event          called with each Event inside poll, on the thread that polls; False cancels. An exception
                          cancels too, and comes out of the poll. Default: collect with read() or by iterating
        """
        if on_event is not None and not callable(on_event):
            raise _errors.InvalidArgumentError(f"on_event: {type(on_event).__name__}, expected a callable")
        request = request_of(options)
        receiver = EventReceiver(on_event) if on_event is not None else None
        _native.stream_generate(self._handle(), request, receiver)
        self._receiver = receiver  # the one before is called no more
        self._finish = Finish.NONE

    def cancel(self):
        """Ends the generation with Finish.CANCELLED within 2 ms of the poll in progress, else at the next one. From any
        thread; harmless when nothing generates."""
        if not self.closed:
            _native.dsopt_stream_cancel(self._handle())

    def read(self):
        """The next Event that was not read, or None. Does no work."""
        data = _native.stream_next(self._handle())
        if data is None:
            return None
        event = event_of(data)
        if event.kind != EventKind.TEXT:
            self._finish = event.finish if event.kind == EventKind.DONE else Finish.ERROR
        return event

    @property
    def finish(self):
        """Why the last generation whose end was read ended; Finish.NONE before."""
        return self._finish

    @property
    def error(self):
        """The DsoptError of the last generation, or None."""
        buffer = bytearray(1024)
        code = _native.stream_error(self._handle(), buffer)
        if code >= 0:
            return None
        return _errors.make(code, bytes(buffer).split(b"\0")[0].decode("utf-8", "replace"))

    def _next_read(self):
        """(piece or None, at the end). Raises if the generation failed."""
        while (event := self.read()) is not None:
            if event.kind == EventKind.ERROR:
                raise self.error or _errors.make(event.status, "the generation failed")
            if event.kind == EventKind.DONE:
                return None, True
            if event.text:
                return event.text, False
        return None, False

    def __iter__(self):
        return self

    def __next__(self):
        pending = True
        while True:
            piece, ended = self._next_read()
            if piece is not None:
                return piece
            if ended or not pending:
                raise StopIteration
            pending, *_, wait_us = _native.session_poll(self.session._handle(), _SLICE_US)
            if pending and wait_us > 0:
                time.sleep(_sleep_s(wait_us))

    def __aiter__(self):
        return self

    async def __anext__(self):
        pending = True
        while True:
            piece, ended = self._next_read()
            if piece is not None:
                return piece
            if ended or not pending:
                raise StopAsyncIteration
            pending, *_, wait_us = _native.session_poll(self.session._handle(), _SLICE_US)
            await asyncio.sleep(_sleep_s(wait_us) if pending else 0)

    # ---- state -------------------------------------------------------------------------------------

    def fork(self):
        """A new stream of the session with the same tokens, sharing this one's cache until either goes on."""
        return Stream(self.session, _native.stream_fork(self._handle()))

    def save(self):
        """Tokens and cache as one bytearray, for load() in any session of the same model file and kv_dtype."""
        raw, buffer = self._handle(), bytearray()
        while (length := _native.stream_save(raw, buffer)) > len(buffer):
            buffer = bytearray(length)
        return buffer

    def load(self, data):
        """Takes over what save() gave. A failed load leaves the stream as it was."""
        try:
            view = memoryview(data)
        except TypeError:
            raise _errors.InvalidArgumentError(
                f"data: {type(data).__name__}, expected an object with a buffer") from None
        _native.stream_load(self._handle(), view)

    def logits(self, out=None):
        """Logits that follow the last token, as float32 of the vocabulary's size, right after a generation has ended.
        Native code writes straight into the result: a numpy array, or an array.array where numpy is absent. out: a
        float32 buffer to fill and return instead."""
        raw = self._handle()
        count = _native.stream_get_logits(raw, bytearray())
        if out is None:
            out = _float_array(count)
        elif memoryview(out).format != "f":
            raise _errors.InvalidArgumentError(f"out: elements {memoryview(out).format!r}, expected float32")
        if (room := memoryview(out).nbytes // 4) < count:
            raise _errors.BufferTooSmallError(f"out: room for {room}, {count} needed")
        _native.stream_get_logits(raw, out)
        return out

    def logprobs(self, first=0):
        """log p(token | tokens before it) of each token from first on; nan where it was not computed."""
        raw, start = self._handle(), integer("first", first, 0, 2**64 - 1)
        left = max(0, _native.dsopt_stream_token_count(raw) - start)
        return read_array("f", left, lambda found: _native.stream_get_logprobs(raw, start, found)).tolist()


def _float_array(count):
    try:
        import numpy
    except ImportError:
        from array import array
        return array("f", bytes(4 * count))
    return numpy.empty(count, numpy.float32)


class Pieces:
    """The text of one generation as it appears: an iterator of str, also for "async for". It may be closed or dropped
    at any time."""

    __slots__ = ("__weakref__", "_stream", "finish")

    def __init__(self, stream):
        self._stream = stream
        self.finish = Finish.NONE

    def close(self):
        """Ends the generation. Harmless when it has ended."""
        self._stop()

    def cancel(self):
        """From any thread: the iteration ends soon, with Finish.CANCELLED."""
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def _stop(self):
        stream, self._stream = self._stream, None
        if stream is not None:
            self.finish = stream.finish
            self._ended(stream)

    def _ended(self, stream):
        stream.close()
        stream.session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        if self._stream is None:
            raise StopIteration
        try:
            return next(self._stream)
        except BaseException:
            self._stop()
            raise

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._stream is None:
            raise StopAsyncIteration
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._stop()
            raise
