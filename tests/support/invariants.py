"""What the run of the tests says about the twelve invariants of SECURITY.md: cases tried, and violations.

A test that tries to break an invariant says here how often it tried. tools/invariants.py adds the records up and prints
one line per invariant. A record belongs to its test: running the test again replaces it.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INVARIANTS = frozenset(f"INV-{number}" for number in range(1, 13))
RECORDS = Path(__file__).parents[2] / ".invariants"
_cases: Counter[tuple[str, str]] = Counter()
_violations: Counter[tuple[str, str]] = Counter()


def record(invariant: str, cases: int, violations: int = 0) -> None:
    """Add what the running test tried against one invariant ("INV-4"); several calls of one test add up."""
    if invariant not in INVARIANTS:
        raise ValueError(f"{invariant!r} is none of INV-1 to INV-12")
    if not 0 <= violations <= cases:
        raise ValueError(f"{violations} violations in {cases} cases")
    key = (invariant, os.environ.get("PYTEST_CURRENT_TEST", "no test").rpartition(" (")[0])
    _cases[key] += cases
    _violations[key] += violations
    _write(key)


def _write(key: tuple[str, str]) -> None:
    invariant, test = key
    RECORDS.mkdir(exist_ok=True)
    entry = {"invariant": invariant, "test": test, "cases": _cases[key], "violations": _violations[key]}
    (RECORDS / f"{invariant}-{hashlib.sha256(test.encode()).hexdigest()[:16]}.json").write_text(json.dumps(entry))


class Tally:
    """Cases tried so far in one block."""

    def __init__(self, cases: int) -> None:
        self.cases = cases

    def case(self, count: int = 1) -> None:
        """Say that another case is about to be tried."""
        self.cases += count


@contextmanager
def tally(invariant: str, cases: int = 0) -> Iterator[Tally]:
    """Record `cases` and those that the block says it tries; an exception that leaves the block is one violation."""
    count = Tally(cases)
    try:
        yield count
    except BaseException:
        record(invariant, max(count.cases, 1), 1)
        raise
    record(invariant, count.cases)
