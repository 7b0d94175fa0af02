"""What the enclave knows of itself: measured by reading its own attestation document, never assumed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ephemeral.errors import AttestationError
from ephemeral.trusted.attestation import parse_document, verify_document
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1
from ephemeral.trusted.receipt import EnclaveMeasurements

_REGISTERS = (0, 1, 2, 3, 4, 8)
_ZERO = bytes(48)


@dataclass(frozen=True, slots=True)
class SelfMeasurement:
    """The registers a receipt names, and whether hardware vouches for them."""

    registers: EnclaveMeasurements
    security_mode: str


def measure(raw: bytes, now: datetime | None = None) -> SelfMeasurement:
    """Read this enclave's measurements out of one of its documents.

    "production" only when the document verifies to the AWS root and no image register is zero (a debug enclave's are);
    anything else, a simulated module above all, is "evaluation".

    Raises:
        MalformedDocument: the security module gave something that is no attestation document.
    """
    document = parse_document(raw)
    pcrs = {index: document.pcrs.get(index, _ZERO) for index in _REGISTERS}
    debug = any(pcrs[index] == _ZERO for index in (0, 1, 2))
    genuine = not debug and _is_genuine(raw, now or datetime.now(UTC))
    return SelfMeasurement(
        EnclaveMeasurements(
            pcrs[0], pcrs[1], pcrs[2], pcr3=_extended(pcrs[3]), pcr4=_extended(pcrs[4]), pcr8=_extended(pcrs[8])
        ),
        "production" if genuine else "evaluation",
    )


def _extended(register: bytes) -> bytes | None:
    """A register nobody extended is all zero: it says nothing, so the receipt does not name it."""
    return None if register == _ZERO else register


def _is_genuine(raw: bytes, now: datetime) -> bool:
    try:
        verify_document(raw, [AWS_NITRO_ROOT_G1], now=now, max_age=timedelta(minutes=5))
    except AttestationError:
        return False
    return True
