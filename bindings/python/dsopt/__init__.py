"""dsopt: language-model inference inside your program.

    import dsopt

    with dsopt.Model("model.dsopt") as model:
        print(model.generate("Once upon a time"))
        for piece in model.stream_chat("go to the kitchen"):
            print(piece, end="", flush=True)

The objects are Runtime > Model > Session > Stream. Short ways are Model.generate, stream, chat and stream_chat, and
Chat for many turns. Everything else is one level below: Model.session() gives cache memory and a step loop that your
frame or control loop drives with Session.poll(budget).

Errors      Every failure is a DsoptError: a class per status code, with the library's message.
Times       A datetime.timedelta or a number of seconds.
Threads     Native code runs without the interpreter lock. A Session and its streams take one call at a time, or raise
            BusyError; cancel() and interrupt() may come from any thread. Sessions are independent of each other.
Closing     Every object has close() and works in a with statement. Any order is fine, also the garbage collector's.
"""

import atexit
import time

from . import _native
from ._chat import Chat
from ._errors import (
    BufferTooSmallError, BusyError, CallbackError, CancelledError, CorruptError, DeviceLostError, DeviceMemoryError,
    DsoptError, InternalError, InvalidArgumentError, InvalidStateError, IoError, NotFoundError, OutOfMemoryError,
    TimeoutError, UnsupportedError, VersionError)
from ._model import Model
from ._program import convert, program
from ._runtime import Runtime, default_runtime
from ._session import Session
from ._stream import Pieces, Stream
from ._types import (
    DeviceInfo, DeviceKind, DType, Event, EventKind, Finish, Message, ModelInfo, PollResult, Precision, SessionMemory,
    SessionStats)

__all__ = [
    "BufferTooSmallError", "BusyError", "CallbackError", "CancelledError", "Chat", "CorruptError", "DType",
    "DeviceInfo", "DeviceKind", "DeviceLostError", "DeviceMemoryError", "DsoptError", "Event", "EventKind", "Finish",
    "InternalError", "InvalidArgumentError", "InvalidStateError", "IoError", "Message", "Model", "ModelInfo",
    "NotFoundError", "OutOfMemoryError", "Pieces", "PollResult", "Precision", "Runtime", "Session", "SessionMemory",
    "SessionStats", "Stream", "TimeoutError", "UnsupportedError", "VersionError", "build_info", "convert",
    "default_runtime", "program"]

_version = _native.dsopt_version_number()
__version__ = f"{_version // 1000000}.{_version // 1000 % 1000}.{_version % 1000}"


def build_info():
    """How the native library was built."""
    return _native.dsopt_build_info()


def _at_exit():
    # A thread that returns from native code after the interpreter has ended would end the process badly.
    deadline = time.monotonic() + 2
    while _native.stop_calls() > 0 and time.monotonic() < deadline:
        time.sleep(0.001)


atexit.register(_at_exit)
