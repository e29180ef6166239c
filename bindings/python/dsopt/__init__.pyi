# Types of the public interface. What each thing does is in the docstrings.
import dataclasses
import datetime
import enum
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, TypeVar, overload

from _typeshed import ReadableBuffer
from typing_extensions import Unpack

__version__: str

def build_info() -> str: ...
def default_runtime() -> Runtime: ...
def program() -> str: ...
def convert(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    compression: str | None = None,
    level: int | None = None,
    license: str | None = None,
) -> None: ...

# ---- errors --------------------------------------------------------------------------------------

class DsoptError(Exception):
    code: int
    status_name: str
    message: str
    def __init__(self, message: str = "") -> None: ...

class InvalidArgumentError(DsoptError, ValueError): ...
class InvalidStateError(DsoptError): ...
class OutOfMemoryError(DsoptError, MemoryError): ...
class DeviceMemoryError(DsoptError, MemoryError): ...
class IoError(DsoptError, OSError): ...
class CorruptError(DsoptError): ...
class UnsupportedError(DsoptError): ...
class VersionError(DsoptError): ...
class NotFoundError(DsoptError, LookupError): ...
class BufferTooSmallError(DsoptError): ...
class CancelledError(DsoptError): ...
class TimeoutError(DsoptError, OSError): ...
class DeviceLostError(DsoptError): ...
class BusyError(DsoptError): ...
class CallbackError(DsoptError): ...
class InternalError(DsoptError): ...

# ---- plain data ----------------------------------------------------------------------------------

class Finish(enum.IntEnum):
    NONE = 0
    EOS = 1
    STOP = 2
    LENGTH = 3
    CANCELLED = 4
    ERROR = 5

class EventKind(enum.IntEnum):
    TEXT = 1
    DONE = 2
    ERROR = 3

class DeviceKind(enum.IntEnum):
    CPU = 1
    CUDA = 2

class DType(enum.IntEnum):
    DEFAULT = 0
    F32 = 1
    F16 = 2
    BF16 = 3
    F8_E4M3 = 4
    I8 = 5
    I4 = 8

class Precision(enum.IntEnum):
    FAST = 0
    REFERENCE = 1

@dataclasses.dataclass(frozen=True, slots=True)
class DeviceInfo:
    kind: DeviceKind
    id: str
    name: str
    arch: int
    multiprocessors: int
    memory_total: int
    memory_free: int
    preferred_rows: int

@dataclasses.dataclass(frozen=True, slots=True)
class ModelInfo:
    architecture: str
    vocab_size: int
    context_length: int
    layer_count: int
    parameter_count: int
    weight_bytes: int
    kv_bytes_per_token: int
    bos: int | None
    eos: int | None
    pad: int | None
    loaded: bool
    device: str

@dataclasses.dataclass(frozen=True, slots=True)
class PollResult:
    pending: bool
    active_streams: int
    ready_events: int
    tokens_sampled: int
    spent_us: int
    suggested_wait_us: int

@dataclasses.dataclass(frozen=True, slots=True)
class SessionMemory:
    page_tokens: int
    wanted_tokens: int
    tokens: int
    wanted_cache_bytes: int
    cache_bytes: int
    workspace_bytes: int
    host_bytes: int
    device_free_bytes: int
    host_cache_bytes: int
    host_tokens: int

@dataclasses.dataclass(frozen=True, slots=True)
class SessionStats:
    kv_tokens_used: int
    kv_tokens_total: int
    batches: int
    prefill_tokens: int
    prefill_us: int
    decode_tokens: int
    decode_us: int
    host_bytes: int
    device_bytes: int
    kv_host_tokens_used: int
    kv_host_tokens_total: int
    replayed_batches: int

@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    kind: EventKind
    text: str
    tokens: list[int]
    finish: Finish
    status: int
    logprobs: list[float] | None
    top_logprobs: list[list[tuple[int, float]]] | None

@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str

# ---- arguments -----------------------------------------------------------------------------------

_Time = datetime.timedelta | float
_Text = str | bytes | bytearray | memoryview
_Messages = str | Iterable[Message | Mapping[str, str] | tuple[str, str]]
_Log = logging.Logger | Callable[[int, str, str], object]
_Progress = Callable[[float], object]
_Out = TypeVar("_Out")

class _BinaryFile(Protocol):
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def read(self, size: int = ..., /) -> bytes: ...

class _Drawing(TypedDict, total=False):
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    top_n_sigma: float | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    penalty_window: int | None
    seed: int | None
    stop: str | Iterable[str] | None
    stop_tokens: Iterable[int] | None
    bias: Mapping[int, float] | None
    ignore_eos: bool | None
    priority: int | None
    logprobs: bool | None
    top_logprobs: int | None
    prefill_only: bool | None
    score: bool | None

class _Options(_Drawing, total=False):
    max_tokens: int | None

# ---- objects -------------------------------------------------------------------------------------

class _Handle:
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...

class Runtime(_Handle):
    def __init__(self, *, cpu_threads: int = 0, log: _Log | None = None, log_level: int = 30,
                 host_memory_limit: int | None = None, backend_path: str | os.PathLike[str] | None = None,
                 scan_backends: bool = True, cpu_variant: str | None = None) -> None: ...
    @property
    def devices(self) -> list[DeviceInfo]: ...
    @property
    def report(self) -> str: ...
    @property
    def host_memory_used(self) -> int | None: ...
    @property
    def host_memory_peak(self) -> int | None: ...
    def load_backend(self, file: str | os.PathLike[str]) -> None: ...
    def measure_read(self, device: str = "cpu", size: int = 0) -> float: ...

