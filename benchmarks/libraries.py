"""The verification suite once for each choice of libraries, in a process of its own: the choice is made at import."""

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Final

from benchmarks.report import FloorFigures
from benchmarks.rounds import Measured

_FAST: Final = ("awscrt", "nacl")  # modules of the extra
_RUN: Final = "import runpy; runpy.run_module('benchmarks.verification', run_name='__main__', alter_sys=True)"
_WITHOUT: Final = f"import sys; sys.modules.update(dict.fromkeys({_FAST!r})); "


def run(rounds: int) -> FloorFigures:
    """Measure with the default libraries, then with those of the extra `fast` if both are installed."""
    tables = _child(_WITHOUT + _RUN, rounds)
    if all(find_spec(name) for name in _FAST):
        fast = _child(_RUN, rounds)
        tables |= {title: rows for title, rows in fast.items() if title not in tables}
    return FloorFigures(tables, rounds)


def _child(program: str, rounds: int) -> dict[str, list[Measured]]:
    command = (sys.executable, "-c", program, str(rounds))
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return {title: [Measured(**row) for row in rows] for title, rows in json.loads(printed).items()}
