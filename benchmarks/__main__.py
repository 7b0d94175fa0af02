"""`python -m benchmarks SUITE`: measure, print the report, and store it where asked."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import libraries
from benchmarks.boot import suite as boot
from benchmarks.provenance import ProvenanceUnknown, provenance
from benchmarks.report import Figures, as_json, markdown
from benchmarks.serving import suite as serving
from benchmarks.serving.environments import EnvironmentFailed
from benchmarks.serving.servers import ServerFailed
from ephemeral.errors import Unavailable

_DOCUMENTS: Final = Path(__file__).parents[1] / "docs"
_START, _END = "<!-- figures: python -m benchmarks {} --write -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Suite:
    """What to run, how often unless told otherwise, and the libraries whose releases belong to the figures."""

    run: Callable[[int], Figures]
    rounds: int
    packages: Sequence[str]


_SUITES: Final[Mapping[str, Suite]] = {
    "boot": Suite(boot.run, 5, ("torch", "tokenizers", "grpcio", "protobuf", "cryptography", "boto3", "moto")),
    "serving": Suite(serving.run, 3, ("torch", "tokenizers", "numpy", "grpcio", "protobuf", "cryptography")),
    "verification": Suite(libraries.run, 500, ("cryptography", "cbor2", "awscrt", "PyNaCl")),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the suite asked for; 2 when the figures would have no origin, or what is measured does not start."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=sorted(_SUITES), default="verification")
    counts = ", ".join(f"{name} {suite.rounds}" for name, suite in sorted(_SUITES.items()))
    parser.add_argument("--rounds", type=int, help=f"how often each case runs (default: {counts})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    suite = _SUITES[options.suite]
    try:
        source = provenance(suite.packages)
        figures = suite.run(options.rounds or suite.rounds)
        drawings = figures.drawings() if options.write else {}
    except (ProvenanceUnknown, EnvironmentFailed, ServerFailed, Unavailable) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    report = markdown(figures, source)
    print(report, end="")
    if options.json:
        options.json.write_text(as_json(figures, source))
    if options.write:
        _write(options.suite, report, drawings)
    return 0


def _write(suite: str, report: str, drawings: Mapping[str, bytes]) -> None:
    document = _DOCUMENTS / "benchmarks.md"
    document.write_text(replaced(document.read_text(), suite, report))
    for name, drawing in drawings.items():
        (_DOCUMENTS / name).write_bytes(drawing)


def replaced(document: str, suite: str, report: str) -> str:
    """Return the document with the figures between a suite's two marks replaced."""
    start = _START.format(suite)
    before, found, rest = document.partition(start)
    _, closed, after = rest.partition(_END)
    if not found or not closed:
        raise ValueError(f"docs/benchmarks.md has lost its marks of {suite}")
    return f"{before}{start}\n\n{report}\n{_END}{after}"


if __name__ == "__main__":
    sys.exit(main())
