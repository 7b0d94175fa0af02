"""The bundle: everything that re-checks one answer years later, in one file (docs/SPEC.md, "Bundle").

::

    {0: "ephemeralml/bundle/v1", 1: document, 2: receipt, 3: signed manifest,
     4: [[model id, version, manifest digest], …],
     5: policy digest, 6: {1: SDK version, 2: protocol, 3: [protocol library, enclave, libraries, configuration]},
     7: request, 8: result,                      both or neither: they are plaintext
     9: SHA-256 of the deterministic CBOR of all the above}

Deterministic CBOR, closed. The last field finds damage; it is no signature. What vouches for the parts is in the parts.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

from ephemeral.errors import EvidenceError
from ephemeral.protocol import (
    MAX_DOCUMENT_BYTES,
    MAX_FRAME_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MODELS,
    MAX_RECEIPT_BYTES,
    SHA256_BYTES,
    VERSION,
)
from ephemeral.trusted.attestation import build_digest
from ephemeral.trusted.cbor import CborError, decode, encode
from ephemeral.trusted.manifest import model_set_digest

FORMAT: Final = "ephemeralml/bundle/v1"
MAX_BUNDLE_BYTES: Final = 2 * MAX_FRAME_BYTES + 524_288
_MAX_TEXT: Final = 128
_EVIDENCE: Final = {1: MAX_DOCUMENT_BYTES, 2: MAX_RECEIPT_BYTES, 3: MAX_MANIFEST_BYTES}
_POLICY, _MODELS, _VERSIONS, _REQUEST, _RESULT, _DIGEST = 5, 4, 6, 7, 8, 9
_ALWAYS: Final = frozenset({0, *_EVIDENCE, _MODELS, _POLICY, _VERSIONS, _DIGEST})


@dataclass(frozen=True, slots=True)
class Build:
    """What the attested build digest is the hash of; `libraries` and `configuration` are SHA-256."""

    protocol_version: str
    enclave_version: str
    libraries: bytes
    configuration: bytes

    @property
    def digest(self) -> bytes:
        """Return what the document must attest, 32 bytes."""
        return build_digest(self.protocol_version, self.enclave_version, self.libraries, self.configuration)


@dataclass(frozen=True, slots=True, repr=False)
class Messages:
    """The exact plaintext messages whose hashes the receipt holds: what was asked, and what was answered."""

    request: bytes
    result: bytes

    def __repr__(self) -> str:
        return f"Messages(<{len(self.request)} and {len(self.result)} bytes of plaintext>)"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The parts of a bundle, of the right form and undamaged; nothing here is verified.

    `models` are (model id, version, manifest digest) of all that the enclave served, `policy_digest` is that of the
    policy under which the client accepted the enclave.
    """

    document: bytes
    receipt: bytes
    manifest: bytes
    models: tuple[tuple[str, int, bytes], ...]
    policy_digest: bytes
    sdk_version: str
    build: Build
    messages: Messages | None = None

    @property
    def model_set_digest(self) -> bytes:
        """Return what the document must attest of `models`, 32 bytes."""
        return model_set_digest(self.models)

    def encode(self) -> bytes:
        """Return the file.

        Raises:
            ValueError: a part is missing or larger than its format allows.
        """
        content = self._content()
        raw = encode({**content, _DIGEST: hashlib.sha256(encode(content)).digest()})
        try:
            type(self).parse(raw)
        except EvidenceError as error:
            raise ValueError(error.detail) from None
        return raw

    def _content(self) -> dict[int, object]:
        build = self.build
        stated = [build.protocol_version, build.enclave_version, build.libraries, build.configuration]
        content: dict[int, object] = {
            0: FORMAT,
            1: self.document,
            2: self.receipt,
            3: self.manifest,
            _MODELS: [list(model) for model in self.models],
            _POLICY: self.policy_digest,
            _VERSIONS: {1: self.sdk_version, 2: VERSION, 3: stated},
        }
        if self.messages is not None:
            content |= {_REQUEST: self.messages.request, _RESULT: self.messages.result}
        return content

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a file of at most `MAX_BUNDLE_BYTES`.

        Raises:
            EvidenceError: BUNDLE_MALFORMED, BUNDLE_VERSION or BUNDLE_DAMAGED.
        """
        values = _open(raw)
        digest = values.pop(_DIGEST)
        document, receipt, manifest = (_sized(values[key], 1, most) for key, most in _EVIDENCE.items())
        sdk_version, build = _versions(values[_VERSIONS])
        bundle = cls(
            document=document,
            receipt=receipt,
            manifest=manifest,
            models=_models(values[_MODELS]),
            policy_digest=_sized(values[_POLICY], SHA256_BYTES, SHA256_BYTES),
            sdk_version=sdk_version,
            build=build,
            messages=_messages(values),
        )
        if hashlib.sha256(encode(values)).digest() != digest:
            raise EvidenceError("the bundle's bytes are not those that were written", code="BUNDLE_DAMAGED")
        return bundle


def _open(raw: bytes) -> dict[int, Any]:
    try:
        values = decode(raw, max_bytes=MAX_BUNDLE_BYTES)
    except CborError as error:
        raise _malformed(str(error)) from None
    # Exact type: True is 1 as a key.
    if not isinstance(values, dict) or any(type(key) is not int for key in values):
        raise _malformed("not a map of numbered fields")
    if values.get(0) != FORMAT:
        raise EvidenceError(f"not of the format {FORMAT}", code="BUNDLE_VERSION")
    if frozenset(values) not in (_ALWAYS, _ALWAYS | {_REQUEST, _RESULT}):
        raise _malformed("a field is missing or does not belong")
    return values


def _models(rows: object) -> tuple[tuple[str, int, bytes], ...]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_MODELS:
        raise _malformed(f"not 1 to {MAX_MODELS} models")
    return tuple(_model(row) for row in rows)


def _model(row: object) -> tuple[str, int, bytes]:
    match row:
        case [str() as model_id, int() as version, bytes() as digest] if type(version) is int:
            return _text(model_id), version, _sized(digest, SHA256_BYTES, SHA256_BYTES)
        case _:
            raise _malformed("a model is not its id, version and digest")


def _versions(value: object) -> tuple[str, Build]:
    match value:
        case {1: str() as sdk, 2: int() as protocol, 3: list() as stated} if _numbered(value, 3):
            if type(protocol) is not int or protocol != VERSION:
                raise EvidenceError(f"not of protocol version {VERSION}", code="BUNDLE_VERSION")
            return _text(sdk), _build(stated)
        case _:
            raise _malformed("the versions are not those of the format")


def _numbered(value: object, count: int) -> bool:
    """Say whether a map has exactly the keys 1 to `count`; true is no 1 here."""
    return isinstance(value, dict) and [(type(key), key) for key in value] == [
        (int, key) for key in range(1, count + 1)
    ]


def _build(stated: list[object]) -> Build:
    match stated:
        case [str() as library, str() as enclave, bytes() as libraries, bytes() as configuration]:
            hashes = (_sized(value, SHA256_BYTES, SHA256_BYTES) for value in (libraries, configuration))
            return Build(_text(library), _text(enclave), *hashes)
        case _:
            raise _malformed("the versions of the enclave are not those of the format")


def _messages(values: dict[int, Any]) -> Messages | None:
    if _REQUEST not in values:
        return None
    return Messages(_sized(values[_REQUEST], 1, MAX_FRAME_BYTES), _sized(values[_RESULT], 1, MAX_FRAME_BYTES))


def _sized(value: object, least: int, most: int) -> bytes:
    if not isinstance(value, bytes) or not least <= len(value) <= most:
        raise _malformed(f"a field is not {least} to {most} bytes")
    return value


def _text(value: str) -> str:
    if not 1 <= len(value) <= _MAX_TEXT or not value.isprintable():
        raise _malformed(f"a text is not 1 to {_MAX_TEXT} printable characters")
    return value


def _malformed(detail: str) -> EvidenceError:
    return EvidenceError(f"malformed bundle: {detail}", code="BUNDLE_MALFORMED")
