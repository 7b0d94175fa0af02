"""Figures as a Markdown table and as JSON, never without where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks.provenance import Provenance
from benchmarks.rounds import Measured

Tables = Mapping[str, Sequence[Measured]]


class Figures(Protocol):
    """What a suite measured."""

    @property
    def how(self) -> str:
        """How often it was measured."""

    def markdown(self) -> str:
        """Return the tables, with titles of the third level."""

    def plain(self) -> object:
        """Return everything, for programs."""

    def drawings(self) -> Mapping[str, bytes]:
        """Return pictures by the name of their file."""


@dataclass(frozen=True, slots=True)
class FloorFigures:
    """Times of cases beside their floors."""

    tables: Tables
    rounds: int

    @property
    def how(self) -> str:
        """How often it was measured."""
        return f"{self.rounds} interleaved rounds"

    def markdown(self) -> str:
        """Return a table for each title."""
        return "\n\n".join(f"### {title}\n\n{_table(rows)}" for title, rows in self.tables.items())

    def plain(self) -> object:
        """Return the rows with their verdicts."""
        return {title: [asdict(row) | {"verdict": row.verdict} for row in rows] for title, rows in self.tables.items()}

    def drawings(self) -> Mapping[str, bytes]:
        """Return nothing: tables say it all."""
        return {}


def markdown(figures: Figures, source: Provenance) -> str:
    """Return the report."""
    return f"{_source(source, figures.how)}\n\n{figures.markdown()}\n"


def as_json(figures: Figures, source: Provenance) -> str:
    """Return the same for programs."""
    report = {"source": asdict(source), "measured": figures.how, "results": figures.plain()}
    return json.dumps(report, indent=2) + "\n"


def _source(source: Provenance, how: str) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in source.libraries.items())
    lines = {
        "Commit": source.tree,
        "Measured": f"{source.measured_at}, {how}, load average {source.load:.1f} before it",
        "Machine": f"{source.cpu}, {source.cores} cores, {source.system}",
        "Python": source.python,
        "Libraries": f"{libraries}; cryptography's {source.openssl}",
    }
    if source.load > source.cores / 2:
        lines["Caution"] = "others were using this machine; what was not measured in the same moment compares badly"
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _table(rows: Sequence[Measured]) -> str:
    head = "| what | median | least | of floor, median | of floor, least | asked for | |\n|---|--:|--:|--:|--:|--:|---|"
    return "\n".join([head, *(_row(row) for row in rows)])


def _row(row: Measured) -> str:
    asked = f"≤ {row.at_most:g}" if row.at_most is not None else ""
    name = f"**{row.name}** (floor)" if row.name == row.floor else row.name
    return (
        f"| {name} | {row.median_us:,.0f} µs | {row.least_us:,.0f} µs | {row.ratio:.2f} | {row.least_ratio:.2f} "
        f"| {asked} | {row.verdict} |"
    )
