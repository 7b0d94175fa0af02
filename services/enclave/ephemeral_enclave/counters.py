"""Sums over many requests, for the host's metrics: rounded down and rare, so that no one request shows in them."""

import asyncio
import secrets
from collections import Counter
from typing import Final

from ephemeral.errors import FrameRejected, Overloaded, SessionUnknown
from ephemeral.wire import CounterReport, InferenceResult, OutcomeCount, RequestOutcome

# What one report may differ by from another that has one request less: nothing, or one of these steps.
REQUESTS_STEP: Final = 16
TEXTS_STEP: Final = 64
TOKENS_STEP: Final = 4096
_MICROSECONDS: Final = 1_000_000


# The first that fits.
_OUTCOMES: Final = (
    (Overloaded, RequestOutcome.REQUEST_OUTCOME_OVERLOADED),
    (SessionUnknown, RequestOutcome.REQUEST_OUTCOME_SESSION_UNKNOWN),
    (FrameRejected, RequestOutcome.REQUEST_OUTCOME_FRAME_REJECTED),
    (asyncio.CancelledError, RequestOutcome.REQUEST_OUTCOME_ABANDONED),
    (Exception, RequestOutcome.REQUEST_OUTCOME_FAILED),
)


class _Request:
    """Entered for each request; counts those that leave it with an exception."""

    __slots__ = ("_outcomes",)

    def __init__(self, outcomes: Counter[RequestOutcome.ValueType]) -> None:
        self._outcomes = outcomes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for error, outcome in _OUTCOMES:
                if issubclass(kind, error):
                    self._outcomes[outcome] += 1
                    return


class Counters:
    """Counts since boot; a few additions for each request, and no name of a caller, a session or a model."""

    def __init__(self) -> None:
        self._boot_id = secrets.token_bytes(16)
        self._outcomes: Counter[RequestOutcome.ValueType] = Counter()
        self._request = _Request(self._outcomes)
        self._texts = self._tokens = 0
        self._tokenize_us = self._queue_us = self._compute_us = 0

    def request(self) -> _Request:
        """Count a request that ends in an exception by its kind; others are counted by answered() or uncomputed()."""
        return self._request

    def answered(self, result: InferenceResult) -> None:
        """Count a request that was computed."""
        self._outcomes[RequestOutcome.REQUEST_OUTCOME_ANSWERED] += 1
        self._texts += result.embed.count
        self._tokens += result.embed.tokens
        self._tokenize_us += result.timings.tokenize_us
        self._queue_us += result.timings.queue_us
        self._compute_us += result.timings.compute_us

    def uncomputed(self) -> None:
        """Count a request that was answered without computing."""
        self._outcomes[RequestOutcome.REQUEST_OUTCOME_UNCOMPUTED] += 1

    def report(self, *, sessions: int, models: int, interval_seconds: int) -> CounterReport:
        """Return what the host may know."""
        counts = {outcome: _down(count, REQUESTS_STEP) for outcome, count in sorted(self._outcomes.items())}
        return CounterReport(
            boot_id=self._boot_id,
            interval_seconds=interval_seconds,
            requests=[OutcomeCount(outcome=outcome, count=count) for outcome, count in counts.items() if count],
            texts=_down(self._texts, TEXTS_STEP),
            tokens=_down(self._tokens, TOKENS_STEP),
            tokenize_seconds=self._tokenize_us // _MICROSECONDS,
            queue_seconds=self._queue_us // _MICROSECONDS,
            compute_seconds=self._compute_us // _MICROSECONDS,
            sessions=sessions,
            models=models,
        )


def _down(count: int, step: int) -> int:
    return count - count % step
