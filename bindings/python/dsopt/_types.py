"""Plain data that calls return."""

import dataclasses
import enum


class Finish(enum.IntEnum):
    """Why a generation ended."""

    NONE = 0
    EOS = 1
    """The model's end token, or one of stop_tokens."""
    STOP = 2
    """A stop string."""
    LENGTH = 3
    """max_tokens, the context length, or a prefill that is done."""
    CANCELLED = 4
    ERROR = 5


class EventKind(enum.IntEnum):
    """What an Event says."""

    TEXT = 1
    DONE = 2
    ERROR = 3


class DeviceKind(enum.IntEnum):
    """Sort of device."""

    CPU = 1
    CUDA = 2


class DType(enum.IntEnum):
    """Element type of the cache."""

    DEFAULT = 0
    F32 = 1
    F16 = 2
    BF16 = 3
    F8_E4M3 = 4
    I8 = 5
    I4 = 8


class Precision(enum.IntEnum):
    """FAST: the device's best arithmetic. REFERENCE: activations, products and cache in f32."""

    FAST = 0
    REFERENCE = 1


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of a Runtime. id is what device= takes."""

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
    """What a model is. bos, eos and pad are None where the model has none."""

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
    """Of Session.poll. pending: a stream is still generating. suggested_wait_us: time until the device has something;
    0: call again."""

    pending: bool
    active_streams: int
    ready_events: int
    tokens_sampled: int
    spent_us: int
    suggested_wait_us: int


@dataclasses.dataclass(frozen=True, slots=True)
class SessionMemory:
    """What a session takes: see Model.plan_session().

    page_tokens         tokens come in whole pages of so many
    wanted_tokens       max_tokens or, when that is 0, the context length
    tokens              of those, what the caps have room for, on the device and on the host
    wanted_cache_bytes  of wanted_tokens
    cache_bytes         of tokens - host_tokens; on the device, as workspace_bytes
    host_bytes          of the session's tables
    device_free_bytes   at the time of the call, for comparison
    host_cache_bytes    of host_tokens; pinned host memory
    host_tokens         of tokens, those that max_host_cache_bytes gives room to"""

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
    """Counters of a session since it was made, and its memory now. kv_host_tokens_used, _total: of kv_tokens_used and
    _total, those in pinned host memory. replayed_batches: of batches, those that took the device one launch, as a
    graph of an earlier one."""

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
    """Something new of a generation.

    text          whole characters only; may be empty
    tokens        sampled since the last event
    finish        why the generation ended, for EventKind.DONE
    status        code of the failure, for EventKind.ERROR
    logprobs      of each token, or None unless asked for
    top_logprobs  per token a list of (token, logprob), most probable first, or None unless asked for
    """

    kind: EventKind
    text: str
    tokens: list
    finish: Finish
    status: int
    logprobs: list | None
    top_logprobs: list | None


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A turn of a chat. role: "system", "user", "assistant", "tool"."""

    role: str
    content: str


KINDS = {int(kind): kind for kind in EventKind}
FINISHES = {int(finish): finish for finish in Finish}


def event_of(data):
    """Event of the tuple that native code gives."""
    kind, text, tokens, finish, status, logprobs, top = data
    return Event(KINDS.get(kind, kind), text, tokens, FINISHES.get(finish, finish), status, logprobs, top)
