"""The upload: a data key from KMS, a container sealed under it, a signed manifest, and both in S3.

What reaches the disk on the way is ciphertext. The manifest is written last and only where none is, so a version either
exists whole or not at all, and never changes. An upload that was interrupted is simply run again: every attempt seals
under a fresh data key into an object of its own, and what an earlier one left behind belongs to no manifest.
"""

import os
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ephemeral.errors import ManifestError, StorageUnavailable
from ephemeral.protocol import MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES
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
    verify_manifest,
)
from ephemeral.trusted.secrets import SecretBytes
from ephemeralml.publishing.aws import kms_errors, object_size, put_new, read_object, upload_file
from ephemeralml.publishing.checks import CheckedModel
from ephemeralml.publishing.folder import read_packed
from ephemeralml.publishing.release import PublishedModel, Release, check_key_arn

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_CONTAINER_ID_BYTES: Final = 16


def publish(
    model: CheckedModel,
    release: Release,
    *,
    signing_key: SigningKey,
    key_arn: str,
    kms: "KMSClient",
    s3: "S3Client",
    bucket: str,
    progress: Callable[[int], None] | None = None,
) -> PublishedModel:
    """Publish the model, unless just this is there already; `progress` is told the bytes of each uploaded piece.

    Raises:
        ConfigError: `key_arn` is no key's ARN.
        ManifestError: VERSION_TAKEN, something else has this version.
        ModelFormatError: a file changed since it was checked.
        KmsDenied, KmsUnavailable: no data key.
        StorageUnavailable: the upload failed.
    """
    check_key_arn(key_arn)
    files = tuple(ModelFile(file.name, file.sha256, file.size) for file in model.files)
    digest = content_digest(release.model_id, release.version, release.architecture, files)
    place = _Place(s3, bucket, release, signing_key, key_arn, digest)
    if (there := place.published()) is not None:
        return there
    with tempfile.TemporaryDirectory(prefix="ephemeralml-publish-") as directory:
        sealed = Path(directory) / "container"
        container, kms_key = _seal(model, sealed, release, digest, kms=kms, key_arn=key_arn)
        upload_file(s3, bucket, container.key, sealed, progress)
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
    return place.complete(manifest)


class _Place:
    """The one place in the bucket where a release's manifest may lie."""

    def __init__(
        self, s3: "S3Client", bucket: str, release: Release, key: SigningKey, key_arn: str, digest: bytes
    ) -> None:
        self._s3, self._bucket, self._release = s3, bucket, release
        self._key, self._key_arn, self._digest = key, key_arn, digest

    def published(self) -> PublishedModel | None:
        """Return this very release if it is there, None if nothing is.

        Raises:
            ManifestError: VERSION_TAKEN.
            StorageUnavailable: S3 failed, or the container behind the manifest is gone.
        """
        key = self._release.manifest_key
        if object_size(self._s3, self._bucket, key) is None:
            return None
        raw = read_object(self._s3, self._bucket, key, MAX_MANIFEST_BYTES + 1)
        try:
            manifest = verify_manifest(raw, [self._key.verifying_key]).manifest
        except ManifestError as error:
            raise self._taken(f"not by this publisher ({error.code})") from None
        if manifest.content_digest != self._digest:
            raise self._taken("with other content")
        if manifest.kms.key_arn != self._key_arn:
            raise self._taken(f"under the KMS key {manifest.kms.key_arn}")
        self._require_container(manifest.container)
        return self._result(manifest, raw, uploaded=False)

    def complete(self, manifest: ModelManifest) -> PublishedModel:
        """Sign and store the manifest; whoever finds it finds the container too.

        Raises:
            ManifestError: VERSION_TAKEN, by somebody who was faster.
            StorageUnavailable: S3 failed, or does not have the whole container.
        """
        self._require_container(manifest.container)
        signed = sign_manifest(manifest, self._key)
        if put_new(self._s3, self._bucket, self._release.manifest_key, signed):
            return self._result(manifest, signed, uploaded=True)
        there = self.published()
        if there is None:
            raise StorageUnavailable(f"bucket {self._bucket}: another upload of this version is under way")
        return there

    def _require_container(self, container: ContainerInfo) -> None:
        size = object_size(self._s3, self._bucket, container.key)
        if size != container.size:
            found = "is missing" if size is None else f"has {size} bytes"
            text = f"bucket {self._bucket}: {container.key} {found}, the manifest says {container.size}"
            raise StorageUnavailable(text, code="STORAGE_SIZE")

    def _result(self, manifest: ModelManifest, raw: bytes, *, uploaded: bool) -> PublishedModel:
        container = manifest.container
        key = self._release.manifest_key
        return PublishedModel(
            self._release, self._bucket, key, container.key, manifest.kms.key_arn, raw, container.size, uploaded
        )

    def _taken(self, why: str) -> ManifestError:
        model = f"{self._release.model_id} version {self._release.version}"
        text = f"{model} is in bucket {self._bucket} already, {why}: a version is never overwritten, take the next one"
        return ManifestError(text, code="VERSION_TAKEN")


def _seal(
    model: CheckedModel, target: Path, release: Release, digest: bytes, *, kms: "KMSClient", key_arn: str
) -> tuple[ContainerInfo, KmsKeyInfo]:
    context = encryption_context(release.model_id, release.version, digest)
    with kms_errors():
        answer = kms.generate_data_key(KeyId=key_arn, KeySpec="AES_256", EncryptionContext=context)
    container_id, hashed, size = os.urandom(_CONTAINER_ID_BYTES), sha256(), 0
    # The SDK's own copy of the plaintext key is immutable and goes with the answer; ours is overwritten.
    with SecretBytes(answer["Plaintext"]) as dek, target.open("wb") as stream:
        pieces = read_packed(model.files)
        for piece in seal_container(pieces, dek, chunk_bytes=MAX_CHUNK_BYTES, container_id=container_id):
            hashed.update(piece)
            size += stream.write(piece)
        commitment = dek_commitment(dek)
    # An object for each attempt: of two that run at once, neither can replace what the other's manifest describes.
    key = f"{release.prefix}/container-{container_id.hex()}.bin"
    return (
        ContainerInfo(key, hashed.digest(), size, MAX_CHUNK_BYTES, container_id),
        KmsKeyInfo(answer["KeyId"], answer["CiphertextBlob"], commitment),
    )
