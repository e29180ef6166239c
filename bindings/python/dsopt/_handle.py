"""What Runtime, Model, Session and Stream have in common: a native handle, and a close that may come at any time."""

from ._errors import InvalidStateError


class Handle:
    """A native object. It goes when it is closed, or when the last reference is gone and no call runs on it; objects
    made from it keep working, so any order is fine."""

    __slots__ = ("_raw", "__weakref__")

    def _handle(self):
        # The caller's reference keeps the native object alive until its call returns, whatever close() does.
        raw = getattr(self, "_raw", None)
        if raw is None:
            raise InvalidStateError(f"{type(self).__name__.lower()}: used after close()")
        return raw

    @property
    def closed(self):
        """True after close()."""
        return getattr(self, "_raw", None) is None

    def close(self):
        """Gives the native object back. A call in progress on another thread ends first. Closing twice is harmless."""
        self._raw = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"<dsopt.{type(self).__name__}{' (closed)' if self.closed else ''}>"
