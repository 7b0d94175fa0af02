"""Zones as processes: start one, wait for its ready line, stop it, and say what it said when it fails."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, Queue
from typing import Final, Self

from ephemeral.errors import Unavailable

_STOP_SECONDS: Final = 15.0
_TAIL_LINES: Final = 8
# What a zone may inherit: where programs lie, what numeric libraries need on this processor, what measures test
# coverage.
_INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_INHERITED_PREFIXES: Final = ("OPENBLAS_", "OMP_", "MKL_", "COV_", "COVERAGE_")


class ZoneProcess:
    """One zone's process; standard output carries its ready line, standard error goes to its log."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._ready: Queue[str] = Queue()
        threading.Thread(target=self._read, name=f"{name}-stdout", daemon=True).start()

    @classmethod
    def start(cls, name: str, module: str, *arguments: str, logs: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start ``python -m module arguments`` with a bare environment plus `env`."""
        log = logs / f"{name}.log"
        inherited = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**inherited, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a terminal's Ctrl-C reaches the stack, which then stops its zones in order
            )
        return cls(name, process, log)

    def ready(self, timeout: float) -> str:
        """Wait for the line that begins with "ready" and return the rest of it.

        Raises:
            Unavailable: the process ended, or did not become ready in `timeout` seconds.
        """
        try:
            line = self._ready.get(timeout=timeout)
        except Empty:
            raise Unavailable(f"{self.name} did not become ready in {timeout:.0f} s; see {self.log}") from None
        if not line:
            raise Unavailable(f"{self.name} ended before it was ready: {self.tail()}", code="ZONE_ENDED")
        return line.removeprefix("ready").strip()

    def tail(self) -> str:
        """Return the last lines of the log, as one."""
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-_TAIL_LINES:]) or "it wrote nothing"

    def stop(self) -> int:
        """Ask the process to end, insist after a while, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output, self.log.open("a") as log, contextlib.suppress(ValueError):
            for line in output:
                log.write(line)
                log.flush()
                if line.startswith("ready"):
                    self._ready.put(line)
        self._ready.put("")
