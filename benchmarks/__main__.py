"""`python -m benchmarks SUITE`: measure, print the report, and store it where asked."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import libraries
from benchmarks.provenance import ProvenanceUnknown, provenance
from benchmarks.report import Tables, as_json, markdown

_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_START, _END = "<!-- figures: python -m benchmarks verification --write -->", "<!-- end of figures -->"
_SUITES: Final[Mapping[str, Callable[[int], Tables]]] = {"verification": libraries.run}


def main(arguments: list[str] | None = None) -> int:
    """Run the suites asked for; 2 when the figures would have no origin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=sorted(_SUITES), default="verification")
    parser.add_argument("--rounds", type=int, default=500, help="how often each case runs (default 500)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    try:
        source = provenance()
    except ProvenanceUnknown as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    tables = _SUITES[options.suite](options.rounds)
    report = markdown(tables, source, options.rounds)
    print(report, end="")
    if options.json:
        options.json.write_text(as_json(tables, source, options.rounds))
    if options.write:
        _DOCUMENT.write_text(replaced(_DOCUMENT.read_text(), report))
    return 0


def replaced(document: str, report: str) -> str:
    """Return the document with the figures between its two marks replaced."""
    before, found, rest = document.partition(_START)
    _, closed, after = rest.partition(_END)
    if not found or not closed:
        raise ValueError("docs/benchmarks.md has lost its marks")
    return f"{before}{_START}\n\n{report}\n{_END}{after}"


if __name__ == "__main__":
    sys.exit(main())
