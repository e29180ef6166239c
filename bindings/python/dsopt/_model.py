"""Model: a .dsopt file, its text functions, and the short way to generate."""

from . import _native
from ._callbacks import FileReceiver, ProgressReceiver
from ._convert import (U64_MAX, c_string, chat_messages, encoded, integer, microseconds, optional_c_string, path,
                       read_array, read_text, token_array)
from ._errors import InvalidArgumentError, NotFoundError
from ._handle import Handle
from ._runtime import Runtime, default_runtime
from ._session import Session, plan
from ._stream import Pieces
from ._types import ModelInfo, Precision

_DEFAULT_MAX_TOKENS = 256


class Model(Handle):
    """A model, loaded from a file.

    path              the .dsopt file
    runtime           default: default_runtime()
    device            "cpu", "cuda:0": this one or an error. Default: the best device with room
    max_device_bytes  most memory for the weights, else DeviceMemoryError; 0: no limit
    verify            also check the checksums of the decoded weights
    metadata_only     no weights: info, metadata and text functions only
    lazy              return at once; poll() loads
    mmap              map the file instead of reading it. A file that others cut short while it loads ends the process
    progress          called with 0.0 .. 1.0 while it loads; False cancels, which raises CancelledError

    Model.from_memory and Model.from_file take the bytes from elsewhere. Close it, or use it in a with statement.
    """

    __slots__ = ("_progress", "_source", "runtime")

    def __init__(self, path, *, runtime=None, device=None, max_device_bytes=0, verify=False, metadata_only=False,
                 lazy=False, mmap=False, progress=None):
        flags = _flags(verify, metadata_only, lazy) | (_native.DSOPT_MODEL_MMAP if mmap else 0)
        self._open(_native.model_open, (_path(path),), flags, runtime, device, max_device_bytes, progress)

    @classmethod
    def from_memory(cls, data, *, runtime=None, device=None, max_device_bytes=0, verify=False, metadata_only=False,
                    lazy=False, progress=None):
        """A model whose file is in an object with a buffer, such as bytes or a mmap. The object is held, not copied,
        until the model has loaded."""
        with _buffer(data):
            pass
        model = cls.__new__(cls)
        model._open(_native.model_open_buffer, (data,), _flags(verify, metadata_only, lazy), runtime, device,
                    max_device_bytes, progress)
        return model

    @classmethod
    def from_file(cls, file, *, size=None, runtime=None, device=None, max_device_bytes=0, verify=False,
                  metadata_only=False, lazy=False, progress=None):
        """A model read from a binary file object with seek and read, for instance out of an archive. size: default, its
        end. The object has to stay open until the model has loaded."""
        if size is None:
            size = file.seek(0, 2)
        model = cls.__new__(cls)
        model._source = FileReceiver(file)
        model._open(_native.model_open_io, (model._source, integer("size", size, 0, U64_MAX)),
                    _flags(verify, metadata_only, lazy), runtime, device, max_device_bytes, progress)
        return model

    def _open(self, call, source, flags, runtime, device, max_device_bytes, progress):
        if runtime is not None and not isinstance(runtime, Runtime):
            raise InvalidArgumentError(f"runtime: {type(runtime).__name__}, expected a dsopt.Runtime")
        if progress is not None and not callable(progress):
            raise InvalidArgumentError(f"progress: {type(progress).__name__}, expected a callable")
        self.runtime = runtime if runtime is not None else default_runtime()
        self._source = getattr(self, "_source", None)
        self._progress = ProgressReceiver(progress) if progress is not None else None
        self._raw = call(self.runtime._handle(), *source, flags, optional_c_string("device", device),
                         integer("max_device_bytes", max_device_bytes, 0, U64_MAX), self._progress)

    # ---- loading and facts -----------------------------------------------------------------------

    def poll(self, budget):
        """Loads a lazy model for about budget (a timedelta or seconds). The progress, 1.0 when it has loaded. A failure
        is final."""
        finished, progress = _native.dsopt_model_poll(self._handle(), microseconds("budget", budget))
        return 1.0 if finished else min(progress, 0.999999)

    def cancel(self):
        """Makes a load in progress raise CancelledError within 2 ms. From any thread; without effect once loaded."""
        if not self.closed:
            _native.dsopt_model_cancel(self._handle())

    @property
    def info(self):
        """ModelInfo."""
        info = _native.dsopt_model_info()
        _native.dsopt_model_get_info(self._handle(), info)
        bos, eos, pad = (token if token >= 0 else None for token in (info.bos, info.eos, info.pad))
        return ModelInfo(info.architecture, info.vocab_size, info.context_length, info.layer_count,
                         info.parameter_count, info.weight_bytes, info.kv_bytes_per_token, bos, eos, pad,
                         bool(info.loaded), info.device)

    def metadata(self, key, default=None):
        """A free-form entry of the file, such as "license" or "source"; default if it has none of that name."""
        try:
            return self.get_metadata(key)
        except NotFoundError:
            return default

    def get_metadata(self, key):
        """Like metadata(), but a missing entry raises NotFoundError."""
        name = c_string("key", key)
        found = read_text(lambda buffer: _native.model_get_metadata(self._handle(), name, buffer))
        return found.decode("utf-8", "replace")

    # ---- text --------------------------------------------------------------------------------------

    def tokenize(self, text, *, bos=False, special=False):
        """Token ids of a str or of UTF-8 bytes. bos: begin token first, if the model has one. special: let text such as
        "<|eot|>" become a control token."""
        data = encoded("text", text)
        flags = ((_native.DSOPT_TOKENIZE_ADD_BOS if bos else 0)
                 | (_native.DSOPT_TOKENIZE_PARSE_SPECIAL if special else 0))
        found = read_array("i", len(data) + 8, lambda tokens: _native.tokenize(self._handle(), data, flags, tokens))
        return found.tolist()

    def detokenize(self, tokens, *, skip_special=False):
        """Text of token ids. A byte sequence that is no UTF-8 becomes U+FFFD."""
        return self.detokenize_bytes(tokens, skip_special=skip_special).decode("utf-8", "replace")

    def detokenize_bytes(self, tokens, *, skip_special=False):
        """Exact bytes of token ids."""
        ids = token_array("tokens", tokens)
        flags = _native.DSOPT_DETOKENIZE_SKIP_SPECIAL if skip_special else 0
        return read_text(lambda buffer: _native.detokenize(self._handle(), ids, flags, buffer))

    def format_chat(self, messages, *, add_prompt=True):
        """Text of a chat by the model's template, to be tokenized with special=True. messages: a str (one user turn),
        or Messages, mappings or (role, content) pairs. NotFoundError if the model has no template."""
        raw = chat_messages(messages)
        flags = _native.DSOPT_CHAT_ADD_PROMPT if add_prompt else 0
        return read_text(lambda buffer: _native.chat_format(self._handle(), raw, flags, buffer)).decode()

    # ---- generating ----------------------------------------------------------------------------------

    def session(self, *, max_streams=0, max_tokens=0, prefill_chunk=0, device_slice_us=0, kv_dtype=0,
                precision=Precision.FAST, max_cache_bytes=0, max_device_bytes=0, max_host_cache_bytes=0):
        """A Session: cache for max_tokens tokens (0: the context length), and max_streams streams in one batch.
        max_cache_bytes caps the cache's device memory (0: no cap): with max_tokens 0 the session gets as many tokens as
        fit; max_tokens that do not fit raise DeviceMemoryError. max_device_bytes caps the weights and the session
        together. max_host_cache_bytes permits so much pinned host memory for what has no room on a GPU, which reads it
        there, slower."""
        return Session(self, max_streams=max_streams, max_tokens=max_tokens, prefill_chunk=prefill_chunk,
                       device_slice_us=device_slice_us, kv_dtype=kv_dtype, precision=precision,
                       max_cache_bytes=max_cache_bytes, max_device_bytes=max_device_bytes,
                       max_host_cache_bytes=max_host_cache_bytes)

    def plan_session(self, *, max_streams=0, max_tokens=0, prefill_chunk=0, device_slice_us=0, kv_dtype=0,
                     precision=Precision.FAST, max_cache_bytes=0, max_device_bytes=0, max_host_cache_bytes=0):
        """SessionMemory: what session() with the same keywords would take, before anything is taken. No exception where
        session() would raise DeviceMemoryError: then tokens is less than wanted_tokens, or the bytes exceed the
        device."""
        return plan(self, max_streams=max_streams, max_tokens=max_tokens, prefill_chunk=prefill_chunk,
                    device_slice_us=device_slice_us, kv_dtype=kv_dtype, precision=precision,
                    max_cache_bytes=max_cache_bytes, max_device_bytes=max_device_bytes,
                    max_host_cache_bytes=max_host_cache_bytes)

    def stream(self, prompt, *, max_tokens=_DEFAULT_MAX_TOKENS, **options):
        """Generates after prompt, piece by piece: for piece in model.stream("..."), or async for. The
        keywords are those of Stream.generate. Each call has a session of its own, so any number may run at once."""
        return self._pieces(self.tokenize(prompt, bos=True), max_tokens, options)

    def generate(self, prompt, *, max_tokens=_DEFAULT_MAX_TOKENS, **options):
        """The short way: what stream() yields, as one str."""
        return "".join(self.stream(prompt, max_tokens=max_tokens, **options))

    def stream_chat(self, messages, *, max_tokens=_DEFAULT_MAX_TOKENS, **options):
        """Answers a chat, piece by piece. messages as in format_chat. For many turns see dsopt.Chat."""
        prompt = self.tokenize(self.format_chat(messages), special=True)
        return self._pieces(prompt, max_tokens, options)

    def chat(self, messages, *, max_tokens=_DEFAULT_MAX_TOKENS, **options):
        """Answers a chat: what stream_chat() yields, as one str."""
        return "".join(self.stream_chat(messages, max_tokens=max_tokens, **options))

    def _pieces(self, prompt, max_tokens, options):
        context = self.info.context_length
        limit = integer("max_tokens", max_tokens)
        room = min(context, len(prompt) + limit) if limit > 0 else context
        session = self.session(max_tokens=max(room, len(prompt)))
        stream = session.stream()
        stream.append_tokens(prompt)
        stream.generate(max_tokens=limit, **options)
        return Pieces(stream)


def _flags(verify, metadata_only, lazy):
    return ((_native.DSOPT_MODEL_VERIFY if verify else 0)
            | (_native.DSOPT_MODEL_METADATA_ONLY if metadata_only else 0)
            | (_native.DSOPT_MODEL_LAZY if lazy else 0))


def _path(value):
    return path("path", value)


def _buffer(data):
    try:
        view = memoryview(data)
    except TypeError:
        raise InvalidArgumentError(f"data: {type(data).__name__}, expected an object with a buffer") from None
    if not view.contiguous:
        raise InvalidArgumentError("data: the buffer is not contiguous")
    return view
