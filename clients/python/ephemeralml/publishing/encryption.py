"""Encryption of a model's folder under a fresh data key from KMS; what reaches the disk is ciphertext."""

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ephemeral.errors import ConfigError
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.trusted.artifact import ContainerInfo, ModelFile, seal_container
from ephemeral.trusted.manifest import KmsKeyInfo, content_digest, dek_commitment, encryption_context
from ephemeral.trusted.secrets import SecretBytes
from ephemeralml.publishing.aws import kms_errors
from ephemeralml.publishing.checks import CheckedModel
from ephemeralml.publishing.draft import Draft
from ephemeralml.publishing.folder import read_packed
from ephemeralml.publishing.prepared import PreparedRelease, container_path, draft_path, write_whole
from ephemeralml.publishing.release import Release, check_key_arn

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

_CONTAINER_ID_BYTES: Final = 16
Progress = Callable[[int], object]


def model_files(model: CheckedModel) -> tuple[ModelFile, ...]:
    """Return the files as a manifest names them."""
    return tuple(ModelFile(file.name, file.sha256, file.size) for file in model.files)


def encrypt_model(
    model: CheckedModel,
    release: Release,
    folder: Path,
    *,
    key_arn: str,
    kms: "KMSClient",
    progress: Progress | None = None,
) -> PreparedRelease:
    """Seal the model under a data key of its own into `folder`; `progress` is told the bytes of each sealed piece.

    Raises:
        ConfigError: `key_arn` is no key's ARN, `folder` cannot be written, or RELEASE_PRESENT: one is in it.
        ModelFormatError: a file changed since it was checked.
        KmsDenied, KmsUnavailable: no data key.
    """
    check_key_arn(key_arn)
    if draft_path(folder).exists():
        raise ConfigError(f"{folder} holds an encrypted release already; name another folder", code="RELEASE_PRESENT")
    files = model_files(model)
    digest = content_digest(release.model_id, release.version, release.architecture, files)
    with kms_errors():
        answer = kms.generate_data_key(
            KeyId=key_arn,
            KeySpec="AES_256",
            EncryptionContext=encryption_context(release.model_id, release.version, digest),
        )
    # The SDK's own copy of the plaintext key is immutable and goes with the answer; ours is overwritten.
    with SecretBytes(answer["Plaintext"]) as dek:
        container = _seal(read_packed(model.files), release, dek, container_path(folder), progress)
        kms_key = KmsKeyInfo(answer["KeyId"], answer["CiphertextBlob"], dek_commitment(dek))
    draft = Draft(release, files, container, kms_key)
    write_whole(draft_path(folder), draft.encode())
    return PreparedRelease(folder, draft)


def _seal(
    plaintext: Iterable[bytes], release: Release, dek: SecretBytes, target: Path, progress: Progress | None
) -> ContainerInfo:
    container_id, hashed, size = os.urandom(_CONTAINER_ID_BYTES), sha256(), 0
    sealed = seal_container(plaintext, dek, chunk_bytes=MAX_CHUNK_BYTES, container_id=container_id)
    for piece in _written(sealed, target):
        hashed.update(piece)
        size += len(piece)
        if progress is not None:
            progress(len(piece))
    # An object for each encryption: of two that run at once, neither can replace what the other's manifest describes.
    key = f"{release.prefix}/container-{container_id.hex()}.bin"
    return ContainerInfo(key, hashed.digest(), size, MAX_CHUNK_BYTES, container_id)


def _written(pieces: Iterable[bytes], target: Path) -> Iterator[bytes]:
    try:
        with target.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
                yield piece
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}", code="FILE_UNWRITABLE") from None
