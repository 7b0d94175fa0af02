"""When a call must have ended, whatever it is waiting for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ephemeral.errors import DeadlineExceeded


class Deadline:
    """A moment of the monotonic clock."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        """Let a call that begins now end in `seconds`."""
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - time.monotonic())

    @contextmanager
    def holding(self, lock: Lock) -> Iterator[None]:
        """Hold a lock.

        Raises:
            DeadlineExceeded: other threads held it for too long.
        """
        if not lock.acquire(timeout=self.left):
            raise DeadlineExceeded("no session was opened in time")
        try:
            yield
        finally:
            lock.release()
