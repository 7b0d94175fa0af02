"""The claims of one receipt as values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

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
        named = _present(self) | {"eat_profile": PROFILE, "enclave_measurements": _present(self.measurements)}
        del named["measurements"]
        return named

    def by_label(self) -> dict[object, object]:
        """Return the claims that are present, as the payload carries them."""
        return {LABEL_OF[name]: value for name, value in self.by_name().items()}


def claims_from(values: Mapping[str, Any]) -> ReceiptClaims:
    """Build the claims from values by name that were found to have neither a form fault nor a value fault."""
    rest = {name: value for name, value in values.items() if name not in ("eat_profile", "enclave_measurements")}
    return ReceiptClaims(measurements=EnclaveMeasurements(**values["enclave_measurements"]), **rest)


def _present(record: ReceiptClaims | EnclaveMeasurements) -> dict[str, object]:
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return {name: value for name, value in values if value is not None}
