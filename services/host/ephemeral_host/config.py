"""The host's settings: environment variables, read once, each with one clear complaint."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ephemeral.errors import AddressError, ConfigError
from ephemeral.protocol import ENCLAVE_VSOCK_PORT, HOST_VSOCK_PORT, MAX_BOOT_CONFIG_BYTES, MAX_MODELS
from ephemeral.transport import Address, Scheme, SpliceLimits
from ephemeral_host.audit import KEPT_FILES, MAX_BYTES

PREFIX: Final = "EPHEMERALML_"
_FIRST_GUEST_CID: Final = 16  # what nitro-cli gives an enclave unless told otherwise
_MAX_ENCLAVES: Final = 64


class ModelSource(BaseModel, frozen=True):
    """Where one model's signed manifest lies."""

    model_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
    manifest_key: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1024}$")]


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return Address.parse(value.strip())
    except AddressError as error:
        raise ValueError(error.detail) from None


def _addresses(value: object) -> object:
    return tuple(_address(part) for part in value.split(",")) if isinstance(value, str) else value


def _dialable(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    if any(address.scheme is Scheme.VSOCK and address.host == "any" for address in addresses):
        raise ValueError("an enclave has one CID: vsock://any is for listening")
    return addresses


def _scrapable(address: Address | None) -> Address | None:
    if address is not None and address.scheme is not Scheme.TCP:
        raise ValueError("metrics are served over HTTP: tcp://host:port")
    return address


def _models(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.strip().partition("=") for part in value.split(",")]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError("write model_id=manifest/key, several with commas between them")
    return tuple(ModelSource(model_id=name, manifest_key=key) for name, _, key in pairs)


def _distinct(models: tuple[ModelSource, ...]) -> tuple[ModelSource, ...]:
    if len({model.model_id for model in models}) != len(models):
        raise ValueError("a model_id stands there twice")
    return models


Models = Annotated[
    tuple[ModelSource, ...],
    NoDecode,
    BeforeValidator(_models),
    AfterValidator(_distinct),
    Field(min_length=1, max_length=MAX_MODELS),
]
_MODELS: Final = TypeAdapter(Models)


def read_models(path: Path) -> tuple[ModelSource, ...]:
    """Read a models file: one ``model_id=manifest/key`` per line; empty lines and lines that begin with # are skipped.

    Raises:
        ConfigError: unreadable, too large, or a line that is no model.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BOOT_CONFIG_BYTES + 1)
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the models file {path}: {error}") from None
    if len(raw) > MAX_BOOT_CONFIG_BYTES:
        raise ConfigError(f"the models file {path} has more than {MAX_BOOT_CONFIG_BYTES} bytes")
    lines = [line.strip() for line in text.splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    try:
        return _MODELS.validate_python(",".join(entries))
    except ValidationError as failure:
        complaint = _text(failure.errors()[0])
        raise ConfigError(f"the models file {path}: {complaint}") from None


class HostConfig(BaseSettings):
    """Everything the host can be told, in the environment as ``EPHEMERALML_`` and the field's name in capitals.

    boto3 reads ``AWS_*`` on its own: region, credentials, ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL_KMS``.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,  # the lines printed at start can be pasted back: empty means unset
    )

    s3_bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """Bucket of manifests and encrypted models."""
    models: Models | None = None
    """Models the enclave should load: ``model_id=manifest/key``, several with commas."""
    models_file: Annotated[Path | None, Field(validate_default=True)] = None
    """File with the same, one model per line, which is read again at each SIGHUP; instead of `models`."""
    listen: Annotated[Address, NoDecode, BeforeValidator(_address)] = Address(Scheme.TCP, "127.0.0.1", 7443)
    """Where clients connect."""
    enclave: Annotated[
        tuple[Address, ...],
        NoDecode,
        BeforeValidator(_addresses),
        AfterValidator(_dialable),
        Field(min_length=1, max_length=_MAX_ENCLAVES),
    ] = (Address(Scheme.VSOCK, str(_FIRST_GUEST_CID), ENCLAVE_VSOCK_PORT),)
    """Where the enclaves listen; several with commas."""
    services: Annotated[Address, NoDecode, BeforeValidator(_address)] = Address(Scheme.VSOCK, "any", HOST_VSOCK_PORT)
    """Where the host's services for the enclave listen."""
    metrics: Annotated[Address | None, NoDecode, BeforeValidator(_address), AfterValidator(_scrapable)] = None
    """Where Prometheus reads the counters, over HTTP at /metrics; nowhere when unset."""
    audit_log: Path | None = None
    """File the enclave's audit events are appended to; the log on stderr when unset."""

    audit_log_bytes: Annotated[int, Field(ge=4096, le=2**40)] = MAX_BYTES
    """Size at which the audit log is rotated."""
    audit_log_files: Annotated[int, Field(ge=1, le=1000)] = KEPT_FILES
    """Rotated audit logs that are kept."""

    max_connections: Annotated[int, Field(ge=1, le=65_536)] = 1024
    max_connections_per_peer: Annotated[int, Field(ge=1, le=65_536)] = 64
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    bytes_per_second: Annotated[int, Field(ge=1024)] | None = None
    """Per connection and direction; unlimited when unset."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long open connections may take to end after SIGTERM."""
    service_threads: Annotated[int, Field(ge=2, le=256)] = 16
    """Calls of the enclave served at once; a download holds one for as long as it takes."""
    aws_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """For one attempt to connect to AWS, and for one wait for its next bytes."""
    aws_attempts: Annotated[int, Field(ge=1, le=20)] = 6

    @field_validator("models_file", mode="after")
    @classmethod
    def _one_source_of_models(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "models" in info.data and (info.data["models"] is None) == (value is None):
            raise ValueError("set either this or EPHEMERALML_MODELS")
        return value

    def sources(self) -> tuple[ModelSource, ...]:
        """Return the models as they are configured now.

        Raises:
            ConfigError: the models file cannot be read, or a line of it is no model.
        """
        return read_models(self.models_file) if self.models_file is not None else self.models or ()

    @property
    def client_limits(self) -> SpliceLimits:
        """What clients may use."""
        return SpliceLimits(
            max_connections=self.max_connections,
            max_connections_per_peer=self.max_connections_per_peer,
            connect_timeout=timedelta(seconds=self.connect_timeout_seconds),
            idle_timeout=timedelta(seconds=self.idle_timeout_seconds),
            bytes_per_second=self.bytes_per_second,
        )

    @property
    def drain(self) -> timedelta:
        """How long open connections may take to end after SIGTERM."""
        return timedelta(seconds=self.drain_seconds)

    def lines(self) -> list[str]:
        """Return the settings as a person would write them, one per line; none is a credential."""
        return [f"{PREFIX}{name.upper()}={_shown(getattr(self, name))}" for name in type(self).model_fields]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(part) for part in value)
    if isinstance(value, ModelSource):
        return f"{value.model_id}={value.manifest_key}"
    return "" if value is None else str(value)


def load() -> HostConfig:
    """Read the environment.

    Raises:
        ConfigError: names every variable that is missing or wrong, in one line.
    """
    try:
        return HostConfig()  # type: ignore[call-arg]  # the values come from the environment
    except ValidationError as failure:
        raise ConfigError("; ".join(_complaint(item) for item in failure.errors())) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings of the host but are none: misspelt, or another program's."""
    known = {PREFIX + name.upper() for name in HostConfig.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _complaint(item: object) -> str:
    assert isinstance(item, dict)
    name = PREFIX + str(item["loc"][0]).upper()
    return f"{name} is required" if item["type"] == "missing" else f"{name}: {_text(item)}"


def _text(item: object) -> str:
    assert isinstance(item, dict)
    text = str(item["msg"]).removeprefix("Value error, ")
    return "".join(letter for letter in text if letter.isprintable())
