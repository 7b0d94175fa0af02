"""Sections 11, 12 and 13: receipts, manifests, containers."""

from dataclasses import fields
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ephemeral.protocol import LABEL_CONTAINER
from ephemeral.trusted.artifact import ContainerInfo, ContainerOpener, ModelFile, container_size
from ephemeral.trusted.artifact.layout import chunk_aad, chunk_nonce, container_cipher, encode_header
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.cose import parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import KmsKeyInfo, ModelManifest, dek_commitment, key_id, sign_manifest, verify_manifest
from ephemeral.trusted.manifest.model import content_part
from ephemeral.trusted.receipt import EnclaveMeasurements, ReceiptClaims, issue_receipt
from ephemeral.trusted.secrets import SecretBytes
from tests.vectors.attested_cases import RECEIPT_SEED
from tests.vectors.cases import Values, VectorFile, counting

DEK: Final = counting(0x30, 32)
CONTAINER_ID: Final = counting(0x50, 16)
NONCE_PREFIX: Final = counting(0x60, 4)
PUBLISHER_SEED: Final = counting(0x70, 32)


def plaintext(size: int) -> bytes:
    """Return the plaintext of a vector: byte i is i mod 251."""
    return bytes(index % 251 for index in range(size))


def _data_key(inputs: Values) -> Values:
    key = HKDF(SHA256(), 32, inputs["container_id"], LABEL_CONTAINER).derive(inputs["data_key"])
    return {"dek_commitment": dek_commitment(SecretBytes(inputs["data_key"])), "container_key": key}


DATA_KEY: Final = VectorFile(
    name="data-key",
    section="12.3 and 13",
    description="What is derived from a data key: the commitment in the manifest, and the key of its one container.",
    derive=_data_key,
    cases={
        "one container": {"data_key": DEK, "container_id": CONTAINER_ID},
        "counting from 0": {"data_key": counting(0, 32), "container_id": counting(1, 16)},
    },
)


def _container(inputs: Values) -> Values:
    content, size = plaintext(inputs["plaintext_size"]), inputs["chunk_bytes"]
    cipher = container_cipher(SecretBytes(inputs["data_key"]), inputs["container_id"])
    header = encode_header(size, inputs["container_id"], inputs["nonce_prefix"])
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    chunks = [
        {"nonce": chunk_nonce(header, index), "aad": chunk_aad(header, index, final=index == len(pieces) - 1)}
        for index in range(len(pieces))
    ]
    sealed = [cipher.encrypt(chunk["nonce"], piece, chunk["aad"]) for chunk, piece in zip(chunks, pieces, strict=True)]
    container = b"".join([header, *sealed])
    _open(container, content, inputs)
    digest = sha256(container).digest()
    return {"header": header, "chunks": chunks, "container": container, "size": len(container), "sha256": digest}


def _open(container: bytes, content: bytes, inputs: Values) -> None:
    """Open what was composed with the product's reader: it must be a container."""
    digest = sha256(container).digest()
    info = ContainerInfo("c", digest, len(container), inputs["chunk_bytes"], inputs["container_id"])
    opener = ContainerOpener(info, len(content), SecretBytes(inputs["data_key"]))
    opener.push(container)
    assert opener.finish() == content


_CONTAINER: Final[dict[str, Any]] = {
    "data_key": DEK,
    "container_id": CONTAINER_ID,
    "nonce_prefix": NONCE_PREFIX,
    "chunk_bytes": 4096,
    "plaintext_size": 2,
}
CONTAINER: Final = VectorFile(
    name="container",
    section="13",
    description="Complete containers. Byte i of the plaintext is i mod 251. The nonce prefix is random in use.",
    derive=_container,
    cases={
        "two bytes": _CONTAINER,
        "one chunk, full": _CONTAINER | {"plaintext_size": 4096},
        "two chunks, the last of one byte": _CONTAINER | {"plaintext_size": 4097},
    },
)


def manifest_of(inputs: Values) -> ModelManifest:
    """Return the manifest that the inputs describe."""
    files = tuple(ModelFile(**file) for file in inputs["files"])
    parts = {name: inputs[name] for name in ("model_id", "version", "architecture", "created_at")}
    return ModelManifest(
        **parts,
        files=files,
        container=ContainerInfo(**inputs["container"]),
        kms=KmsKeyInfo(**inputs["kms"]),
        publisher_key_id=key_id(SigningKey.from_seed(inputs["publisher_seed"]).verifying_key),
    )


