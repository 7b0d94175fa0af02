"""A draft: all that a manifest says before its publisher signs it, as JSON that a person can read first."""

import json
from dataclasses import dataclass
from typing import Final, Self

from ephemeral.errors import EphemeralError, ManifestError
from ephemeral.trusted.artifact import ContainerInfo, ModelFile
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.manifest import KmsKeyInfo, ModelManifest, content_digest, key_id
from ephemeralml.publishing.release import Release
from ephemeralml.publishing.strict_json import parse_value

MAX_DRAFT_BYTES: Final = 1024 * 1024
_FORMAT: Final = "ephemeralml draft 1"


@dataclass(frozen=True, slots=True)
class Draft:
    """A release whose container is sealed; nobody vouches for it yet."""

    release: Release
    files: tuple[ModelFile, ...]
    container: ContainerInfo
    kms: KmsKeyInfo

    @property
    def content_digest(self) -> bytes:
        """SHA-256 of what the model is, apart from where it lies and who can open it."""
        release = self.release
        return content_digest(release.model_id, release.version, release.architecture, self.files)

    def manifest(self, publisher: VerifyingKey, created_at: int) -> ModelManifest:
        """Return the manifest for `publisher` to sign; `created_at` is in Unix seconds.

        Raises:
            ManifestError: DRAFT_MALFORMED, its parts contradict each other.
        """
        release = self.release
        try:
            return ModelManifest(
                model_id=release.model_id,
                version=release.version,
                architecture=release.architecture,
                files=self.files,
                container=self.container,
                kms=self.kms,
                created_at=created_at,
                publisher_key_id=key_id(publisher),
            )
        except ValueError as error:
            raise _malformed(str(error)) from None

    def describes(self, manifest: ModelManifest) -> bool:
        """Whether a manifest says the same, whoever signed it and whenever."""
        release = Release(manifest.model_id, manifest.version, manifest.architecture)
        return self == Draft(release, manifest.files, manifest.container, manifest.kms)

    def encode(self) -> bytes:
        """Return the draft as JSON, bytes in hex."""
        release, container, kms = self.release, self.container, self.kms
        document = {
            "format": _FORMAT,
            "model_id": release.model_id,
            "version": release.version,
            "architecture": release.architecture,
            "files": [{"name": file.name, "sha256": file.sha256.hex(), "size": file.size} for file in self.files],
            "container": {
                "key": container.key,
                "sha256": container.sha256.hex(),
                "size": container.size,
                "chunk_bytes": container.chunk_bytes,
                "container_id": container.container_id.hex(),
            },
            "kms": {
                "key_arn": kms.key_arn,
                "wrapped_data_key": kms.wrapped_data_key.hex(),
                "dek_commitment": kms.dek_commitment.hex(),
            },
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read what `encode` wrote.

        Raises:
            ManifestError: DRAFT_MALFORMED.
        """
        try:
            return cls._parse(parse_value(raw, "the draft"))
        except EphemeralError as error:
            raise _malformed(error.detail) from None
        except ValueError as error:
            raise _malformed(str(error)) from None

    @classmethod
    def _parse(cls, document: object) -> Self:
        match document:
            case {
                "format": str(form),
                "model_id": str(model_id),
                "version": int(version),
                "architecture": str(architecture),
                "files": [*rows],
                "container": dict(container),
                "kms": dict(kms),
                **rest,
            } if not rest and form == _FORMAT and type(version) is int:
                release = Release(model_id, version, architecture)
                draft = cls(release, tuple(map(_file, rows)), _container(container), _kms(kms))
                _ = draft.content_digest  # refuses what no manifest may have
                return draft
            case _:
                raise ValueError(f"not the fields of {_FORMAT!r}")


def _file(row: object) -> ModelFile:
    match row:
        case {"name": str(name), "sha256": str(digest), "size": int(size), **rest} if not rest and type(size) is int:
            return ModelFile(name, bytes.fromhex(digest), size)
        case _:
            raise ValueError("a file has name, sha256 and size")


def _container(values: dict[str, object]) -> ContainerInfo:
    match values:
        case {
            "key": str(key),
            "sha256": str(digest),
            "size": int(size),
            "chunk_bytes": int(chunk_bytes),
            "container_id": str(container_id),
            **rest,
        } if not rest and type(size) is type(chunk_bytes) is int:
            return ContainerInfo(key, bytes.fromhex(digest), size, chunk_bytes, bytes.fromhex(container_id))
        case _:
            raise ValueError("a container has key, sha256, size, chunk_bytes and container_id")


def _kms(values: dict[str, object]) -> KmsKeyInfo:
    match values:
        case {"key_arn": str(arn), "wrapped_data_key": str(wrapped), "dek_commitment": str(commitment), **rest} if (
            not rest
        ):
            return KmsKeyInfo(arn, bytes.fromhex(wrapped), bytes.fromhex(commitment))
        case _:
            raise ValueError("kms has key_arn, wrapped_data_key and dek_commitment")


def _malformed(detail: str) -> ManifestError:
    return ManifestError(f"malformed draft: {detail}", code="DRAFT_MALFORMED")
