"""The receipt as our enclaves issue it: one pattern over its bytes, made from the table of claims.

The pattern is nothing but the encodings of a receipt's parts in their order, so what matches is one deterministic
tagged COSE_Sign1 over the closed claims map. What does not match may be a receipt too, or says what is wrong with it:
both are for the general reader. Texts are printable ASCII here, so that no label passes for a part of one, and what a
head says of a length is compared after matching.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from ephemeral.protocol import ED25519_SIGNATURE_BYTES, PCR_BYTES, SHA256_BYTES
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import TAG_SIGN1
from ephemeral.trusted.receipt.claims import UnverifiedReceipt
from ephemeral.trusted.receipt.schema import (
    CLAIMS,
    CTI_BYTES,
    MEASUREMENT_TYPE,
    NITRO,
    OPTIONAL_PCRS,
    PROFILE,
    PROTECTED,
    REQUIRED_PCRS,
)

# Heads of RFC 8949 section 3.1. What they count is compared after matching; a long text's length is the next byte.
_MAP: Final = 0xA0
_TEXT: Final = 0x60
_LONG_TEXT: Final = 0x78

_REGISTERS: Final = (*REQUIRED_PCRS, *OPTIONAL_PCRS)
_TEXTS: Final = tuple(claim.name for claim in CLAIMS if claim.kind is str and claim.name != "eat_profile")
_BYTES: Final = tuple(claim.name for claim in CLAIMS if claim.kind is bytes)
_NUMBERS: Final = tuple(claim.name for claim in CLAIMS if claim.kind is int)

_PRINTABLE: Final = rb"(?:[\x61-\x77]|\x78[\x18-\x80])[ -~]{1,128}"
_UNSIGNED: Final = rb"[\x00-\x17]|\x18[\x18-\xff]|\x19(?!\0).{2}|\x1a(?!\0{2}).{4}|\x1b(?!\0{4}).{8}"


def _group(name: str, pattern: bytes) -> bytes:
    return b"(?P<%s>%s)" % (name.encode(), pattern)


def _byte_string(name: str, size: int) -> bytes:
    head = encode(bytes(size))[:-size]
    return re.escape(head) + _group(name, b".{%d}" % size)


def _pair(key: int | str, value: bytes, *, required: bool) -> bytes:
    pair = re.escape(encode(key)) + value
    return pair if required else b"(?:%s)?" % pair


def _registers() -> bytes:
    """A map is in bytewise order of its keys' encodings: shorter names come first."""
    pairs = [_pair(name, _byte_string(name, PCR_BYTES), required=name in REQUIRED_PCRS) for name in _REGISTERS]
    kind = _pair(MEASUREMENT_TYPE, re.escape(encode(NITRO)), required=True)
    return _group("registers", rb"[\xa4-\xa7]") + b"".join(pairs) + kind


# Values that do not follow from their type alone. A claim's own bounds hold for whatever matches.
_VALUES: Final[Mapping[str, bytes]] = {
    "iat": rb"(?!\0)" + _group("iat", _UNSIGNED),
    "cti": rb"(?!\x50\0{16})" + _byte_string("cti", CTI_BYTES),
    "eat_profile": re.escape(encode(PROFILE)),
    "enclave_measurements": _registers(),
}


def _value(name: str, kind: type) -> bytes:
    if name in _VALUES:
        return _VALUES[name]
    if kind is bytes:
        return _byte_string(name, SHA256_BYTES)
    return _group(name, _PRINTABLE if kind is str else _UNSIGNED)


_PAYLOAD: Final = _group("count", rb"[\xb0-\xb2]") + b"".join(
    _pair(claim.label, _value(claim.name, claim.kind), required=claim.required) for claim in CLAIMS
)
_RECEIPT: Final = re.compile(
    re.escape(bytes([TAG_SIGN1, 0x84]) + encode(PROTECTED) + encode({}))
    + rb"\x59(?P<size>.{2})"
    + _group("payload", _PAYLOAD)
    + _byte_string("signature", ED25519_SIGNATURE_BYTES),
    re.DOTALL,
)


def fitting(raw: bytes) -> UnverifiedReceipt | None:
    """Return the receipt if it is one of this kind; None says nothing about what else it is."""
    match = _RECEIPT.fullmatch(raw)
    if match is None:
        return None
    size, payload, signature, count, registers = match.group("size", "payload", "signature", "count", "registers")
    measurements = {**dict(_present(match, _REGISTERS)), MEASUREMENT_TYPE: NITRO}
    values: dict[str, Any] = {"eat_profile": PROFILE, "enclave_measurements": measurements}
    values.update(_present(match, _BYTES))
    for name, encoded in _present(match, _NUMBERS):
        values[name] = int.from_bytes(encoded[1:] or encoded, "big")
    for name, encoded in _present(match, _TEXTS):
        values[name] = _text(encoded)
    counted = (int.from_bytes(size, "big"), count[0] - _MAP, registers[0] - _MAP)
    if counted != (len(payload), len(values), len(measurements)) or None in values.values():
        return None
    return UnverifiedReceipt(payload, signature, values)


def _present(match: re.Match[bytes], names: tuple[str, ...]) -> list[tuple[str, bytes]]:
    return [pair for pair in zip(names, match.group(*names), strict=True) if pair[1] is not None]


def _text(encoded: bytes) -> str | None:
    """Return the text, or None if it is not as long as its head says."""
    head = 2 if encoded[0] == _LONG_TEXT else 1
    size = encoded[1] if head == 2 else encoded[0] - _TEXT
    return encoded[head:].decode("ascii") if len(encoded) - head == size else None
