"""What a client does about an enclave that has no room: it believes it, and comes back when it was told to.

An enclave spends a good part of its time on refusing when those whom it refuses ask again at once. What a session was
told holds for all its threads: until then they are refused here, and nothing is sealed or sent.
"""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

import tenacity

from ephemeral.errors import Overloaded
from ephemeral.protocol import LONGEST_RETRY_AFTER

# gRPC has the same status for a message that is too large, which asking again does not make smaller.
_NO_ROOM: Final = frozenset({"QUEUE_FULL", "SESSIONS_FULL", "STILL_BUSY"})
_LEAST_SECONDS: Final = 0.05  # doubled with each refusal of a call: nobody is believed who says "at once" every time
_MOST_SECONDS: Final = LONGEST_RETRY_AFTER.total_seconds()  # a host that says more is not believed either
_SPREAD: Final = 0.25  # those who were refused together come back one after the other
_floor: Final = tenacity.wait_exponential(multiplier=_LEAST_SECONDS, max=_MOST_SECONDS)
_LOG: Final = logging.getLogger("ephemeralml.client")


class Pause:
    """Until when an enclave wants no more requests of a session. Threads may share it."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        """Begin without one."""
        self._until = 0.0

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Enter only when the pause is over; a refusal for want of room, out of the block, begins another.

        Raises:
            Overloaded: it is not over, and `retry_after` is what is left of it (code ``STILL_BUSY``).
        """
        left = self._until - time.monotonic()
        if left > 0:
            raise _still_busy(left)
        try:
            yield
        except Overloaded as busy:
            if _no_room(busy):
                self._until = max(self._until, time.monotonic() + min(busy.retry_after, _MOST_SECONDS))
            raise


def patience(seconds: float, closed: Event) -> tenacity.Retrying:
    """Return what calls a function again when it was told so, and not when that would be later than in `seconds`.

    The last Overloaded is raised as it came. Once `closed` is set nothing is waited for.
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_no_room),
        wait=_as_told,
        stop=tenacity.stop_before_delay(seconds),
        sleep=tenacity.sleep_using_event(closed),
        before_sleep=_tell,
        reraise=True,
    )


def _as_told(state: tenacity.RetryCallState) -> float:
    busy = state.outcome and state.outcome.exception()
    assert isinstance(busy, Overloaded), "nothing else is tried again"
    told = max(busy.retry_after, _floor(state))
    return told * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - a spread, no secret


def _no_room(error: BaseException) -> bool:
    return isinstance(error, Overloaded) and error.code in _NO_ROOM


def _tell(state: tenacity.RetryCallState) -> None:
    _LOG.warning("the enclave has no room; asking again in %.1f s", state.upcoming_sleep)


def _still_busy(left: float) -> Overloaded:
    error = Overloaded(f"the enclave has no room for another {left:.1f} s: nothing was sent", code="STILL_BUSY")
    error.retry_after = left
    return error
