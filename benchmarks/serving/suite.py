"""The suite: rounds over every server, then the figures."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.serving import tables
from benchmarks.serving.environments import environment
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.progress import Progress
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.targets import Serving
from benchmarks.serving.visit import POINTS, Visit, visit_all

_IN_PROCESS_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class ServingFigures:
    """What `python -m benchmarks serving` prints, keeps and draws."""

    serving: Serving

    @property
    def how(self) -> str:
        """How often it was measured."""
        return f"medians over all turns of {self.serving.rounds} round{'s' if self.serving.rounds > 1 else ''}"

    def markdown(self) -> str:
        """Return the tables."""
        return tables.markdown(self.serving)

    def plain(self) -> object:
        """Return everything, for programs."""
        return tables.plain(self.serving)

    def drawings(self) -> dict[str, bytes]:
        """Return the plot, by file name."""
        command = (str(environment("plot") / "python"), str(Path(__file__).with_name("plot.py")))
        data = json.dumps(tables.drawn(self.serving)).encode()
        return {tables.DRAWING: subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout}


def run(rounds: int) -> ServingFigures:
    """Measure; the environments of the others are made first.

    Raises:
        EnvironmentFailed: one of the others could not be installed.
        ServerFailed, Unavailable: a server did not start.
    """
    for name in ("infinity", "fastapi", "plot"):
        environment(name)
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="ephemeralml-bench-") as folder:
        reference = Path(folder) / "reference.npz"
        progress.doing = "reference"
        _python("benchmarks.serving.reference", str(reference), *dict.fromkeys(point.lengths for point in POINTS))
        progress.say("computed")
        visits = _visits(rounds, reference, progress)
    progress.doing = "in process"
    in_process = InProcess(**json.loads(_python("benchmarks.serving.in_process", str(_IN_PROCESS_ROUNDS))))
    progress.say(f"{100 * in_process.of_limit:.0f} % of the limit")
    return ServingFigures(Serving(visits, in_process))


def _visits(rounds: int, reference: Path, progress: Progress) -> dict[str, list[Visit]]:
    """Visit every server once a round."""
    visits: dict[str, list[Visit]] = {name: [] for name in SERVERS}
    for number in range(rounds):
        progress.doing = f"round {number + 1} of {rounds}"
        for name, visit in visit_all(SERVERS, reference, progress, under_stress="sealed").items():
            visits[name].append(visit)
    return visits


def _python(module: str, *arguments: str) -> bytes:
    return subprocess.run((sys.executable, "-m", module, *arguments), stdout=subprocess.PIPE, check=True).stdout
