"""Signing a manifest, and the only way from bytes to a manifest that may be believed."""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from ephemeral.errors import ManifestError
from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerInfo, ModelFile
from ephemeral.trusted.cbor import CborError, decode, encode
from ephemeral.trusted.cose import CoseError, encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SignatureRejected, SigningKey, VerifyingKey
from ephemeral.trusted.manifest.model import KmsKeyInfo, ModelManifest, content_part
from ephemeral.verification import VerificationStep

_PROTECTED: Final = encode({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})
_SCHEMA: Final = 1  # version of the payload's schema, under key 0
_PUBLISHER: Final = 5


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest that a known publisher signed; `digest` is the SHA-256 of the signed payload bytes."""

    manifest: ModelManifest
    digest: bytes
    raw: bytes
    steps: tuple[VerificationStep, ...] = ()


@dataclass(frozen=True, slots=True)
class UnverifiedManifest:
    """A manifest of the right form whose signature nobody checked; only its digest can say that it is the one meant."""

    manifest: ModelManifest
    digest: bytes
    raw: bytes
    steps: tuple[VerificationStep, ...] = ()


def sign_manifest(manifest: ModelManifest, key: SigningKey) -> bytes:
    """Sign a manifest as its publisher: tagged COSE_Sign1, EdDSA, deterministic CBOR payload.

    Raises:
        ValueError: the manifest names another publisher, or is too large.
    """
    if manifest.publisher_key_id != key_id(key.verifying_key):
        raise ValueError("publisher_key_id is not this key's")
    payload = encode(_payload(manifest))
    raw = encode_sign1(_PROTECTED, payload, key.sign(sig_structure(_PROTECTED, payload)), tagged=True)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ValueError(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes")
    return raw


def verify_manifest(raw: bytes, publishers: Collection[VerifyingKey]) -> VerifiedManifest:
    """Verify a manifest under the keys of the publishers that are trusted.

    1. form: size, one tagged COSE_Sign1 in its one encoding, our header, a deterministic CBOR map
    2. publisher: the key id in the payload is that of a given key
    3. signature: that key's, over the bytes as received
    4. schema: closed, every field of its type and within bounds

    Raises:
        ManifestError: MANIFEST_MALFORMED, MANIFEST_UNKNOWN_PUBLISHER or MANIFEST_FORGED.
    """
    if not publishers:
        raise ValueError("no publisher is trusted: every manifest would be refused")
    steps: list[VerificationStep] = []
    try:
        envelope, values = _form(raw, steps)  # 1
        publisher = _publisher(values.get(_PUBLISHER), publishers)  # 2
        steps.append(VerificationStep("manifest.publisher", "Publisher", f"key {publisher.raw.hex()} is trusted"))
        _check_signature(envelope, publisher)  # 3
        steps.append(VerificationStep("manifest.signature", "Signature", f"Ed25519 by {publisher.raw.hex()}"))
        manifest = _schema(values, steps)  # 4
    except ManifestError as error:
        error.steps = tuple(steps)
        raise
    return VerifiedManifest(manifest, sha256(envelope.payload).digest(), raw, tuple(steps))


def parse_manifest(raw: bytes) -> UnverifiedManifest:
    """Parse a manifest without believing it: steps 1 and 4 of `verify_manifest`.

    Raises:
        ManifestError: MANIFEST_MALFORMED.
    """
    steps: list[VerificationStep] = []
    try:
        envelope, values = _form(raw, steps)
        manifest = _schema(values, steps)
    except ManifestError as error:
        error.steps = tuple(steps)
        raise
    return UnverifiedManifest(manifest, sha256(envelope.payload).digest(), raw, tuple(steps))


def key_id(key: VerifyingKey) -> bytes:
    """Return the publisher key id: SHA-256 of the raw public key."""
    return sha256(key.raw).digest()


def _malformed(detail: str) -> ManifestError:
    return ManifestError(f"malformed manifest: {detail}", code="MANIFEST_MALFORMED")


@dataclass(frozen=True, slots=True)
class _Signed:
    """The two parts of an envelope with our header that are not fixed."""

    payload: bytes
    signature: bytes


def _form(raw: bytes, steps: list[VerificationStep]) -> tuple[_Signed, dict[object, object]]:
    signed = _parse_envelope(raw)
    values = _parse_map(signed.payload)
    steps.append(VerificationStep("manifest.form", "Form", f"one COSE_Sign1 of {len(raw)} bytes, nothing left over"))
    return signed, values


def _schema(values: dict[object, object], steps: list[VerificationStep]) -> ModelManifest:
    try:
        manifest = _manifest(values)
    except ValueError as error:
        raise _malformed(str(error)) from None
    text = f"{manifest.model_id} version {manifest.version}, {len(manifest.files)} files, each with its SHA-256"
    steps.append(VerificationStep("manifest.schema", "Schema", text))
    return manifest


def _check_signature(signed: _Signed, publisher: VerifyingKey) -> None:
    try:
        publisher.verify(signed.signature, sig_structure(_PROTECTED, signed.payload))
    except SignatureRejected:
        raise ManifestError("the publisher did not sign this manifest", code="MANIFEST_FORGED") from None


def _parse_envelope(raw: bytes) -> _Signed:
    try:
        envelope = parse_sign1(raw, max_bytes=MAX_MANIFEST_BYTES)
    except CoseError as error:
        raise _malformed(str(error)) from None
    if not envelope.tagged or envelope.protected != _PROTECTED or envelope.unprotected:
        raise _malformed("not the tag and headers of a manifest")
    if envelope.payload is None:
        raise _malformed("no payload")
    return _Signed(envelope.payload, envelope.signature)


def _parse_map(payload: bytes) -> dict[object, object]:
    try:
        values = decode(payload, max_bytes=MAX_MANIFEST_BYTES)
    except CborError as error:
        raise _malformed(str(error)) from None
    if not isinstance(values, dict):
        raise _malformed("not a map")
    return values


def _publisher(wanted: object, publishers: Collection[VerifyingKey]) -> VerifyingKey:
    if not isinstance(wanted, bytes):
        raise _malformed("no publisher key id")
    for publisher in publishers:
        if key_id(publisher) == wanted:
            return publisher
    raise ManifestError("no trusted publisher has this key id", code="MANIFEST_UNKNOWN_PUBLISHER")


def _payload(manifest: ModelManifest) -> dict[int, object]:
    container, kms = manifest.container, manifest.kms
    return {
        0: _SCHEMA,
        1: content_part(manifest.model_id, manifest.version, manifest.architecture, manifest.files),
        2: {
            1: container.key,
            2: container.sha256,
            3: container.size,
            4: container.chunk_bytes,
            5: container.container_id,
        },
        3: {1: kms.key_arn, 2: kms.wrapped_data_key, 3: kms.dek_commitment},
        4: manifest.created_at,
        _PUBLISHER: manifest.publisher_key_id,
    }


def _manifest(values: dict[object, object]) -> ModelManifest:
    schema, content, container, kms, created_at, publisher = _record(values, 0, int, dict, dict, dict, int, bytes)
    if schema != _SCHEMA:
        raise ValueError("another schema")
    model_id, version, architecture, rows = _record(content, 1, str, int, str, list)
    return ModelManifest(
        model_id=model_id,
        version=version,
        architecture=architecture,
        files=tuple(ModelFile(*_record(row, 1, str, bytes, int)) for row in rows),
        container=ContainerInfo(*_record(container, 1, str, bytes, int, int, bytes)),
        kms=KmsKeyInfo(*_record(kms, 1, str, bytes, bytes)),
        created_at=created_at,
        publisher_key_id=publisher,
    )


def _record(value: object, first: int, *types: type) -> list[Any]:
    """Return the values of a closed map with keys `first`, `first` + 1, ..., each exactly of its type."""
    keys = range(first, first + len(types))
    if not isinstance(value, dict) or {(type(key), key) for key in value} != {(int, key) for key in keys}:
        raise ValueError("a field is missing or does not belong")
    for key, kind in zip(keys, types, strict=True):
        if type(value[key]) is not kind:
            raise ValueError(f"field {key} is not {kind.__name__}")
    return [value[key] for key in keys]
