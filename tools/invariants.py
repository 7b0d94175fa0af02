"""Prints one line for each invariant of SECURITY.md: cases tried and violations in the last run of the tests.

The tests leave their records in .invariants (tests/support/invariants.py). Fails when an invariant was violated, and
when one that SECURITY.md says is tested has no record: a test that did not run proves nothing.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROW = re.compile(r"^\| (INV-\d+) \| \*\*(.+?)\.\*\*(.*)$", re.MULTILINE)
_TEST = re.compile(r"`tests/[^`]+`")


@dataclass(frozen=True, slots=True)
class Invariant:
    """One row of the table in SECURITY.md."""

    id: str
    title: str
    claims_tests: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What one test tried."""

    invariant: str
    test: str
    cases: int
    violations: int


def invariants(security: str) -> list[Invariant]:
    """Return the rows of the table."""
    return [Invariant(number, title, bool(_TEST.search(rest))) for number, title, rest in _ROW.findall(security)]


def records(folder: Path) -> list[Record]:
    """Return every record of the last run."""
    return [Record(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def lines(rows: Sequence[Invariant], found: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Yield one line per invariant, and below it the tests that violated it."""
    for row in rows:
        tried = found.get(row.id, [])
        cases, broken = sum(r.cases for r in tried), sum(r.violations for r in tried)
        missing = "  NO RECORD" if row.claims_tests and not cases else ""
        count = f"{cases:>9,} cases {broken:>3,} violations {len(tried):>4,} tests"
        yield f"{row.id:<7} {row.title[:38]:<38} {count}{missing}"
        yield from (f"        VIOLATED by {r.test}" for r in tried if r.violations)


def faults(rows: Sequence[Invariant], found: Mapping[str, Sequence[Record]]) -> int:
    """Count the invariants that were violated, or claim a test that left no record."""
    violated = {row.id for row in rows if any(r.violations for r in found.get(row.id, []))}
    silent = {row.id for row in rows if row.claims_tests and not any(r.cases for r in found.get(row.id, []))}
    return len(violated | silent)


def main(root: Path) -> int:
    """Report on the checkout at `root`."""
    rows = invariants((root / "SECURITY.md").read_text())
    found: dict[str, list[Record]] = {row.id: [] for row in rows}
    for record in records(root / ".invariants"):
        found.setdefault(record.invariant, []).append(record)
    print(*lines(rows, found), sep="\n")
    failed = faults(rows, found)
    print(f"{len(rows)} invariants, {failed} violated or without a record")
    return bool(failed) or len(rows) != len(found)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
