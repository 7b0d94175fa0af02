"""What the benchmark needs and the product does not, each in a virtual environment of its own under .bench.

An environment is made once for each state of its pins, requirements-NAME.txt. PyTorch comes as pip's configuration
finds it, as in `make setup`.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, TextIO

_FOLDER: Final = Path(__file__).parents[2] / ".bench"
_PIP: Final = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq", "--progress-bar", "off")


class EnvironmentFailed(Exception):
    """pip could not install what is measured."""


def environment(name: str, folder: Path = _FOLDER, progress: TextIO = sys.stderr) -> Path:
    """Return the folder of programs of an environment, made now if need be.

    Raises:
        EnvironmentFailed: pip says no; the text quotes it.
    """
    pins = requirements(name)
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    home, stamp = folder / name, folder / name / "pins.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        progress.write(f"installing {name} into {home} …\n")
        shutil.rmtree(home, ignore_errors=True)
        _run(name, sys.executable, "-m", "venv", str(home))
        _run(name, str(home / "bin" / "python"), *_PIP, "-r", str(pins))
        stamp.write_text(wanted)
    return home / "bin"


def requirements(name: str) -> Path:
    """Return the file of an environment's pins."""
    return Path(__file__).with_name(f"requirements-{name}.txt")


def release(name: str, package: str) -> str:
    """Return the pinned release of a package."""
    lines = requirements(name).read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def _run(name: str, *command: str) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        lines = [line for line in str(error.stderr).splitlines() if "WARNING" not in line]
        raise EnvironmentFailed(f"{name} could not be installed: {' '.join(lines[-3:])}") from None
