"""What figures mean nothing without: the commit, the machine, the versions."""

import os
import platform
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]


class ProvenanceUnknown(Exception):
    """The commit or the machine cannot be told, so there is nothing to print."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where figures come from; `changed` are the files of a dirty tree, `load` the load average before measuring."""

    commit: str
    changed: tuple[str, ...]
    measured_at: str
    cpu: str
    cores: int
    system: str
    python: str
    libraries: dict[str, str]
    openssl: str
    load: float

    @property
    def tree(self) -> str:
        """The commit, and whether it is what ran."""
        if not self.changed:
            return self.commit
        return f"{self.commit}, DIRTY: {len(self.changed)} files differ from it"


def provenance(
    packages: Sequence[str] = (), root: Path = _ROOT, cpu_information: Path = Path("/proc/cpuinfo")
) -> Provenance:
    """Find out; of `packages`, those that are installed are named with their releases.

    Raises:
        ProvenanceUnknown: not a git checkout with a commit, or a processor that does not say what it is.
    """
    status = _git(root, "status", "--porcelain")
    return Provenance(
        commit=_git(root, "rev-parse", "HEAD").strip(),
        changed=tuple(line[3:] for line in status.splitlines()),
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        cpu=_cpu(cpu_information),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}, {_build()}",
        libraries={name: found for name in packages if (found := _version(name))},
        openssl=_openssl(),
        load=os.getloadavg()[0],
    )


def _git(root: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(root), *arguments)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ProvenanceUnknown(f"no commit is known for {root.name}: figures need one") from None


def _cpu(information: Path) -> str:
    try:
        lines = information.read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    name = fields.get("model name") or platform.processor()
    if not name:
        raise ProvenanceUnknown("this machine does not say what processor it has: figures need one")
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def _build() -> str:
    # Whether the interpreter was built with profile-guided optimisation is a fifth of what it takes for anything.
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return f"configured {'with' if '--enable-optimizations' in arguments else 'without'} --enable-optimizations"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _openssl() -> str:
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415 - only cryptography's own name for it

    return str(backend.openssl_version_text())
