"""CBOR, COSE and what is signed with it: receipts, manifests, policies, bundles."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ephemeral.errors import EvidenceError, ManifestError, PolicyError, ReceiptError
from ephemeral.protocol import MAX_MANIFEST_BYTES, MAX_RECEIPT_BYTES
from ephemeral.trusted.artifact import ContainerInfo, ModelFile, container_size
from ephemeral.trusted.cbor import CborError, decode, decode_nsm, encode
from ephemeral.trusted.cose import CoseError, encode_sign1, parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import KmsKeyInfo, ModelManifest, key_id, sign_manifest, verify_manifest
from ephemeral.trusted.policy import sign_policy, verify_policy
from ephemeral.trusted.policy.signed import MAX_SIGNED_POLICY_BYTES
from ephemeral.trusted.receipt import (
    EnclaveMeasurements,
    ReceiptClaims,
    ReceiptExpectations,
    issue_receipt,
    verify_receipt,
)
from ephemeral.trusted.receipt.parse import read_receipt
from ephemeral.trusted.receipt.template import fitting
from ephemeralml.bundle import MAX_BUNDLE_BYTES, Build, Bundle, Messages
from fuzz.target import Target

KEY: Final = SigningKey.from_seed(b"fuzz".ljust(32, b"\0"))
AT: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)
_RECEIPT_HEADER: Final = bytes.fromhex("a2012703183d")
_MANIFEST_HEADER: Final = encode({1: -8, 3: "application/vnd.ephemeralml.manifest+cbor"})
_MAX_CBOR: Final = 65_536
POLICY: Final = f"""
version = 1
name = "fuzz"
serial = 7
not_after = 2027-01-01T00:00:00Z
[[roots]]
name = "test"
sha256 = "{"ab" * 32}"
evaluation = true
[[measurements]]
label = "build"
pcr0 = "{"01" * 48}"
pcr1 = "{"02" * 48}"
pcr2 = "{"03" * 48}"
not_before = 2026-01-01T00:00:00Z
[[models]]
model_id = "m"
min_version = 2
[[publishers]]
name = "models team"
public_key = "{KEY.verifying_key.raw.hex()}"
"""


def _signed(protected: bytes, payload: bytes) -> bytes:
    return encode_sign1(protected, payload, KEY.sign(sig_structure(protected, payload)), tagged=True)


def _cbor(raw: bytes) -> None:
    """Both modes; what the deterministic one accepts has no second spelling."""
    with suppress(CborError):
        decode_nsm(raw, max_bytes=_MAX_CBOR)
    assert encode(decode(raw, max_bytes=_MAX_CBOR)) == raw


def _cbor_seeds() -> Mapping[str, bytes]:
    value = {0: "text", 1: b"bytes", 2: [1, -1, 2**64 - 1, None, True], 3: {"nested": {"map": []}}}
    return {"value": encode(value), "integer": b"\0", "bad-indefinite": b"\xbf\x00\x00\xff", "bad-tag": b"\xc0\x00"}


def _cose_seeds() -> Mapping[str, bytes]:
    sealed = _signed(_RECEIPT_HEADER, b"payload")
    return {"tagged": sealed, "untagged": sealed[1:], "bad-three": b"\x83" + sealed[2:]}


def _receipt(raw: bytes) -> None:
    """As received, and as the payload of a receipt that the right key signed: the checks behind the signature.

    What fits the template is the same receipt to the general reader.
    """
    expected = ReceiptExpectations(accept_evaluation=True)
    for receipt in (_signed(_RECEIPT_HEADER, raw), raw):
        assert (short := fitting(receipt)) is None or short == read_receipt(receipt)
        try:
            verify_receipt(receipt, KEY.verifying_key, expected, now=AT)
        except ReceiptError as error:
            refused = error
        else:
            return
    raise refused


def receipt() -> bytes:
    """Return a receipt under KEY, made at AT."""
    digests = {f"{name}_hash": hashlib.sha256(name.encode()).digest() for name in ("model", "request", "response")}
    claims = ReceiptClaims(
        iss="fuzz",
        iat=int(AT.timestamp()),
        cti=bytes(range(16)),
        model_id="m",
        model_version="1",
        **digests,
        attestation_doc_hash=hashlib.sha256(b"document").digest(),
        measurements=EnclaveMeasurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, pcr3=b"\x04" * 48),
        policy_version="1",
        sequence_number=1,
        execution_time_ms=2,
        memory_peak_mb=3,
        security_mode="evaluation",
        eat_nonce=bytes(range(32)),
        model_hash_scheme="sha256-manifest",
    )
    return issue_receipt(claims, KEY)


def _receipt_seeds() -> Mapping[str, bytes]:
    whole = receipt()
    payload = parse_sign1(whole, max_bytes=MAX_RECEIPT_BYTES).payload or b""
    return {"receipt": whole, "payload": payload, "bad-untagged": whole[1:]}


def _manifest(raw: bytes) -> None:
    """As received, and as the payload of a manifest that the right publisher signed."""
    for manifest in (_signed(_MANIFEST_HEADER, raw), raw):
        try:
            verify_manifest(manifest, [KEY.verifying_key])
        except ManifestError as error:
            refused = error
        else:
            return
    raise refused


def manifest(files: int = 2) -> bytes:
    """Return a manifest under KEY."""
    rows = tuple(ModelFile(f"folder/file-{number}", bytes([number % 256]) * 32, number + 1) for number in range(files))
    size = container_size(sum(row.size for row in rows), 4096)
    content = ModelManifest(
        model_id="m",
        version=1,
        architecture="sentence-transformers",
        files=rows,
        container=ContainerInfo("models/m", b"\x05" * 32, size, 4096, b"\x06" * 16),
        kms=KmsKeyInfo("arn:aws:kms:eu-central-1:123456789012:key/k", b"wrapped", b"\x07" * 32),
        created_at=int(AT.timestamp()),
        publisher_key_id=key_id(KEY.verifying_key),
    )
    return sign_manifest(content, KEY)


def _manifest_seeds() -> Mapping[str, bytes]:
    whole = manifest()
    payload = parse_sign1(whole, max_bytes=MAX_MANIFEST_BYTES).payload or b""
    return {"manifest": whole, "payload": payload, "bad-untagged": whole[1:]}


def _signed_policy(raw: bytes) -> None:
    verify_policy(raw, KEY.verifying_key, now=AT)


def _signed_policy_seeds() -> Mapping[str, bytes]:
    signed = sign_policy(POLICY.encode(), KEY, now=AT - timedelta(days=1))
    return {"policy": signed, "bad-cut": signed[:-1]}


def _bundle_seeds() -> Mapping[str, bytes]:
    build = Build("0.1.0", "0.1.0", bytes(32), bytes(32))
    parts = {"document": b"document", "receipt": receipt(), "manifest": manifest(), "models": (("m", 1, bytes(32)),)}
    whole = Bundle(**parts, policy_digest=bytes(32), sdk_version="0.1.0", build=build)  # type: ignore[arg-type]
    told = replace(whole, messages=Messages(b"request", b"result"))
    return {"bundle": whole.encode(), "messages": told.encode(), "bad-cut": whole.encode()[:-1]}


TARGETS: Final = (
    Target("cbor", _cbor, (CborError,), _cbor_seeds, _MAX_CBOR),
    Target("cose", lambda raw: parse_sign1(raw, max_bytes=_MAX_CBOR), (CoseError,), _cose_seeds, _MAX_CBOR),
    Target("receipt", _receipt, (ReceiptError,), _receipt_seeds, MAX_RECEIPT_BYTES),
    Target("manifest", _manifest, (ManifestError,), _manifest_seeds, MAX_MANIFEST_BYTES),
    Target("bundle", Bundle.parse, (EvidenceError,), _bundle_seeds, MAX_BUNDLE_BYTES),
    Target("signed_policy", _signed_policy, (PolicyError,), _signed_policy_seeds, MAX_SIGNED_POLICY_BYTES),
)
