"""The upload: a sealed container and its signed manifest into S3, in this order and once.

The manifest is written last and only where none is, so a version either exists whole or not at all, and never changes.
What an upload that was given up leaves in the bucket belongs to no manifest and is never read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ephemeral.errors import ConfigError, ContainerError, ManifestError, StorageUnavailable
from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerInfo
from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey
from ephemeral.trusted.manifest import ModelManifest, VerifiedManifest, content_digest, verify_manifest
from ephemeralml.publishing.aws import object_size, put_new, read_object
from ephemeralml.publishing.checks import CheckedModel
from ephemeralml.publishing.encryption import encrypt_model, model_files
from ephemeralml.publishing.multipart import ContainerUpload
from ephemeralml.publishing.prepared import PreparedRelease, alone, clear
from ephemeralml.publishing.release import PublishedModel, Release, check_key_arn

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

Progress = Callable[[int], object]


def _untold(_count: int) -> None:
    return


def publish(  # noqa: PLR0913  # two services, and a place in each
    model: CheckedModel,
    release: Release,
    *,
    signing_key: SigningKey,
    key_arn: str,
    kms: "KMSClient",
    s3: "S3Client",
    bucket: str,
    work: Path | None = None,
    progress: Progress = _untold,
) -> PublishedModel:
    """Encrypt, sign and upload the model, unless just this is there already.

    `work` is a folder in which the ciphertext waits if the upload is cut: the next call with it goes on where this one
    stopped, under the same data key. It is removed at the end. Without it, the next call starts over. `progress` is
    told the bytes of each part in S3, those of an earlier call included.

    Raises:
        ConfigError: `key_arn` is no key's ARN, or `work` cannot be used.
        ManifestError: VERSION_TAKEN, something else has this version.
        ModelFormatError: a file changed since it was checked.
        KmsDenied, KmsUnavailable: no data key.
        StorageUnavailable: the upload failed.
    """
    check_key_arn(key_arn)
    digest = content_digest(release.model_id, release.version, release.architecture, model_files(model))
    place = _Place(s3, bucket, release, signing_key.verifying_key, key_arn, digest)
    if (there := place.published()) is not None:
        return there
    with _working(work) as folder:
        prepared = _kept(folder, release, model, key_arn)
        if prepared is None:
            prepared = encrypt_model(model, release, folder, key_arn=key_arn, kms=kms)
        return place.complete(prepared, prepared.sign(signing_key), progress)


def upload_release(
    prepared: PreparedRelease, publisher: VerifyingKey, *, s3: "S3Client", bucket: str, progress: Progress = _untold
) -> PublishedModel:
    """Upload what was encrypted and signed before; an upload that was cut goes on where it stopped.

    Raises:
        ConfigError: a file is not there, or another command works on it.
        ContainerError: the container is not the one that was signed.
        ManifestError: not signed by `publisher`, of another draft, or VERSION_TAKEN.
        StorageUnavailable: the upload failed.
    """
    with alone(prepared.folder):
        verified = prepared.manifest(publisher)
        prepared.require_container()
        draft = prepared.draft
        place = _Place(s3, bucket, draft.release, publisher, draft.kms.key_arn, draft.content_digest)
        return place.published() or place.complete(prepared, verified, progress)


@contextmanager
def _working(work: Path | None) -> Iterator[Path]:
    """Give a folder that nobody else works in, and remove it when all went well."""
    if work is None:
        with TemporaryDirectory(prefix="ephemeralml-publish-") as folder:
            yield Path(folder)
        return
    with alone(work):
        yield work
        clear(work)
        with suppress(OSError):  # what else lies in it is not ours
            work.rmdir()


def _kept(folder: Path, release: Release, model: CheckedModel, key_arn: str) -> PreparedRelease | None:
    """Return what an earlier call sealed, if it is whole and of this very release; clear away what is not."""
    try:
        prepared = PreparedRelease.open(folder)
        prepared.require_container()
    except (ConfigError, ContainerError, ManifestError):
        prepared = None
    if prepared is not None:
        draft = prepared.draft
        if (draft.release, draft.files, draft.kms.key_arn) == (release, model_files(model), key_arn):
            prepared.signed.unlink(missing_ok=True)  # signed anew: another key may be given this time
            return prepared
    clear(folder)
    return None


class _Place:
    """The one place in the bucket where a release's manifest may lie."""

    def __init__(
        self, s3: "S3Client", bucket: str, release: Release, publisher: VerifyingKey, key_arn: str, digest: bytes
    ) -> None:
        self._s3, self._bucket, self._release = s3, bucket, release
        self._publisher, self._key_arn, self._digest = publisher, key_arn, digest

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
            manifest = verify_manifest(raw, [self._publisher]).manifest
        except ManifestError as error:
            raise self._taken(f"not by this publisher ({error.code})") from None
        if manifest.content_digest != self._digest:
            raise self._taken("with other content")
        if manifest.kms.key_arn != self._key_arn:
            raise self._taken(f"under the KMS key {manifest.kms.key_arn}")
        self._require_container(manifest.container)
        return self._result(manifest, raw, uploaded=False)

    def complete(self, prepared: PreparedRelease, verified: VerifiedManifest, progress: Progress) -> PublishedModel:
        """Upload the container, then its manifest: whoever finds the manifest finds the container too.

        Raises:
            ManifestError: VERSION_TAKEN, by somebody who was faster.
            StorageUnavailable: S3 failed, or does not have the whole container.
        """
        container = verified.manifest.container
        ContainerUpload(self._s3, self._bucket, container, prepared.container, prepared.upload_journal).run(progress)
        self._require_container(container)
        if put_new(self._s3, self._bucket, self._release.manifest_key, verified.raw):
            return self._result(verified.manifest, verified.raw, uploaded=True)
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
