"""Receivers of native callbacks. What they raise is kept by native code while its frames return, and comes out of the
call that the callback interrupted, as the same object. Native code takes a receiver that raised as one that cancels."""

import logging

from . import _native
from ._types import event_of


class EventReceiver(_native.EventSink):
    """on_event of a generation. Once it has raised it is not called again."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def on_event(self):
        """True cancels the stream."""
        callback, self._callback = self._callback, None
        if callback is None:
            return True
        cancel = callback(event_of(_native.event_tuple(self.last_event()))) is False
        self._callback = callback
        return cancel


class ProgressReceiver(_native.ProgressSink):
    """progress of a model that loads."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def on_progress(self, progress):
        """True cancels the load."""
        return self._callback(progress) is False


class FileReceiver(_native.IoSource):
    """The bytes of a seekable binary file object."""

    def __init__(self, file):
        super().__init__()
        self._file = file

    def on_read(self, offset, length):
        """Hands over the bytes asked for; False: there are fewer."""
        self._file.seek(offset)
        while length > 0:
            data = self._file.read(length)
            if not data or not self.fill(data):
                return False
            length -= len(data)
        return True

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
