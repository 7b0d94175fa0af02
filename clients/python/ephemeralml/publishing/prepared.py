"""A release on disk, between encryption and upload: ciphertext and public statements, nothing secret.

::

    container.bin    the sealed files; only KMS can open its data key
    draft.json       what the manifest will say
    manifest.cose    the draft, signed by the publisher
    upload.json      which multipart upload of S3 the container is being put together in

The draft is written when the container is whole, so a folder without one is an encryption that did not end.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final, Self

from ephemeral.errors import ConfigError, ContainerError, ManifestError, ModelFormatError
from ephemeral.protocol import MAX_MANIFEST_BYTES
from ephemeral.trusted.artifact import ContainerInfo
from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey
from ephemeral.trusted.manifest import VerifiedManifest, sign_manifest, verify_manifest
from ephemeralml.publishing.draft import MAX_DRAFT_BYTES, Draft
from ephemeralml.publishing.folder import PackedFile

_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class PreparedRelease:
    """A folder with a sealed container and its draft."""

    folder: Path
    draft: Draft

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `encrypt_model` made.

        Raises:
            ConfigError: there is no draft, or it cannot be read.
            ManifestError: DRAFT_MALFORMED.
        """
        return cls(folder, Draft.parse(_read(draft_path(folder), "the draft", MAX_DRAFT_BYTES)))

    @property
    def container(self) -> Path:
        """Where the sealed files lie."""
        return container_path(self.folder)

    @property
    def upload_journal(self) -> Path:
        """Where the upload keeps what it needs to go on."""
        return self.folder / "upload.json"

    @property
    def signed(self) -> Path:
        """Where the signed manifest lies."""
        return self.folder / "manifest.cose"

    def require_container(self) -> None:
        """Compare the container with the draft.

        Raises:
            ConfigError: unreadable.
            ContainerError: CONTAINER_SIZE or CONTAINER_DIGEST.
        """
        compare_container(self.container, self.draft.container)

    def require_files(self, files: Sequence[PackedFile]) -> None:
        """Compare the files of a model's folder with those that the draft names.

        Raises:
            ModelFormatError: MODEL_FILES, one is missing, too many, or another.
        """
        ours = {file.name: (file.sha256, file.size) for file in files}
        theirs = {file.name: (file.sha256, file.size) for file in self.draft.files}
        if different := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
            text = f"the draft is of other files than this folder: {', '.join(different)}"
            raise ModelFormatError(text, code="MODEL_FILES")

    def sign(self, key: SigningKey) -> VerifiedManifest:
        """Sign the draft and keep the manifest beside it; one that this key signed before is kept.

        Raises:
            ConfigError: the file cannot be written.
            ManifestError: the draft is malformed, or MANIFEST_PRESENT: another manifest is there.
        """
        if self.signed.exists():
            try:
                return self.manifest(key.verifying_key)
            except ManifestError as error:
                text = f"{self.signed} is there already and is not yours ({error.code}); move it away first"
                raise ManifestError(text, code="MANIFEST_PRESENT") from None
        raw = sign_manifest(self.draft.manifest(key.verifying_key, int(time.time())), key)
        write_whole(self.signed, raw)
        return self.manifest(key.verifying_key)

    def manifest(self, publisher: VerifyingKey) -> VerifiedManifest:
        """Return the signed manifest.

        Raises:
            ConfigError: it is not there.
            ManifestError: not signed by `publisher`, or MANIFEST_OTHER_DRAFT.
        """
        raw = _read(self.signed, "the signed manifest", MAX_MANIFEST_BYTES)
        verified = verify_manifest(raw, [publisher])
        if not self.draft.describes(verified.manifest):
            raise ManifestError(f"{self.signed} is not of the draft beside it", code="MANIFEST_OTHER_DRAFT")
        return verified


def container_path(folder: Path) -> Path:
    """Return where a prepared release keeps its container."""
    return folder / "container.bin"


def draft_path(folder: Path) -> Path:
    """Return where a prepared release keeps its draft."""
    return folder / "draft.json"


def clear(folder: Path) -> None:
    """Remove the files of a prepared release, whole or not, and nothing else."""
    for name in ("container.bin", "draft.json", "manifest.cose", "upload.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).with_suffix(".partial").unlink(missing_ok=True)


def compare_container(path: Path, described: ContainerInfo) -> None:
    """Compare a container's ciphertext with what is said of it.

    Raises:
        ConfigError: unreadable.
        ContainerError: CONTAINER_SIZE or CONTAINER_DIGEST.
    """
    try:
        with path.open("rb") as stream:
            size, digest = path.stat().st_size, file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ConfigError(f"cannot read the container {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if size != described.size:
        raise ContainerError(f"{path} has {size} bytes, the manifest says {described.size}", code="CONTAINER_SIZE")
    if digest != described.sha256:
        raise ContainerError(f"{path} is not the container that the manifest describes", code="CONTAINER_DIGEST")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes out of it meanwhile.

    Raises:
        ConfigError: it cannot be made, or PUBLISHING_RUNNING: another process works on this release.
    """
    try:
        folder.mkdir(mode=_MODE, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot use the folder {folder}: {error.strerror}", code="FILE_UNWRITABLE") from None
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another command works in {folder}; wait for it", code="PUBLISHING_RUNNING") from None


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", code="FILE_UNWRITABLE") from None


def _read(path: Path, what: str, most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if len(raw) > most:
        raise ConfigError(f"{what} {path} has more than {most:,} bytes", code="FILE_TOO_LARGE")
    return raw
