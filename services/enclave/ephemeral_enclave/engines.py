"""Which engine computes a model: the packed one where it can, sentence-transformers for everything else."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

import torch

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.packed_bert import PackedBertEngine
from ephemeral_enclave.pipeline import Files, read_pipeline

ARCHITECTURES: Final[Mapping[str, torch.dtype]] = {
    "sentence-transformers": torch.float32,
    "sentence-transformers.bfloat16": torch.bfloat16,
}
"""What a manifest may name, and the precision it asks for with that."""
_LIBRARIES: Final = ("torch", "transformers", "sentence-transformers", "tokenizers")


def precision(architecture: str) -> torch.dtype:
    """Return the precision that a manifest's architecture stands for.

    Raises:
        ModelFormatError: no engine knows the architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ModelFormatError(f"architecture {architecture!r} is not supported", code="ARCHITECTURE_UNSUPPORTED")
    return ARCHITECTURES[architecture]


def build_engine(files: Files, dtype: torch.dtype = torch.float32) -> Engine:
    """Build the engine of a sentence-transformers folder from its files by name.

    Raises:
        ModelFormatError: a file is missing, malformed, or asks for something that is not supported.
    """
    pipeline = read_pipeline(files)
    if PackedBertEngine.takes(pipeline):
        return PackedBertEngine.from_files(files, pipeline, dtype)
    if dtype is not torch.float32:
        text = "bfloat16 is computed by the packed engine, which does not know this model"
        raise ModelFormatError(text, code="ARCHITECTURE_UNSUPPORTED")
    # Importing it takes seconds and hundreds of megabytes, which most enclaves never need.
    from ephemeral_enclave.sentence_transformer import SentenceTransformerEngine  # noqa: PLC0415

    return SentenceTransformerEngine.from_files(files, pipeline)


def fingerprint() -> bytes:
    """Return SHA-256 over the versions of the libraries that compute, for the build digest."""
    return hashlib.sha256("\0".join(map(version, _LIBRARIES)).encode()).digest()
