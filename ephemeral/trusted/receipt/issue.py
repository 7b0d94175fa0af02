"""Receipts, signed in the enclave."""

from dataclasses import replace
from typing import NamedTuple

from ephemeral.protocol import SHA256_BYTES
from ephemeral.trusted.cbor import encode_as_ordered
from ephemeral.trusted.cose import encode_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.receipt.claims import ReceiptClaims, by_label
from ephemeral.trusted.receipt.schema import CTI_BYTES, LABEL_OF, PROTECTED, form_faults, value_faults


def issue_receipt(claims: ReceiptClaims, key: SigningKey) -> bytes:
    """Sign `claims` with the receipt key: a tagged COSE_Sign1 over deterministic CBOR, byte for byte AIR v1.

    Raises:
        ValueError: a claim that every verifier would refuse; the text lists the codes.
    """
    return _sign(encode_as_ordered(_checked(claims)), key)


class Answered(NamedTuple):
    """The claims in which the receipts of one session and model differ, in the order of their labels."""

    iat: int
    cti: bytes
    request_hash: bytes
    response_hash: bytes
    sequence_number: int
    execution_time_ms: int
    memory_peak_mb: int


class ReceiptDraft:
    """The other claims, checked and encoded once: each receipt is the bytes that issue_receipt() would give."""

    __slots__ = ("_claims", "_pieces")

    def __init__(self, claims: ReceiptClaims) -> None:
        """Take any receipt of the session and model.

        Raises:
            ValueError: as issue_receipt().
        """
        self._claims = claims
        self._pieces = _pieces(claims)

    def issue(self, answered: Answered, key: SigningKey) -> bytes:
        """Sign the receipt of one answer.

        Raises:
            ValueError: as issue_receipt().
        """
        if not _sound(answered):
            return issue_receipt(replace(self._claims, **answered._asdict()), key)
        payload = [self._pieces[0]]
        for value, piece in zip(answered, self._pieces[1:], strict=True):
            payload += (value if isinstance(value, bytes) else encode_as_ordered(value), piece)
        return _sign(b"".join(payload), key)


def _checked(claims: ReceiptClaims) -> dict[object, object]:
    """Return the claims by label."""
    by_name = claims.by_name()
    values = by_label(by_name)
    if faults := [*form_faults(values)] or [*value_faults(by_name)]:
        raise ValueError(f"not a receipt: {', '.join(faults)}")
    return values


def _sign(payload: bytes, key: SigningKey) -> bytes:
    return encode_sign1(PROTECTED, payload, key.sign(sig_structure(PROTECTED, payload)), tagged=True)


def _pieces(claims: ReceiptClaims) -> list[bytes]:
    """Cut the payload at the values of Answered. Theirs that are bytes have one size, so their heads stay in it."""
    values = _checked(claims)
    varying = {LABEL_OF[name] for name in Answered._fields}
    payload, pieces = encode_as_ordered(values)[:1], []  # the head of a map of fewer than 24 pairs
    for label, value in values.items():
        encoded = encode_as_ordered(value)
        payload += encode_as_ordered(label)
        if label in varying:
            pieces.append(payload + encoded[: -len(value)] if isinstance(value, bytes) else payload)
            payload = b""
        else:
            payload += encoded
    return [*pieces, payload]


def _sound(answered: Answered) -> bool:
    """Say whether no verifier would refuse these; what is not is for issue_receipt(), which says why."""
    iat, cti, request_hash, response_hash, *counts = answered
    return (
        {type(iat), *map(type, counts)} == {int}
        and {type(cti), type(request_hash), type(response_hash)} == {bytes}
        and iat > 0
        and min(counts) >= 0
        and max(iat, *counts) < 2**64
        and len(cti) == CTI_BYTES
        and any(cti)
        and len(request_hash) == len(response_hash) == SHA256_BYTES
    )
