"""The generator's process, as the one that measures sees it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.serving.generator import Generated, Load
from benchmarks.serving.load import Summary
from benchmarks.serving.servers import Running
from benchmarks.serving.usage import cpu_seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """One load on one server: what came of it in the window, and the cores that server and generator were using.

    The cores, and `pace` in answers a second, are those of the whole load, from its first request to its last answer.
    """

    summary: Summary
    server_cores: float
    generator_cores: float
    pace: float


class GeneratorProcess:
    """A generator connected to one server."""

    def __init__(self, process: "subprocess.Popen[str]", server: Running) -> None:
        self._process = process
        self._server = server
        self._connections = 0

    def begin(self, load: Load) -> None:
        """Let it send a load."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Generated:
        """Wait for what came of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the load generator ended; what it said stands above")
        return Generated.parse(line)

    def run(self, load: Load) -> Sample:
        """Send a load, and watch the server meanwhile; clients that are new connect before that."""
        if load.connections > self._connections:
            self.begin(replace(load, warm=0.0, seconds=0.0, rate=None))
            self.end()
            self._connections = load.connections
        begun, busy = time.monotonic(), cpu_seconds(self._server.pids)
        self.begin(load)
        generated = self.end()
        server_cores = (cpu_seconds(self._server.pids) - busy) / (time.monotonic() - begun)
        return Sample(generated.summary, server_cores, generated.generator_cores, generated.pace)


@contextmanager
def generator(server: Running, reference: Path) -> Iterator[GeneratorProcess]:
    """Start a generator; it ends with the context."""
    trust = () if server.trust is None else ("--trust", str(server.trust))
    command = (sys.executable, "-m", "benchmarks.serving.generator", server.protocol, server.address, *trust)
    pipes = subprocess.PIPE
    with subprocess.Popen([*command, "--reference", str(reference)], stdin=pipes, stdout=pipes, text=True) as process:
        try:
            yield GeneratorProcess(process, server)
        finally:
            process.terminate()
