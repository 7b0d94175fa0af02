"""Accepted builds from whatever file names them: nitro-cli's JSON, or a trust policy (TOML)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ephemeral.errors import ConfigError, PolicyError
from ephemeral.trusted.policy import Measurements, TrustPolicy
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES
from ephemeralml.pcr_file import read_measurements, require_registers_set


def read_builds(paths: Sequence[Path], now: datetime | None = None) -> tuple[Measurements, ...]:
    """Return the builds that the files name, in their order, each once; a build whose time is over is left out.

    `now` is this machine's clock unless given.

    Raises:
        ConfigError: a file cannot be read.
        PolicyError: a file is neither such JSON nor a trust policy, or no build of it is accepted any more.
    """
    builds: dict[tuple[tuple[int, bytes], ...], Measurements] = {}
    for path in paths:
        for build in _read(path, now or datetime.now(UTC)):
            require_registers_set(path, build)
            builds.setdefault(tuple(build.pinned.items()), build)
    return tuple(builds.values())


def _read(path: Path, now: datetime) -> Sequence[Measurements]:
    raw = _bytes(path)
    if raw.lstrip()[:1] == b"{":
        return [read_measurements(raw, None)]
    builds = TrustPolicy.decode(raw, str(path)).measurements
    current = [build for build in builds if build.not_after is None or now <= build.not_after]
    if not current:
        raise PolicyError(f"every build in {path} has ended by its not_after", code="POLICY_WINDOW")
    return current


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the measurements {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigError(f"the measurements {path} have more than {MAX_POLICY_BYTES:,} bytes", code="FILE_TOO_LARGE")
    return raw
