"""Figures as a Markdown table and as JSON, never without where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.provenance import Provenance
from benchmarks.rounds import Measured

Tables = Mapping[str, Sequence[Measured]]


def markdown(tables: Tables, source: Provenance, rounds: int) -> str:
    """Return the report."""
    parts = [_source(source, rounds)]
    parts += [f"### {title}\n\n{_table(rows)}" for title, rows in tables.items()]
    return "\n\n".join(parts) + "\n"


def as_json(tables: Tables, source: Provenance, rounds: int) -> str:
    """Return the same for programs."""
    results = {title: [asdict(row) | {"verdict": row.verdict} for row in rows] for title, rows in tables.items()}
    return json.dumps({"source": asdict(source), "rounds": rounds, "results": results}, indent=2) + "\n"


def _source(source: Provenance, rounds: int) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in source.libraries.items())
    lines = {
        "Commit": source.tree,
        "Measured": f"{source.measured_at}, {rounds} interleaved rounds",
        "Machine": f"{source.cpu}, {source.cores} cores, {source.system}",
        "Python": source.python,
        "Libraries": f"{libraries}; cryptography's {source.openssl}",
    }
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
