"""An attestation document as the Nitro Security Module writes it: parsed by the profile, not verified.

Format: https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html. The profile is stricter where AWS's text
leaves room, and as wide as genuine documents need: 1024-byte fields, null for absent, an indefinite outer map (2025).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, NoReturn, TypeVar

from ephemeral.errors import MalformedDocument
from ephemeral.protocol import MAX_DOCUMENT_BYTES, PCR_BYTES
from ephemeral.trusted.attestation.signature import ES384_SIGNATURE_BYTES
from ephemeral.trusted.cbor import CborError, decode_nsm
from ephemeral.trusted.cose import CoseError, Sign1, parse_sign1

# The one protected header AWS signs: {1: -35}, ES384. Compared as bytes, so no other algorithm can be named.
PROTECTED_ES384: Final = bytes.fromhex("a1013822")

_MAX_PAYLOAD_BYTES: Final = 16_384
_MAX_FIELD_BYTES: Final = 1024  # AWS's CDDL says 1024, its prose 512; genuine documents reach 1024
_MAX_CERTIFICATE_BYTES: Final = 1024
_MAX_CABUNDLE: Final = 8
_MAX_MODULE_ID: Final = 256
_MAX_PCR_INDEX: Final = 31
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TIMESTAMP: Final = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_REQUIRED: Final = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})
_OPTIONAL: Final = frozenset({"public_key", "user_data", "nonce"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AttestationDocument:
    """The claims of a document, as received: nothing here is proven. Certificates are DER, cabundle root first."""

    module_id: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    payload: bytes
    signature: bytes


def parse_document(raw: bytes) -> AttestationDocument:
    """Parse a COSE_Sign1 document, with or without tag 18, of at most 20,480 bytes.

    Raises:
        MalformedDocument: anything the profile does not allow; `code` says which part.
    """
    payload, signature = _open_envelope(raw)
    fields = _Fields(_decode_payload(payload))
    if fields.take("digest", str) != "SHA384":
        _refuse("digest is not SHA384")
    return AttestationDocument(
        module_id=_module_id(fields.take("module_id", str)),
        timestamp=_timestamp(fields.take("timestamp", int)),
        pcrs=MappingProxyType(_pcrs(fields.take("pcrs", dict))),
        certificate=_sized("certificate", fields.take("certificate", bytes), 1, _MAX_CERTIFICATE_BYTES),
        cabundle=_cabundle(fields.take("cabundle", list)),
        public_key=fields.optional_bytes("public_key"),
        user_data=fields.optional_bytes("user_data"),
        nonce=fields.optional_bytes("nonce"),
        payload=payload,
        signature=signature,
    )


def _open_envelope(raw: bytes) -> tuple[bytes, bytes]:
    try:
        envelope: Sign1 = parse_sign1(raw, max_bytes=MAX_DOCUMENT_BYTES)
    except CoseError as error:
        raise MalformedDocument(f"not a COSE_Sign1 document: {error}", code="MALFORMED_ENVELOPE") from None
    if envelope.protected != PROTECTED_ES384:
        _refuse("the protected header is not exactly {alg: ES384}", code="WRONG_ALGORITHM")
    if envelope.unprotected:
        _refuse("the unprotected header is not empty", code="UNPROTECTED_HEADER")
    if envelope.payload is None or not 1 <= len(envelope.payload) <= _MAX_PAYLOAD_BYTES:
        _refuse(f"the payload is not 1 to {_MAX_PAYLOAD_BYTES} bytes", code="MALFORMED_ENVELOPE")
    if len(envelope.signature) != ES384_SIGNATURE_BYTES:
        _refuse(f"the signature has {len(envelope.signature)} bytes, not 96", code="MALFORMED_SIGNATURE")
    return envelope.payload, envelope.signature


def _decode_payload(payload: bytes) -> dict[object, object]:
    try:
        value = decode_nsm(payload, max_bytes=_MAX_PAYLOAD_BYTES)
    except CborError as error:
        raise MalformedDocument(f"payload: {error}", code="MALFORMED_PAYLOAD") from None
    if not isinstance(value, dict):
        _refuse("the payload is not a map")
    return value


class _Fields:
    """The payload map, its keys known to be AWS's and no others."""

    def __init__(self, values: dict[object, object]) -> None:
        names = set(values)
        if not _REQUIRED <= names <= _REQUIRED | _OPTIONAL:
            _refuse("the payload's fields are not those AWS defines")
        self._values = values

    def take(self, name: str, kind: type[_T]) -> _T:
        value = self._values[name]
        # Exact type: True is an int to isinstance.
        if type(value) is not kind:
            _refuse(f"{name} has the wrong type")
        return value

    def optional_bytes(self, name: str) -> bytes | None:
        # Genuine documents write null for what was not asked for; AWS's text says a field is never null.
        if self._values.get(name) is None:
            return None
        return _sized(name, self.take(name, bytes), 0, _MAX_FIELD_BYTES)


def _module_id(text: str) -> str:
    if not 1 <= len(text) <= _MAX_MODULE_ID or not text.isprintable():
        _refuse("module_id is not 1 to 256 printable characters")
    return text


def _timestamp(milliseconds: int) -> datetime:
    if not 0 < milliseconds <= _MAX_TIMESTAMP:
        _refuse("timestamp is not a time")
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _pcrs(values: dict[object, object]) -> dict[int, bytes]:
    pcrs: dict[int, bytes] = {}
    for index, value in values.items():
        if type(index) is not int or not 0 <= index <= _MAX_PCR_INDEX:
            _refuse("a PCR index is not an integer from 0 to 31")
        if type(value) is not bytes or len(value) != PCR_BYTES:
            _refuse(f"PCR{index} is not {PCR_BYTES} bytes")
        pcrs[index] = value
    return pcrs


def _cabundle(items: list[object]) -> tuple[bytes, ...]:
    if not 1 <= len(items) <= _MAX_CABUNDLE:
        _refuse(f"cabundle does not hold 1 to {_MAX_CABUNDLE} certificates")
    return tuple(_sized("cabundle", item, 1, _MAX_CERTIFICATE_BYTES) for item in items)


def _sized(name: str, value: object, least: int, most: int) -> bytes:
    if type(value) is not bytes or not least <= len(value) <= most:
        _refuse(f"{name} is not a string of {least} to {most} bytes")
    return value


def _refuse(detail: str, *, code: str = "MALFORMED_PAYLOAD") -> NoReturn:
    raise MalformedDocument(detail, code=code)