class Model(_Handle):
    runtime: Runtime
    def __init__(self, path: str | os.PathLike[str], *, runtime: Runtime | None = None, device: str | None = None,
                 max_device_bytes: int = 0, verify: bool = False, metadata_only: bool = False, lazy: bool = False,
                 mmap: bool = False, progress: _Progress | None = None) -> None: ...
    @classmethod
    def from_memory(cls, data: ReadableBuffer, *, runtime: Runtime | None = None, device: str | None = None,
                    max_device_bytes: int = 0, verify: bool = False, metadata_only: bool = False, lazy: bool = False,
                    progress: _Progress | None = None) -> Self: ...
    @classmethod
    def from_file(cls, file: _BinaryFile, *, size: int | None = None, runtime: Runtime | None = None,
                  device: str | None = None, max_device_bytes: int = 0, verify: bool = False,
                  metadata_only: bool = False, lazy: bool = False, progress: _Progress | None = None) -> Self: ...
    def poll(self, budget: _Time) -> float: ...
    def cancel(self) -> None: ...
    @property
    def info(self) -> ModelInfo: ...
    @overload
    def metadata(self, key: str) -> str | None: ...
    @overload
    def metadata(self, key: str, default: _Out) -> str | _Out: ...
    def get_metadata(self, key: str) -> str: ...
    def tokenize(self, text: _Text, *, bos: bool = False, special: bool = False) -> list[int]: ...
    def detokenize(self, tokens: Iterable[int], *, skip_special: bool = False) -> str: ...
    def detokenize_bytes(self, tokens: Iterable[int], *, skip_special: bool = False) -> bytes: ...
    def format_chat(self, messages: _Messages, *, add_prompt: bool = True) -> str: ...
    def session(self, *, max_streams: int = 0, max_tokens: int = 0, prefill_chunk: int = 0, device_slice_us: int = 0,
                kv_dtype: int = 0, precision: int = ..., max_cache_bytes: int = 0, max_device_bytes: int = 0,
                max_host_cache_bytes: int = 0) -> Session: ...
    def plan_session(self, *, max_streams: int = 0, max_tokens: int = 0, prefill_chunk: int = 0,
                     device_slice_us: int = 0, kv_dtype: int = 0, precision: int = ...,
                     max_cache_bytes: int = 0, max_device_bytes: int = 0,
                     max_host_cache_bytes: int = 0) -> SessionMemory: ...
    def stream(self, prompt: _Text, *, max_tokens: int = 256, **options: Unpack[_Drawing]) -> Pieces: ...
    def generate(self, prompt: _Text, *, max_tokens: int = 256, **options: Unpack[_Drawing]) -> str: ...
    def stream_chat(self, messages: _Messages, *, max_tokens: int = 256, **options: Unpack[_Drawing]) -> Pieces: ...
    def chat(self, messages: _Messages, *, max_tokens: int = 256, **options: Unpack[_Drawing]) -> str: ...

class Session(_Handle):
    model: Model
    def __init__(self, model: Model, *, max_streams: int = 0, max_tokens: int = 0, prefill_chunk: int = 0,
                 device_slice_us: int = 0, kv_dtype: int = 0, precision: int = ..., max_cache_bytes: int = 0,
                 max_device_bytes: int = 0, max_host_cache_bytes: int = 0) -> None: ...
    def stream(self) -> Stream: ...
    def poll(self, budget: _Time) -> PollResult: ...
    def wait(self, timeout: _Time | None = None) -> None: ...
    def run(self) -> None: ...
    def interrupt(self) -> None: ...
    def trim(self) -> None: ...
    def set_cache_limit(self, size: int) -> None: ...
    @property
    def stats(self) -> SessionStats: ...

class Stream(_Handle, Iterator[str], AsyncIterator[str]):
    session: Session
    def __init__(self, session: Session, raw: object) -> None: ...
    def append(self, text: _Text, *, bos: bool | None = None, special: bool = False) -> None: ...
    def append_tokens(self, tokens: Iterable[int]) -> None: ...
    def rewind(self, count: int) -> None: ...
    @property
    def token_count(self) -> int: ...
    @property
    def tokens(self) -> list[int]: ...
    def generate(self, *, on_event: Callable[[Event], object] | None = None, **options: Unpack[_Options]) -> None: ...
    def cancel(self) -> None: ...
    def read(self) -> Event | None: ...
    @property
    def finish(self) -> Finish: ...
    @property
    def error(self) -> DsoptError | None: ...
    def __next__(self) -> str: ...
    async def __anext__(self) -> str: ...
    def fork(self) -> Stream: ...
    def save(self) -> bytearray: ...
    def load(self, data: ReadableBuffer) -> None: ...
    @overload
    def logits(self) -> Any: ...
    @overload
    def logits(self, out: _Out) -> _Out: ...
    def logprobs(self, first: int = 0) -> list[float]: ...

class Pieces(Iterator[str], AsyncIterator[str]):
    finish: Finish
    def __init__(self, stream: Stream) -> None: ...
    def close(self) -> None: ...
    def cancel(self) -> None: ...
    def __next__(self) -> str: ...
    async def __anext__(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...

class Chat:
    messages: list[Message]
    def __init__(self, model: Model, *, system: str | None = None, max_tokens: int = 0, max_streams: int = 0,
                 prefill_chunk: int = 0, device_slice_us: int = 0, kv_dtype: int = 0,
                 precision: int = ..., max_cache_bytes: int = 0, max_device_bytes: int = 0,
                 max_host_cache_bytes: int = 0) -> None: ...
    def send(self, content: str, **options: Unpack[_Options]) -> Pieces: ...
    def ask(self, content: str, **options: Unpack[_Options]) -> str: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None: ...
