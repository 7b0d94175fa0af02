"""The claims of one receipt as values, verified or not."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from ephemeral.trusted.receipt.schema import LABEL_OF, NITRO, PROFILE


@dataclass(frozen=True, slots=True)
class EnclaveMeasurements:
    """The registers of the enclave that answered: SHA-384 values, 48 bytes each."""

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes
    pcr3: bytes | None = None
    pcr4: bytes | None = None
    pcr8: bytes | None = None
    measurement_type: str = NITRO

    def by_name(self) -> dict[str, object]:
        """Return the registers that are present and what they are."""
        values = zip(_MEASUREMENT_NAMES, _MEASUREMENT_VALUES(self), strict=True)
        return {name: value for name, value in values if value is not None}

    def __str__(self) -> str:
        return f"{self.measurement_type}, pcr0 {self.pcr0.hex()}"


@dataclass(frozen=True, slots=True)
class ReceiptClaims:
    """What a receipt says; hashes are SHA-256 (32 bytes), `cti` 16 random bytes, `iat` Unix seconds.

    `model_hash` identifies the model's files, `attestation_doc_hash` is over the attestation document's signed payload,
    `policy_version` names the policy the enclave worked under, `memory_peak_mb` is its peak resident set in MiB.
    """

    iss: str
    iat: int
    cti: bytes
    model_id: str
    model_version: str
    model_hash: bytes
    request_hash: bytes
    response_hash: bytes
    attestation_doc_hash: bytes
    measurements: EnclaveMeasurements
    policy_version: str
    sequence_number: int
    execution_time_ms: int
    memory_peak_mb: int
    security_mode: str
    eat_nonce: bytes | None = None
    model_hash_scheme: str | None = None

    def by_name(self) -> dict[str, object]:
        """Return the claims that are present, measurements as a map."""
        named = {name: value for name, value in zip(_NAMES, _VALUES(self), strict=True) if value is not None}
        named["eat_profile"] = PROFILE
        named["enclave_measurements"] = self.measurements.by_name()
        return named

    def by_label(self) -> dict[object, object]:
        """Return the claims that are present, as the payload carries them."""
        return by_label(self.by_name())


@dataclass(frozen=True, slots=True)
class UnverifiedReceipt:
    """A receipt of the right form that nobody vouches for yet; claims by name."""

    payload: bytes
    signature: bytes
    values: Mapping[str, object]


# Looked up once, not for every receipt.
_NAMES: Final = tuple(field.name for field in fields(ReceiptClaims) if field.name != "measurements")
_VALUES: Final = attrgetter(*_NAMES)
_MEASUREMENT_NAMES: Final = tuple(field.name for field in fields(EnclaveMeasurements))
_MEASUREMENT_VALUES: Final = attrgetter(*_MEASUREMENT_NAMES)


def by_label(named: Mapping[str, object]) -> dict[object, object]:
    """Return claims by name as the payload carries them, in the deterministic order of their labels."""
    return {label: named[name] for name, label in LABEL_OF.items() if name in named}


def claims_from(values: Mapping[str, Any]) -> ReceiptClaims:
    """Build the claims from values by name that were found to have neither a form fault nor a value fault."""
    rest = dict(values)
    del rest["eat_profile"]
    return ReceiptClaims(measurements=EnclaveMeasurements(**rest.pop("enclave_measurements")), **rest)
