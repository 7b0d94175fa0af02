"""What is asked of the serving path, and whether it is met: each figure a median over all turns of all rounds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.serving.generating import Sample
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.load import Summary
from benchmarks.serving.visit import ALONE, LONG, MIX, SHORT, Point, Visit

MEBI: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its bound; `at_least` says which side of it is good, `unit` what both are in."""

    name: str
    figure: float
    bound: float
    unit: str
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure is on the good side; one that could not be measured is not."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


@dataclass(frozen=True, slots=True)
class Serving:
    """All that was measured: visits by server, in the order of rounds, and the engine alone."""

    visits: Mapping[str, Sequence[Visit]]
    in_process: InProcess

    @property
    def rounds(self) -> int:
        """How often each server was visited."""
        return min(map(len, self.visits.values()))


def targets(serving: Serving) -> list[Target]:
    """Hold the figures against what is asked."""
    ours = serving.visits["sealed"]
    return [
        Target(f"{SHORT}: answers per second, by infinity's", _speed(serving, SHORT, "infinity"), 1.4, "times"),
        Target(f"{MIX}: answers per second, by infinity's", _speed(serving, MIX, "infinity"), 2.0, "times"),
        Target(f"{LONG}: answers per second, by infinity's", _speed(serving, LONG, "infinity"), 0.95, "times"),
        Target(f"{SHORT}: answers per second, by plain FastAPI's", _speed(serving, SHORT, "fastapi"), 4.0, "times"),
        Target(f"{SHORT}: answers per second, of the unsealed", 100 * _speed(serving, SHORT, "unsealed"), 85, "%"),
        Target(f"{ALONE}: median latency, added to the unsealed", _added_ms(serving), 2.0, "ms", at_least=False),
        Target("in process, 32 texts of 32 tokens: of the matrix limit", 100 * serving.in_process.of_limit, 70, "%"),
        Target(
            "peak memory of the enclave", median(v.model_peak_bytes for v in ours) / MEBI, 600, "MiB", at_least=False
        ),
        Target(
            "10 polite clients beside a flooder: p99, by idle's",
            _median(ours, _unfairness),
            3.0,
            "times",
            at_least=False,
        ),
        Target(
            "5 times the load, clients that wait as told: goodput, of the peak", 100 * _median(ours, _goodput), 90, "%"
        ),
    ]


def middle(values: Iterable[float]) -> float:
    """Return the median; NaN if one of the values is: it has no place in their order."""
    known = list(values)
    return math.nan if any(map(math.isnan, known)) else median(known)


def _speed(serving: Serving, point: Point, peer: str) -> float:
    """Answers a second of the sealed path by those of another server."""
    return _paired(serving, point, peer, lambda own, other: _ratio(own.per_second, other.per_second))


def _added_ms(serving: Serving) -> float:
    return _paired(serving, ALONE, "unsealed", lambda own, other: own.p50_ms - other.p50_ms)


def _paired(serving: Serving, point: Point, peer: str, compare: Callable[[Summary, Summary], float]) -> float:
    """Compare within each turn, whose windows are seconds apart."""
    own, other = (_turns(serving.visits[name], point) for name in ("sealed", peer))
    return middle(compare(*pair) for pair in zip(own, other, strict=True))


def _turns(visits: Sequence[Visit], point: Point) -> list[Summary]:
    return [sample.summary for visit in visits for sample in visit.samples[point]]


def _median(visits: Sequence[Visit], of: Callable[[Visit], float]) -> float:
    return middle(map(of, visits))


def _unfairness(visit: Visit) -> float:
    return _ratio(_stressed(visit.flooded).summary.p99_ms, _stressed(visit.idle).summary.p99_ms)


def _goodput(visit: Visit) -> float:
    return _ratio(_stressed(visit.overload).summary.per_second, visit.samples[MIX][-1].summary.per_second)


def _ratio(figure: float, by: float) -> float:
    """Divide; by nothing, which is a server that did not answer, the ratio is unknown."""
    return figure / by if by else math.nan


def _stressed(sample: Sample | None) -> Sample:
    assert sample is not None
    return sample
