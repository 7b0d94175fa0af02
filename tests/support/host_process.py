"""The host as its own process, started as an operator starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ephemeral.transport import Address
from tests.support.aws_environment import aws_environment

SETTINGS = {
    "EPHEMERALML_S3_BUCKET": "models",
    "EPHEMERALML_MODELS": "minilm=minilm/manifest",
    "EPHEMERALML_LISTEN": "tcp://127.0.0.1:0",
    "EPHEMERALML_SERVICES": "tcp://127.0.0.1:0",
    "EPHEMERALML_ENCLAVE": "tcp://127.0.0.1:1",
}


@dataclass
class Host:
    """A running host and what it printed before it was ready."""

    process: subprocess.Popen[str]
    printed: list[str] = field(default_factory=list)
    bound: dict[str, Address] = field(default_factory=dict)

    @property
    def clients(self) -> Address:
        """Where clients connect."""
        return self.bound["clients"]

    @property
    def services(self) -> Address:
        """Where the enclave reaches the services."""
        return self.bound["services"]

    def signal(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def rest(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, the rest of stdout, and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def start(**changes: str) -> subprocess.Popen[str]:
    """Start ``python -m ephemeral_host`` with the settings changed; an empty value unsets one."""
    settings = SETTINGS | {f"EPHEMERALML_{name}": value for name, value in changes.items()}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EPHEMERALML_", "AWS_"))}
    environment = clean | aws_environment() | {name: value for name, value in settings.items() if value}
    command = [sys.executable, "-m", "ephemeral_host"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@contextmanager
def running(**changes: str) -> Iterator[Host]:
    """Wait until the host is ready; kill it at the end if it still runs."""
    with start(**changes) as process:
        host = Host(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("ready "):
                    words = [word.split("=", 1) for word in line.split()[1:]]
                    host.bound.update({name: Address.parse(text) for name, text in words})
                    break
                host.printed.append(line.rstrip("\n"))
            yield host
        finally:
            process.kill()
