"""What is published: which model as which version, and where it lies afterwards."""

import re
from dataclasses import dataclass
from typing import Final

from ephemeral.errors import ConfigError
from ephemeralml.publishing.checks import ARCHITECTURE

BFLOAT16: Final = "sentence-transformers.bfloat16"
PRECISIONS: Final = {"float32": ARCHITECTURE, "bfloat16": BFLOAT16}
"""The architecture of a manifest that asks an enclave for a precision."""
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}", re.ASCII)
_MAX_VERSION: Final = 2**53 - 1
_KEY_ARN: Final = re.compile(r"arn:aws[a-z-]{0,16}:kms:[a-z0-9-]{1,32}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Release:
    """Which model, as which version, of which architecture.

    Raises:
        ConfigError: a model id or version that no manifest may have.
    """

    model_id: str
    version: int
    architecture: str = ARCHITECTURE

    def __post_init__(self) -> None:
        if not _MODEL_ID.fullmatch(self.model_id):
            raise ConfigError("a model id is up to 128 letters, digits, '_', '-', '.', '/'", code="MODEL_ID")
        # S3 takes such keys, but HTTP clients on the way normalise them into another object's.
        if not {"", ".", ".."}.isdisjoint(self.model_id.split("/")):
            raise ConfigError("a model id has no empty or dotted segments", code="MODEL_ID")
        if not 1 <= self.version <= _MAX_VERSION:
            raise ConfigError("a version is a number from 1", code="MODEL_VERSION")

    @property
    def prefix(self) -> str:
        """Return where the release lives in the bucket."""
        return f"models/{self.model_id}/{self.version}"

    @property
    def manifest_key(self) -> str:
        """Return where its manifest lies: one place, so that a version exists once."""
        return f"{self.prefix}/manifest.cose"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A release in S3: everything a host and a client must be told about it; `uploaded` is False if it was there."""

    release: Release
    bucket: str
    manifest_key: str
    container_key: str
    key_arn: str
    manifest: bytes
    container_bytes: int
    uploaded: bool


def check_key_arn(key_arn: str) -> str:
    """Return the ARN of a KMS key.

    Raises:
        ConfigError: an alias, a bare id, or none at all; whoever may move an alias would choose the key.
    """
    if not _KEY_ARN.fullmatch(key_arn):
        text = "name the KMS key by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID, not by an alias or a bare id"
        raise ConfigError(text, code="KMS_KEY_ARN")
    return key_arn
