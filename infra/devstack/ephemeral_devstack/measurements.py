"""What the SIMULATED security module vouches for: digests of the very code and configuration that run.

Nitro measures the image file (PCR0), kernel and boot ramdisk (PCR1) and application (PCR2). There is no image here; the
registers are digests of the enclave's source files, of the interpreter's version and of the baked configuration, so
that they change when those do.
"""

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

from ephemeral.trusted.policy import Measurements

_MEASURED_PACKAGES = ("ephemeral", "ephemeral_enclave")


def simulated_measurements(config: bytes) -> Measurements:
    """Return PCR0-2 for this checkout and the enclave configuration `config`."""
    return Measurements(
        pcr0=_register(b"code", *(part for package in _MEASURED_PACKAGES for part in _sources(package))),
        pcr1=_register(b"interpreter", sys.version.encode()),
        pcr2=_register(b"configuration", config),
        label="SIMULATED development stack",
    )


def _register(*parts: bytes) -> bytes:
    return hashlib.sha384(b"SIMULATED" + b"".join(hashlib.sha384(part).digest() for part in parts)).digest()


def _sources(package: str) -> list[bytes]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    return [path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in sorted(folder.rglob("*.py"))]
