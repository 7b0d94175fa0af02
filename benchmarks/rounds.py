"""Interleaved rounds: what is compared runs in the same few milliseconds, so that a busy machine slows both.

Times are the thread's processor time: nothing measured here waits for anything, and time that the system gives to other
processes is none of ours.
"""

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import thread_time_ns
from typing import Final, TextIO

_MICROSECOND: Final = 1000


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time; `before` runs first and is not timed, `floor` names the case it is held against."""

    name: str
    run: Callable[[], object]
    floor: str
    before: Callable[[], object] = _nothing
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Times in microseconds; `ratio` is the median over rounds of this case by its floor in the same round."""

    name: str
    floor: str
    median_us: float
    least_us: float
    ratio: float
    least_ratio: float
    at_most: float | None

    @property
    def verdict(self) -> str:
        """How it stands against what was asked of it."""
        if self.at_most is None:
            return ""
        return "met" if self.ratio <= self.at_most else "NOT met"


def measure(cases: Sequence[Case], rounds: int, progress: TextIO = sys.stderr) -> list[Measured]:
    """Run every case once a round, in turning order, and compare within rounds."""
    times: dict[str, list[int]] = {case.name: [] for case in cases}
    for case in cases:
        case.before()
        case.run()
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: a collection belongs to no case
    try:
        for number in range(rounds):
            first = number % len(cases)
            for case in (*cases[first:], *cases[:first]):
                times[case.name].append(_timed(case))
            if number % max(1, rounds // 20) == 0:
                gc.collect()
                progress.write(f"\r{100 * number // rounds:3} %")
                progress.flush()
    finally:
        if collecting:
            gc.enable()
    progress.write("\r     \r")
    return [_measured(case, times[case.name], times[case.floor]) for case in cases]


def _timed(case: Case) -> int:
    case.before()
    start = thread_time_ns()
    case.run()
    return thread_time_ns() - start


def _measured(case: Case, own: Sequence[int], floor: Sequence[int]) -> Measured:
    return Measured(
        case.name,
        case.floor,
        median(own) / _MICROSECOND,
        min(own) / _MICROSECOND,
        median(a / b for a, b in zip(own, floor, strict=True)),
        min(own) / min(floor),
        case.at_most,
    )
