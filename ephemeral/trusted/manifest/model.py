"""A manifest as values: every field bounded, so that a ModelManifest that exists is one that may be signed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ephemeral.protocol import LABEL_DEK_COMMITMENT, MAX_WRAPPED_KEY_BYTES, SHA256_BYTES
from ephemeral.trusted.artifact import ContainerInfo, ModelFile, container_size
from ephemeral.trusted.cbor import encode
from ephemeral.trusted.secrets import SecretBytes

MAX_FILES: Final = 256
MAX_VERSION: Final = 2**53 - 1  # exact in every JSON reader of a log
MAX_CREATED_AT: Final = 2**40
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}", re.ASCII)
_ARCHITECTURE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
# A key, never an alias: whoever may move an alias would choose the key (AWS KMS, "Key ARN").
_KEY_ARN: Final = re.compile(r"arn:aws[a-z-]{0,16}:kms:[a-z0-9-]{1,32}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KmsKeyInfo:
    """The KMS key by ARN, the data key it wrapped, and the SHA-256 commitment to that data key."""

    key_arn: str
    wrapped_data_key: bytes
    dek_commitment: bytes

    def __post_init__(self) -> None:
        if not _KEY_ARN.fullmatch(self.key_arn):
            raise ValueError("key_arn is not the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID")
        if not 1 <= len(self.wrapped_data_key) <= MAX_WRAPPED_KEY_BYTES:
            raise ValueError(f"a wrapped data key has 1 to {MAX_WRAPPED_KEY_BYTES} bytes")
        _check_digest(self.dek_commitment)


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """What a publisher says a model is; `files` lie in the container in this order, `created_at` is in Unix seconds."""

    model_id: str
    version: int
    architecture: str
    files: tuple[ModelFile, ...]
    container: ContainerInfo
    kms: KmsKeyInfo
    created_at: int
    publisher_key_id: bytes

    def __post_init__(self) -> None:
        _check_content(self.model_id, self.version, self.architecture, self.files)
        plaintext_size = sum(file.size for file in self.files)
        if container_size(plaintext_size, self.container.chunk_bytes) != self.container.size:
            raise ValueError("the container's size does not fit its files")
        if not 1 <= self.created_at <= MAX_CREATED_AT:
            raise ValueError("created_at is out of range")
        _check_digest(self.publisher_key_id)

    @property
    def plaintext_size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def content_digest(self) -> bytes:
        """SHA-256 of the content part, 32 bytes."""
        return content_digest(self.model_id, self.version, self.architecture, self.files)

    @property
    def encryption_context(self) -> dict[str, str]:
        """The KMS encryption context of the data key."""
        return encryption_context(self.model_id, self.version, self.content_digest)


def content_part(model_id: str, version: int, architecture: str, files: Iterable[ModelFile]) -> dict[int, object]:
    """Return what the model is, apart from where it lies and who can open it."""
    rows = [{1: file.name, 2: file.sha256, 3: file.size} for file in files]
    return {1: model_id, 2: version, 3: architecture, 4: rows}


def content_digest(model_id: str, version: int, architecture: str, files: Sequence[ModelFile]) -> bytes:
    """Return the SHA-256 of the content part; a publisher needs it before there is a data key.

    Raises:
        ValueError: no manifest may have this content.
    """
    _check_content(model_id, version, architecture, files)
    return sha256(encode(content_part(model_id, version, architecture, files))).digest()


def encryption_context(model_id: str, version: int, content_digest: bytes) -> dict[str, str]:
    """Return the KMS encryption context, exact on both sides: wrapping and release."""
    return {"model_id": model_id, "version": str(version), "content_sha256": content_digest.hex()}


def dek_commitment(dek: SecretBytes) -> bytes:
    """Return SHA-256(label || data key), 32 bytes: KMS's answer is believed only when it matches (SPEC, "Release")."""
    commitment = sha256(LABEL_DEK_COMMITMENT)
    commitment.update(dek.reveal())
    return commitment.digest()


def model_set_digest(served: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return the digest of (model id, version, manifest digest) of all models an enclave serves, in any order."""
    return sha256(encode(sorted(served))).digest()


def _check_content(model_id: str, version: int, architecture: str, files: Sequence[ModelFile]) -> None:
    if not _MODEL_ID.fullmatch(model_id):
        raise ValueError("a model id is up to 128 letters, digits, '_', '-', '.', '/'")
    if not 1 <= version <= MAX_VERSION:
        raise ValueError("a version is a number from 1")
    if not _ARCHITECTURE.fullmatch(architecture):
        raise ValueError("an architecture is up to 64 letters, digits, '_', '-', '.'")
    if not 1 <= len(files) <= MAX_FILES:
        raise ValueError(f"a model has 1 to {MAX_FILES} files")
    _check_names([file.name.lower() for file in files])


def _check_names(names: Sequence[str]) -> None:
    # Compared without case: on some file systems "A" and "a" are one file, and the later would replace the earlier.
    folders = {name.split("/")[0] for name in names if "/" in name}
    if len(set(names)) != len(names) or folders & set(names):
        raise ValueError("two files have one name")


def _check_digest(digest: bytes) -> None:
    if len(digest) != SHA256_BYTES:
        raise ValueError(f"a SHA-256 has {SHA256_BYTES} bytes")