def _manifest(inputs: Values) -> Values:
    manifest, key = manifest_of(inputs), SigningKey.from_seed(inputs["publisher_seed"])
    raw = sign_manifest(manifest, key)
    verified, envelope = verify_manifest(raw, [key.verifying_key]), parse_sign1(raw, max_bytes=len(raw))
    content = content_part(manifest.model_id, manifest.version, manifest.architecture, manifest.files)
    return {
        "publisher_key": key.verifying_key.raw,
        "publisher_key_id": manifest.publisher_key_id,
        "content_part": encode(content),
        "content_digest": manifest.content_digest,
        "encryption_context": manifest.encryption_context,
        "protected": envelope.protected,
        "payload": envelope.payload,
        "sig_structure": sig_structure(envelope.protected, envelope.payload or b""),
        "signature": envelope.signature,
        "manifest": raw,
        "manifest_digest": verified.digest,
    }


MANIFEST: Final[dict[str, Any]] = {
    "model_id": "m",
    "version": 1,
    "architecture": "sentence-transformers",
    "files": [{"name": "config.json", "sha256": sha256(plaintext(2)).digest(), "size": 2}],
    "container": {
        "key": "models/m/1/container",
        "sha256": counting(0, 32),
        "size": container_size(2, 4096),
        "chunk_bytes": 4096,
        "container_id": CONTAINER_ID,
    },
    "kms": {
        "key_arn": "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000",
        "wrapped_data_key": b"wrapped",
        "dek_commitment": dek_commitment(SecretBytes(DEK)),
    },
    "created_at": 1_768_478_400,
    "publisher_seed": PUBLISHER_SEED,
}
_TWO_FILES: Final = [
    {"name": "1_Pooling/config.json", "sha256": counting(1, 32), "size": 4096},
    {"name": "model.safetensors", "sha256": counting(2, 32), "size": 70_000},
]
MANIFESTS: Final = VectorFile(
    name="manifest",
    section="12",
    description="Signed manifests: content part and its digest, encryption context, payload, Sig_structure, signature, "
    "digest. The publisher's key is given by its Ed25519 seed.",
    derive=_manifest,
    cases={
        "one file": MANIFEST,
        "two files, one in a folder": MANIFEST
        | {
            "model_id": "org/model-2",
            "version": 24,
            "files": _TWO_FILES,
            "container": MANIFEST["container"] | {"size": container_size(74_096, 65_536), "chunk_bytes": 65_536},
        },
    },
)


def claims_of(claims: Values) -> ReceiptClaims:
    """Return the claims that a mapping by name describes."""
    names = {field.name for field in fields(ReceiptClaims)} - {"measurements"}
    values = {name: value for name, value in claims.items() if name in names}
    return ReceiptClaims(measurements=EnclaveMeasurements(**claims["enclave_measurements"]), **values)


def _receipt(inputs: Values) -> Values:
    key = SigningKey.from_seed(inputs["receipt_seed"])
    raw = issue_receipt(claims_of(inputs["claims"]), key)
    envelope = parse_sign1(raw, max_bytes=len(raw))
    return {
        "receipt_key": key.verifying_key.raw,
        "payload": envelope.payload,
        "sig_structure": sig_structure(envelope.protected, envelope.payload or b""),
        "signature": envelope.signature,
        "receipt": raw,
    }


CLAIMS: Final[dict[str, Any]] = {
    "iss": "ephemeralml",
    "iat": 1_768_478_400,
    "cti": counting(1, 16),
    "eat_nonce": counting(0, 32),
    "eat_profile": "https://spec.cyntrisec.com/air/v1",
    "model_id": "m",
    "model_version": "1",
    "model_hash": counting(2, 32),
    "request_hash": counting(3, 32),
    "response_hash": counting(4, 32),
    "attestation_doc_hash": counting(5, 32),
    "enclave_measurements": {
        "pcr0": b"\xa0" * 48,
        "pcr1": b"\xa1" * 48,
        "pcr2": b"\xa2" * 48,
        "measurement_type": "nitro-pcr",
    },
    "policy_version": "enclave-config sha256:" + counting(0, 32).hex(),
    "sequence_number": 1,
    "execution_time_ms": 7,
    "memory_peak_mb": 512,
    "security_mode": "evaluation",
    "model_hash_scheme": "sha256-manifest",
}
_MEASURED: Final = CLAIMS["enclave_measurements"] | {"pcr3": b"\xa3" * 48, "pcr4": b"\xa4" * 48, "pcr8": b"\xa8" * 48}
RECEIPTS: Final = VectorFile(
    name="receipt",
    section="11",
    description="Receipts from their claims by name. The receipt key is given by its Ed25519 seed.",
    derive=_receipt,
    cases={
        "as this system issues them": {"claims": CLAIMS, "receipt_seed": RECEIPT_SEED},
        "all registers, production": {
            "claims": CLAIMS | {"enclave_measurements": _MEASURED, "security_mode": "production"},
            "receipt_seed": RECEIPT_SEED,
        },
        "no optional claim": {
            "claims": {name: value for name, value in CLAIMS.items() if name not in ("eat_nonce", "model_hash_scheme")},
            "receipt_seed": RECEIPT_SEED,
        },
    },
)
FILES: Final = (DATA_KEY, CONTAINER, MANIFESTS, RECEIPTS)
