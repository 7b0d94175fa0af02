"""CounterService: takes the enclaves' sums into the host's metrics. They are sums over many requests, never content."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import grpc

from ephemeral import rpc
from ephemeral.errors import InvalidRequest
from ephemeral.wire import CounterReport, CounterServiceServicer, CounterSummary, RequestOutcome

_BOOT_ID_BYTES: Final = 16
_MOST_BOOTS: Final = 128
_MISSED_REPORTS: Final = 3  # after as many, an enclave is taken for gone
_OUTCOME_PREFIX: Final = "REQUEST_OUTCOME_"
_SUMS: Final = ("texts", "tokens", "tokenize_seconds", "queue_seconds", "compute_seconds")
Add = Callable[[str, int, dict[str, str]], object]


@dataclass(frozen=True, slots=True)
class _Boot:
    """The last report of one boot of an enclave; `received` is in seconds of the monotonic clock."""

    report: CounterReport
    sums: dict[tuple[str, str], int]
    received: float


class CounterService(CounterServiceServicer):
    """Adds what each report has more than the one before it, so that a report that comes twice counts once."""

    def __init__(self, add: Add, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`add` is called with a counter's name, what to add, and its attributes."""
        self._add = add
        self._clock = clock
        self._boots: OrderedDict[bytes, _Boot] = OrderedDict()

    @rpc.serving
    def Report(self, request: CounterReport, context: grpc.ServicerContext) -> CounterSummary:  # noqa: ARG002, N802
        """Take one report."""
        sums = dict(_sums(request))
        before = self._boots.pop(request.boot_id, None)
        for (name, outcome), total in sums.items():
            more = total - (before.sums.get((name, outcome), 0) if before is not None else 0)
            if more > 0:
                self._add(name, more, {"outcome": outcome} if outcome else {})
        self._boots[request.boot_id] = _Boot(request, sums, self._clock())
        while len(self._boots) > _MOST_BOOTS:
            self._boots.popitem(last=False)
        return CounterSummary()

    def sessions(self) -> int:
        """Return the sessions that all enclaves have open."""
        return sum(boot.report.sessions for boot in self._alive())

    def models(self) -> int:
        """Return the models that all enclaves hold in memory."""
        return sum(boot.report.models for boot in self._alive())

    def enclaves(self) -> int:
        """Return how many enclaves report."""
        return len(self._alive())

    def _alive(self) -> list[_Boot]:
        now = self._clock()
        boots = list(self._boots.values())
        return [boot for boot in boots if now - boot.received <= _MISSED_REPORTS * boot.report.interval_seconds]


def _sums(report: CounterReport) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the sums of a report by name and outcome.

    Raises:
        InvalidRequest: it is none.
    """
    if len(report.boot_id) != _BOOT_ID_BYTES or report.interval_seconds == 0:
        raise InvalidRequest("a report names its boot in 16 bytes, and its interval")
    outcomes = [entry.outcome for entry in report.requests]
    known = set(RequestOutcome.values()) - {RequestOutcome.REQUEST_OUTCOME_UNSPECIFIED}
    if len(set(outcomes)) != len(outcomes) or not known.issuperset(outcomes):
        raise InvalidRequest("a report names each outcome once, and no other than the specified ones")
    for entry in report.requests:
        yield ("requests", RequestOutcome.Name(entry.outcome).removeprefix(_OUTCOME_PREFIX).lower()), entry.count
    for name in _SUMS:
        yield (name, ""), getattr(report, name)
