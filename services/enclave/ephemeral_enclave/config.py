"""The configuration baked into the image: who may publish models, where the host listens, what is too much.

It is measured with the image, so everything security-sensitive stands here and nothing of it can come from the host.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from ephemeral.errors import ConfigError
from ephemeral.protocol import MAX_MODELS
from ephemeral.transport import Address
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.toml import TomlError, parse_toml
from ephemeral_enclave.quota import ModelLimits

MAX_CONFIG_BYTES: Final = 65_536
_VERSION: Final = 1
_LEAST_COUNTERS_SECONDS: Final = 10
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """How much one enclave takes on at a time."""

    sessions: int = 1024
    offers: int = 1024
    queued_requests: int = 256
    threads: int = 0  # 0: torch decides


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the enclave speaks to its host unasked, and how long a replaced model set goes on, in seconds."""

    boot_config_seconds: int = 30  # between two looks at the boot configuration; 0: only at boot
    drain_seconds: int = 10  # the sessions of a replaced model set end spread over this time
    counters_seconds: int = 60  # between two reports of the counters; 0: none


@dataclass(frozen=True, slots=True)
class EnclaveConfig:
    """The parsed configuration and the digest of its exact bytes."""

    listen: Address
    host: Address
    publishers: tuple[VerifyingKey, ...]
    minimum_versions: Mapping[str, int]
    quotas: Mapping[str, ModelLimits]
    limits: ServingLimits
    intervals: Intervals
    digest: bytes

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and parse the file at `path`.

        Raises:
            ConfigError: unreadable, too large, not TOML, an unknown or missing key, or a value that would not protect.
        """
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}", code="CONFIG_UNREADABLE") from None
        return cls.parse(raw)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse TOML bytes; see load()."""
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigError(f"the configuration has more than {MAX_CONFIG_BYTES} bytes")
        try:
            table = _Table("", parse_toml(raw.decode()))
        except (UnicodeDecodeError, TomlError) as error:
            raise ConfigError(f"the configuration is not TOML: {error}") from None
        if table.integer("version") != _VERSION:
            raise ConfigError(f"the configuration's version must be {_VERSION}")
        models = _models(table)
        config = cls(
            listen=Address.parse(table.text("listen")),
            host=Address.parse(table.text("host")),
            publishers=tuple(_publisher(entry) for entry in table.tables("publishers")),
            minimum_versions={model_id: floor for model_id, (floor, _) in models.items()},
            quotas={model_id: limits for model_id, (_, limits) in models.items()},
            limits=_limits(table.table("limits")),
            intervals=_intervals(table.table("intervals")),
            digest=hashlib.sha256(raw).digest(),
        )
        table.refuse_rest()
        return config


class _Table:
    """A TOML table whose keys are taken one by one, so that what is left over is unknown."""

    def __init__(self, where: str, values: Mapping[str, object]) -> None:
        self._where = where
        self._rest = dict(values)

    def text(self, key: str) -> str:
        return self._take(key, str)

    def integer(self, key: str, default: int | None = None) -> int:
        if default is not None and key not in self._rest:
            return default
        value = self._take(key, int)
        if isinstance(value, bool) or value < 0:
            raise ConfigError(f"{self._where}{key} must be a number, 0 or more")
        return value

    def limit(self, key: str) -> int | None:
        value = self.integer(key) if key in self._rest else None
        if value == 0:
            raise ConfigError(f"{self._where}{key} must be 1 or more: 0 would admit nothing")
        return value

    def table(self, key: str) -> "_Table":
        return _Table(f"{key}.", self._take(key, dict) if key in self._rest else {})

    def tables(self, key: str) -> list["_Table"]:
        entries = self._take(key, list)
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(
                f"{key} must be one or more [[{key}]] tables: an empty list would trust nobody or everybody"
            )
        return [_Table(f"{key}[{index}].", entry) for index, entry in enumerate(entries)]

    def _take(self, key: str, kind: type[_T]) -> _T:
        value = self._rest.pop(key, None)
        if not isinstance(value, kind):
            raise ConfigError(f"{self._where}{key} is missing or not a {kind.__name__}")
        return value

    def refuse_rest(self) -> None:
        if self._rest:
            raise ConfigError(f"unknown key {self._where}{min(self._rest)}: a setting nobody reads protects nobody")


def _publisher(entry: _Table) -> VerifyingKey:
    text = entry.text("public_key")
    entry.refuse_rest()
    try:
        return VerifyingKey(bytes.fromhex(text))
    except (KeyRejected, ValueError) as error:
        raise ConfigError(f"publishers.public_key: {error}") from None


def _models(table: _Table) -> dict[str, tuple[int, ModelLimits]]:
    """Return the minimum version and the limits of each model the image admits."""
    models: dict[str, tuple[int, ModelLimits]] = {}
    for entry in table.tables("models"):
        model_id = entry.text("model_id")
        if model_id in models:
            raise ConfigError(f"models: {model_id} stands twice, and only one minimum_version can hold")
        models[model_id] = (entry.integer("minimum_version"), _model_limits(entry))
        entry.refuse_rest()
    if len(models) > MAX_MODELS:
        raise ConfigError(f"models: at most {MAX_MODELS}")
    return models


def _model_limits(entry: _Table) -> ModelLimits:
    return ModelLimits(entry.limit("queued_requests"), entry.limit("queued_texts"))


def _limits(table: _Table) -> ServingLimits:
    default = ServingLimits()
    limits = ServingLimits(
        sessions=table.integer("sessions", default.sessions),
        offers=table.integer("offers", default.offers),
        queued_requests=table.integer("queued_requests", default.queued_requests),
        threads=table.integer("threads", default.threads),
    )
    table.refuse_rest()
    return limits


def _intervals(table: _Table) -> Intervals:
    default = Intervals()
    intervals = Intervals(
        boot_config_seconds=table.integer("boot_config_seconds", default.boot_config_seconds),
        drain_seconds=table.integer("drain_seconds", default.drain_seconds),
        counters_seconds=table.integer("counters_seconds", default.counters_seconds),
    )
    if 0 < intervals.counters_seconds < _LEAST_COUNTERS_SECONDS:
        text = (
            f"intervals.counters_seconds must be 0 or at least {_LEAST_COUNTERS_SECONDS}: sums of a moment tell of it"
        )
        raise ConfigError(text)
    table.refuse_rest()
    return intervals
