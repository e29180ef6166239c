"""Receivers of native callbacks. None of them lets an exception into native frames: it is kept, and the call that the
callback interrupted raises it when native code has returned."""

import logging

from . import _native
from ._types import event_of


class Failure:
    """An exception on its way from a callback to the caller."""

    __slots__ = ("exception",)

    def __init__(self):
        self.exception = None

    def keep(self, exception):
        """The first one wins."""
        if self.exception is None:
            self.exception = exception

    def rethrow(self):
        """Raises what was kept, once."""
        exception, self.exception = self.exception, None
        if exception is not None:
            try:
                raise exception
            finally:
                del exception  # no cycle through this frame


class EventReceiver(_native.EventSink):
    """on_event of a generation."""

    def __init__(self, callback, failure):
        super().__init__()
        self._callback, self._failure = callback, failure

    def on_event(self):
        """True cancels the stream."""
        try:
            return self._callback(event_of(_native.event_tuple(self.last_event()))) is False
        except BaseException as exception:  # KeyboardInterrupt too: native code cannot carry it
            self._failure.keep(exception)
            return True


class ProgressReceiver(_native.ProgressSink):
    """progress of a model that loads."""

    def __init__(self, callback, failure):
        super().__init__()
        self._callback, self._failure = callback, failure

    def on_progress(self, progress):
        """True cancels the load."""
        try:
            return self._callback(progress) is False
        except BaseException as exception:
            self._failure.keep(exception)
            return True


class FileReceiver(_native.IoSource):
    """The bytes of a seekable binary file object."""

    def __init__(self, file, failure):
        super().__init__()
        self._file, self._failure = file, failure

    def on_read(self, offset, length):
        """Hands over the bytes asked for; False: it failed."""
        try:
            self._file.seek(offset)
            while length > 0:
                data = self._file.read(length)
                if not data or not self.fill(data):
                    return False
                length -= len(data)
            return True
        except BaseException as exception:
            self._failure.keep(exception)
            return False

    def on_close(self):
        """The library reads no more. The file stays open: it is the caller's."""
        self._file = None


_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}


class LogReceiver(_native.LogSink):
    """Messages of a runtime, to a logging.Logger or a callable (level, component, message)."""

    def __init__(self, target):
        super().__init__()
        self._target = target

    def on_log(self, level, component, message):
        """Runs on any thread. There is no caller to raise to, so a failure is reported as logging reports its own."""
        try:
            level = _LEVELS.get(level, logging.INFO)
            if isinstance(self._target, logging.Logger):
                self._target.log(level, "%s: %s", component, message)
            else:
                self._target(level, component, message)
        except BaseException:
            logging.getLogger("dsopt").exception("a log callback of dsopt failed")
