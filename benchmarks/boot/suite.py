"""The boot suite: seconds, megabytes a second and megabytes, each beside what was asked for."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from benchmarks.boot.starting import measure_starts

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its median, its best, and the limit that was asked for."""

    name: str
    unit: str
    median: float
    best: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def asked(self) -> str:
        """The limit, as a reader takes it."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def verdict(self) -> str:
        """How the median stands against what was asked of it."""
        if not self.asked:
            return ""
        met = self.median <= self.at_most if self.at_most is not None else self.median >= (self.at_least or 0)
        return "met" if met else "NOT met"


@dataclass(frozen=True, slots=True)
class BootFigures:
    """Tables of figures by title."""

    tables: Mapping[str, Sequence[Figure]]
    rounds: int

    @property
    def how(self) -> str:
        """How often it was measured."""
        return f"{self.rounds} fresh processes of each kind"

    def markdown(self) -> str:
        """Return a table for each title."""
        return "\n\n".join(f"### {title}\n\n{_table(rows)}" for title, rows in self.tables.items())

    def plain(self) -> object:
        """Return the rows with their verdicts."""
        return {title: [asdict(row) | {"verdict": row.verdict} for row in rows] for title, rows in self.tables.items()}

    def drawings(self) -> Mapping[str, bytes]:
        """Return nothing: tables say it all."""
        return {}


def run(rounds: int) -> BootFigures:
    """Measure everything `rounds` times."""
    loads = [_loaded(number, rounds) for number in range(rounds)]
    starts = measure_starts(rounds)
    fetch = median(load["fetch"] for load in loads)
    return BootFigures(
        {
            "A model's way into the enclave, its host serving from memory": _loading(loads),
            "Start of the enclave on the development stack": _starting(starts, fetch),
        },
        rounds,
    )


def _loaded(number: int, rounds: int) -> Mapping[str, float]:
    sys.stderr.write(f"\rload {number + 1} of {rounds}")
    sys.stderr.flush()
    command = [sys.executable, "-m", "benchmarks.boot.loading"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    figures: Mapping[str, float] = json.loads(printed)
    return figures


def _loading(loads: Sequence[Mapping[str, float]]) -> list[Figure]:
    def rate(name: str) -> list[float]:
        return [load["bytes"] / load[name] / _MB for load in loads]

    total = [load["fetch"] + load["hash"] + load["build"] for load in loads]
    peak = [(load["peak"] - load["steady"]) / load["bytes"] for load in loads]
    return [
        _fastest("transport alone", rate("transport")),
        _fastest("verification and decryption alone", rate("decryption")),
        _fastest("transport, verification and decryption together", rate("fetch"), at_least=300),
        _shortest("the same", [load["fetch"] for load in loads]),
        _shortest("files hashed", [load["hash"] for load in loads]),
        _shortest("engine built", [load["build"] for load in loads]),
        _shortest("from the first byte to an engine", total, at_most=1.0),
        _shortest("peak memory above the loaded steady state, by the size of the weights", peak, "times", at_most=1.3),
        _shortest("loaded steady state", [load["steady"] / _MB for load in loads], "MB"),
    ]


def _starting(starts: Sequence[Mapping[str, float]], fetch: float) -> list[Figure]:
    emulated = [start["attestation"] + start["kms"] + max(0.0, start["fetch"] - fetch) for start in starts]
    own = [start["total"] - spent for start, spent in zip(starts, emulated, strict=True)]
    stages = ("attestation", "manifest", "kms", "fetch", "load")
    return [
        *(_shortest(f"stage {name}", [start[name] for start in starts]) for name in stages),
        _shortest("from the process's start until it serves", [start["total"] for start in starts], at_most=6),
        _shortest("of it in the emulators of NSM, KMS and S3", emulated),
        _shortest("without their time", own, at_most=4),
    ]


def _shortest(name: str, values: Sequence[float], unit: str = "s", at_most: float | None = None) -> Figure:
    return Figure(name, unit, median(values), min(values), at_most=at_most)


def _fastest(name: str, values: Sequence[float], at_least: float | None = None) -> Figure:
    return Figure(name, "MB/s", median(values), max(values), at_least=at_least)


def _table(rows: Sequence[Figure]) -> str:
    head = "| what | median | best | asked for | |\n|---|--:|--:|--:|---|"
    return "\n".join([head, *map(_row, rows)])


def _row(row: Figure) -> str:
    digits = 0 if row.unit.startswith("MB") else 3
    values = (f"{value:,.{digits}f} {row.unit}" for value in (row.median, row.best))
    return f"| {row.name} | {' | '.join(values)} | {row.asked} | {row.verdict} |"
