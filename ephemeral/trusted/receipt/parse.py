"""Layer 1 of AIR v1: bytes become an unverified receipt of the right form, or every fault of the form is named."""

from collections.abc import Iterator
from typing import Final

from ephemeral.protocol import MAX_RECEIPT_BYTES
from ephemeral.trusted.cbor import CborError, decode
from ephemeral.trusted.cose import CoseError, Sign1, parse_sign1
from ephemeral.trusted.receipt.claims import UnverifiedReceipt
from ephemeral.trusted.receipt.schema import LABEL_OF, PROTECTED, form_faults
from ephemeral.trusted.receipt.template import fitting

_ALG: Final = 1
_CONTENT_TYPE: Final = 3
_EDDSA: Final = -8
_CWT: Final = 61


class FormError(ValueError):
    """The bytes have not the form of a receipt; `faults` are the layer-1 codes, at least one."""

    def __init__(self, *faults: str) -> None:
        super().__init__(", ".join(faults))
        self.faults = faults


def parse_receipt(raw: bytes) -> UnverifiedReceipt:
    """Parse a receipt without believing it.

    Raises:
        FormError: with every layer-1 code that applies.
    """
    if len(raw) > MAX_RECEIPT_BYTES:
        raise FormError("RECEIPT_TOO_LARGE")
    return fitting(raw) or read_receipt(raw)


def read_receipt(raw: bytes) -> UnverifiedReceipt:
    """Parse a receipt of any shape that the profile allows: parse_receipt() without its short way.

    Raises:
        FormError: with every layer-1 code that applies.
    """
    envelope = _envelope(raw)
    faults = [*_header_faults(envelope)]
    if envelope.payload is None:
        raise FormError(*faults, "MISSING_PAYLOAD")
    values = _map(envelope.payload)
    if values is None:
        raise FormError(*faults, "PAYLOAD_NOT_MAP")
    if faults := [*faults, *form_faults(values)]:
        raise FormError(*faults)
    by_name = {name: values[label] for name, label in LABEL_OF.items() if label in values}
    return UnverifiedReceipt(envelope.payload, envelope.signature, by_name)


def _envelope(raw: bytes) -> Sign1:
    try:
        envelope = parse_sign1(raw, max_bytes=MAX_RECEIPT_BYTES)
    except CoseError:
        raise FormError("COSE_DECODE_FAILED") from None
    if not envelope.tagged:
        raise FormError("COSE_DECODE_FAILED")
    return envelope


def _header_faults(envelope: Sign1) -> Iterator[str]:
    if envelope.unprotected:
        yield "NON_EMPTY_UNPROTECTED"
    if envelope.protected == PROTECTED:
        return
    header = _map(envelope.protected)
    if header is None:
        yield "COSE_DECODE_FAILED"
        return
    if bad_alg := (header.get(_ALG) != _EDDSA):
        yield "BAD_ALG"
    if bad_type := (header.get(_CONTENT_TYPE) != _CWT):
        yield "BAD_CONTENT_TYPE"
    if not bad_alg and not bad_type:  # both are right, so there is something else: the header is closed
        yield "COSE_DECODE_FAILED"


def _map(raw: bytes) -> dict[object, object] | None:
    try:
        value = decode(raw, max_bytes=MAX_RECEIPT_BYTES, max_depth=3)
    except CborError:
        return None
    return value if isinstance(value, dict) else None
