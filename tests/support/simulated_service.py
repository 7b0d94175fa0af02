"""A service of the development stack as its own process, up when it has printed its ready line."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """A running service: its URL, the whole ready line, and where its standard error goes."""

    url: str
    ready_line: str
    log: Path


@contextmanager
def running_service(module: str, arguments: Sequence[str], log: Path) -> Iterator[SimulatedService]:
    """Run the service for the length of the block."""
    command = [sys.executable, "-m", module, *arguments]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                process.wait(STOP_SECONDS)
                raise RuntimeError(f"{module} did not start: {line!r} {log.read_text()[-2000:]}")
            yield SimulatedService(line.split()[1], line, log)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
