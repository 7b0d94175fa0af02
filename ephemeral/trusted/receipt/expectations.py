"""Layer 4 of AIR v1: what the caller knows about the request, held against what the receipt says."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from operator import attrgetter
from typing import Final

from ephemeral.protocol import CLOCK_SKEW
from ephemeral.trusted.receipt.claims import EnclaveMeasurements, ReceiptClaims
from ephemeral.trusted.receipt.schema import EVALUATION

Verdict = tuple[str, str, str | None]  # a claim, what its check proves, and the code of a failure

# field of ReceiptExpectations = claim, code, what agreement proves
_EQUAL: Final = (
    ("model_id", "MODEL_ID_MISMATCH", "Names the model asked for"),
    ("model_hash", "MODEL_HASH_MISMATCH", "Was computed with the model asked for"),
    ("request_hash", "REQUEST_HASH_MISMATCH", "Answers this request"),
    ("response_hash", "RESPONSE_HASH_MISMATCH", "Covers this response"),
    ("attestation_doc_hash", "ATTESTATION_DOC_HASH_MISMATCH", "Points to the verified attestation document"),
    ("measurements", "MEASUREMENTS_MISMATCH", "Carries the attested measurements"),
    ("sequence_number", "SEQUENCE_MISMATCH", "Stands at this request's place in the session"),
    ("security_mode", "SECURITY_MODE_MISMATCH", "States the expected security mode"),
)
_COMPARED: Final = attrgetter(*[name for name, _, _ in _EQUAL])
_SKEW_SECONDS: Final = int(CLOCK_SKEW.total_seconds())


@dataclass(frozen=True, slots=True)
class ReceiptExpectations:
    """What the caller holds the receipt against; None leaves a check out.

    `nonce` is the client's own (8 to 64 bytes), `platform` a measurement type, `max_age` counts from `iat`, `seen_cti`
    holds the ids of receipts already accepted. Evaluation receipts prove nothing about real hardware and are refused
    unless `accept_evaluation`.
    """

    model_id: str | None = None
    model_hash: bytes | None = None
    request_hash: bytes | None = None
    response_hash: bytes | None = None
    attestation_doc_hash: bytes | None = None
    measurements: EnclaveMeasurements | None = None
    nonce: bytes | None = None
    sequence_number: int | None = None
    security_mode: str | None = None
    platform: str | None = None
    max_age: timedelta | None = None
    seen_cti: Container[bytes] | None = None
    accept_evaluation: bool = False


def judge(claims: ReceiptClaims, expected: ReceiptExpectations, now: datetime) -> Iterator[Verdict]:
    """Yield every check that applies, in a fixed order, with the code of its failure or None."""
    yield from _time(claims, expected, now)
    for (name, code, title), wanted, stated in zip(_EQUAL, _COMPARED(expected), _COMPARED(claims), strict=True):
        if wanted is not None:
            yield name, title, code if stated != wanted else None
    if not expected.accept_evaluation:
        failed = claims.security_mode == EVALUATION
        yield "security_mode", "Is production evidence", "EVALUATION_MODE_REJECTED" if failed else None
    if expected.platform is not None:
        failed = claims.measurements.measurement_type != expected.platform
        yield "measurements", "Ran on the expected platform", "PLATFORM_MISMATCH" if failed else None
    if expected.nonce is not None:
        yield "eat_nonce", "Carries the client's nonce", _nonce_fault(claims.eat_nonce, expected.nonce)
    if expected.seen_cti is not None:
        yield "cti", "Was not seen before", "REPLAY_CTI" if claims.cti in expected.seen_cti else None


def _time(claims: ReceiptClaims, expected: ReceiptExpectations, now: datetime) -> Iterator[Verdict]:
    # The enclave's clock is the host's word: these checks catch mistakes; nonce, sequence and cti catch replays.
    age = int(now.timestamp()) - claims.iat
    yield "iat", "Is not from the future", "TIMESTAMP_FUTURE" if -age > _SKEW_SECONDS else None
    if expected.max_age is not None:
        yield "iat", "Is recent", "TIMESTAMP_STALE" if age > int(expected.max_age.total_seconds()) else None


def _nonce_fault(nonce: bytes | None, wanted: bytes) -> str | None:
    if nonce is None:
        return "NONCE_MISSING"
    return None if compare_digest(nonce, wanted) else "NONCE_MISMATCH"
