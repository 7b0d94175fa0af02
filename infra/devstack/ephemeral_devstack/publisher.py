"""The model publisher of the development stack, on the trusted side: pack, seal, sign, upload.

::

    folder -> digests of the files -> encryption context -> kms:GenerateDataKey -> container -> signed manifest -> S3

The steps and the formats are the product's; only the endpoints behind `kms` and `s3` are simulated. What reaches the
disk on the way is ciphertext.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from ephemeral.errors import KmsDenied, StorageUnavailable
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.trusted.artifact import seal_container
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import (
    ContainerInfo,
    KmsKeyInfo,
    ModelFile,
    ModelManifest,
    content_digest,
    dek_commitment,
    encryption_context,
    key_id,
    sign_manifest,
)
from ephemeral.trusted.secrets import SecretBytes
from ephemeral_devstack.model_folder import PackedFile, pack_folder, read_packed

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_PART_BYTES: Final = 8 * 1024 * 1024
_CONTAINER_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Release:
    """What is published: which model, as which version, of which architecture."""

    model_id: str
    version: int
    architecture: str

    def __post_init__(self) -> None:
        # S3 takes such keys, but HTTP clients on the way normalise them into another object's.
        if not {"", ".", ".."}.isdisjoint(self.model_id.split("/")):
            raise ValueError("a model id has no empty or dotted segments")

    @property
    def prefix(self) -> str:
        """Return where the release lives in the bucket."""
        return f"models/{self.model_id}/{self.version}"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A release in S3: everything a host and a client must be told about it."""

    release: Release
    bucket: str
    manifest_key: str
    container_key: str
    key_arn: str
    manifest: bytes
    container_bytes: int


def create_model_key(kms: "KMSClient", policy: str, *, description: str = "EphemeralML data keys") -> str:
    """Create a KMS key under the policy and return its ARN.

    Raises:
        KmsDenied: KMS refused.
    """
    with _kms_errors():
        return kms.create_key(Policy=policy, Description=description)["KeyMetadata"]["Arn"]


def publish(
    folder: Path,
    release: Release,
    *,
    signing_key: SigningKey,
    key_arn: str,
    kms: "KMSClient",
    s3: "S3Client",
    bucket: str,
    progress: Callable[[int], None] | None = None,
) -> PublishedModel:
    """Publish the model in `folder`; `progress` is told the bytes of each uploaded piece.

    Raises:
        ModelFormatError: the folder is not a model that may be packed.
        KmsDenied: no data key.
        StorageUnavailable: the upload failed.
    """
    packed = pack_folder(folder)
    files = tuple(ModelFile(file.name, file.sha256, file.size) for file in packed)
    with tempfile.TemporaryDirectory(prefix="ephemeralml-publish-") as directory:
        sealed = Path(directory) / "container"
        container, kms_key = _seal(packed, sealed, release, files, kms=kms, key_arn=key_arn)
        manifest = ModelManifest(
            model_id=release.model_id,
            version=release.version,
            architecture=release.architecture,
            files=files,
            container=container,
            kms=kms_key,
            created_at=int(time.time()),
            publisher_key_id=key_id(signing_key.verifying_key),
        )
        signed = sign_manifest(manifest, signing_key)
        manifest_key = f"{release.prefix}/manifest.cose"
        _upload(s3, bucket, sealed, container.key, manifest_key, signed, progress)
    return PublishedModel(release, bucket, manifest_key, container.key, key_arn, signed, container.size)


def _seal(
    packed: tuple[PackedFile, ...],
    target: Path,
    release: Release,
    files: tuple[ModelFile, ...],
    *,
    kms: "KMSClient",
    key_arn: str,
) -> tuple[ContainerInfo, KmsKeyInfo]:
    digest_of_content = content_digest(release.model_id, release.version, release.architecture, files)
    context = encryption_context(release.model_id, release.version, digest_of_content)
    with _kms_errors():
        answer = kms.generate_data_key(KeyId=key_arn, KeySpec="AES_256", EncryptionContext=context)
    container_id, digest, size = os.urandom(_CONTAINER_ID_BYTES), sha256(), 0
    # The SDK's own copy of the plaintext key is immutable and goes with the answer; ours is overwritten.
    with SecretBytes(answer["Plaintext"]) as dek, target.open("wb") as stream:
        for piece in seal_container(read_packed(packed), dek, chunk_bytes=MAX_CHUNK_BYTES, container_id=container_id):
            digest.update(piece)
            size += stream.write(piece)
        commitment = dek_commitment(dek)
    key = f"{release.prefix}/container.bin"
    return (
        ContainerInfo(key, digest.digest(), size, MAX_CHUNK_BYTES, container_id),
        KmsKeyInfo(answer["KeyId"], answer["CiphertextBlob"], commitment),
    )


def _upload(
    s3: "S3Client",
    bucket: str,
    sealed: Path,
    container_key: str,
    manifest_key: str,
    manifest: bytes,
    progress: Callable[[int], None] | None,
) -> None:
    parts = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES)
    with _storage_errors(bucket):
        s3.upload_file(str(sealed), bucket, container_key, Callback=progress, Config=parts)
        # Last: whoever finds the manifest finds the container too.
        s3.put_object(Bucket=bucket, Key=manifest_key, Body=manifest)


@contextmanager
def _kms_errors() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise KmsDenied(f"no data key from KMS: {error}") from error


@contextmanager
def _storage_errors(bucket: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(f"upload to bucket {bucket} failed: {error}") from error
