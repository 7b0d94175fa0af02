"""COSE_Sign1 envelopes (RFC 9052 section 4.2): structure only, no algorithm and no trust.

The byte strings received are kept and verified as received, never re-encoded: a signature covers bytes, not values.
"""

from typing import Final, NamedTuple

from ephemeral.trusted.cbor import CborError, byte_string, decode

TAG_SIGN1: Final = 0xD2  # RFC 9052 section 4.2: CBOR tag 18
_MAX_DEPTH: Final = 4

# Both arrays have a fixed shape: four elements, of which only byte strings vary.
_ENVELOPE: Final = b"\x84"
_EMPTY_MAP: Final = b"\xa0"
_EMPTY_STRING: Final = b"\x40"
_SIG_STRUCTURE: Final = b"\x84\x6aSignature1"


class CoseError(ValueError):
    """The bytes are not one COSE_Sign1; each parser turns this into its own typed error."""


class Sign1(NamedTuple):
    """An envelope as received: unverified."""

    tagged: bool
    protected: bytes
    unprotected: dict[object, object]
    payload: bytes | None
    signature: bytes


def parse_sign1(raw: bytes, *, max_bytes: int) -> Sign1:
    """Parse one COSE_Sign1, with or without tag 18, consuming every byte.

    Raises:
        CoseError: too large, not a definite four-element array of the right types, or bytes left over.
    """
    tagged = raw[:1] == bytes([TAG_SIGN1])
    body = raw[1:] if tagged else raw
    if len(raw) > max_bytes or body[:1] != b"\x84":
        raise CoseError("not a COSE_Sign1 array of four elements within the size limit")
    try:
        # Only the envelope: the protected header and the payload are opaque strings at this level. Even the Nitro
        # Security Module writes it deterministically, so nobody gets a second spelling of the same message.
        value = decode(body, max_bytes=max_bytes, max_depth=_MAX_DEPTH)
    except CborError as error:
        raise CoseError(str(error)) from None
    match value:
        case [bytes(protected), dict(unprotected), bytes() | None as payload, bytes(signature)]:
            return Sign1(tagged, protected, unprotected, payload, signature)
        case _:
            raise CoseError("COSE_Sign1 elements have the wrong types")


def encode_sign1(protected: bytes, payload: bytes, signature: bytes, *, tagged: bool) -> bytes:
    """Encode an envelope with an empty unprotected header."""
    body = _ENVELOPE + byte_string(protected) + _EMPTY_MAP + byte_string(payload) + byte_string(signature)
    return bytes([TAG_SIGN1]) + body if tagged else body


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """Return what is signed (RFC 9052 section 4.4): Sig_structure, not the payload alone."""
    return _SIG_STRUCTURE + byte_string(protected) + _EMPTY_STRING + byte_string(payload)
