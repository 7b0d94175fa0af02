"""How the host asks a remote service that may be slow, throttling or down.

One failure is retried with growing, jittered pauses until the caller's time is up. A service that keeps failing is left
alone for a while, so that callers get their answer at once and the service gets air.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import tenacity

from ephemeral.errors import EphemeralError

_log = logging.getLogger(__name__)

T = TypeVar("T")
_ALWAYS: Final[Callable[[], bool]] = lambda: True  # noqa: E731 - a default that reads as its name


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to ask again."""

    attempts: int = 6
    first_pause: timedelta = timedelta(milliseconds=200)
    longest_pause: timedelta = timedelta(seconds=5)


class CircuitBreaker:
    """Opens after `failures` failed calls in a row; `cool_down` later one call may try whether the service is back."""

    def __init__(
        self,
        *,
        failures: int = 5,
        cool_down: timedelta = timedelta(seconds=15),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._cool_down = cool_down.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._closed_until_tried_at = 0.0

    def admit(self) -> bool:
        """Return whether a call may go out now; while open, let one through per `cool_down`."""
        with self._lock:
            if self._failed < self._limit:
                return True
            if self._clock() < self._closed_until_tried_at:
                return False
            self._closed_until_tried_at = self._clock() + self._cool_down  # the others wait for this one's outcome
            return True

    def succeeded(self) -> None:
        """Note that the service answered."""
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        """Note that a call ended without an answer."""
        with self._lock:
            self._failed += 1
            if self._failed == self._limit:
                self._closed_until_tried_at = self._clock() + self._cool_down


class _StopUnlessWanted(tenacity.stop.stop_base):
    """Stops when the caller has gone."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:  # noqa: ARG002 - tenacity's signature
        return not self._wanted()


class Backend:
    """One remote service; `unavailable` is the error, and the only one, after which asking again may help."""

    def __init__(
        self,
        name: str,
        unavailable: type[EphemeralError],
        *,
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        observe: Callable[[str, str], object] | None = None,
    ) -> None:
        self.name = name
        self._unavailable = unavailable
        self._policy = policy or RetryPolicy()
        self._breaker = breaker or CircuitBreaker()
        self._observe: Callable[[str, str], object] = observe or (lambda _name, _event: None)

    def call(self, attempt: Callable[[], T], within: timedelta, *, wanted: Callable[[], bool] = _ALWAYS) -> T:
        """Return what `attempt` returns, asking again while it fails with `unavailable`, time is left and `wanted`.

        Raises:
            EphemeralError: the last failure, or `unavailable` with code ``<NAME>_CIRCUIT_OPEN`` without asking.
        """
        if not self._breaker.admit():
            self._observe(self.name, "circuit_open")
            text = f"{self.name} failed repeatedly and is left alone for a while"
            raise self._unavailable(text, code=f"{self.name}_CIRCUIT_OPEN")
        try:
            answer = self._retrying(within, wanted)(attempt)
        except self._unavailable:
            self._breaker.failed()
            self._observe(self.name, "unavailable")
            raise
        except EphemeralError:
            self._breaker.succeeded()  # a refusal is an answer
            self._observe(self.name, "refused")
            raise
        self._breaker.succeeded()
        self._observe(self.name, "answered")
        return answer

    def _retrying(self, within: timedelta, wanted: Callable[[], bool]) -> tenacity.Retrying:
        policy = self._policy
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(self._unavailable),
            wait=tenacity.wait_random_exponential(
                multiplier=policy.first_pause.total_seconds(), max=policy.longest_pause.total_seconds()
            ),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(policy.attempts),
                tenacity.stop_before_delay(within.total_seconds()),
                _StopUnlessWanted(wanted),
            ),
            before_sleep=self._note_retry,
            reraise=True,
        )

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        code = error.code if isinstance(error, EphemeralError) else "?"
        _log.warning("%s attempt %d failed with %s; asking again", self.name, state.attempt_number, code)
        self._observe(self.name, "retried")
