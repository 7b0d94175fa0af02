"""What of a sentence-transformers or transformers folder is the model: what it needs to run, and nothing else.

Weights are safetensors only. A pickle (`.bin`, `.pt`) runs code when it is loaded, so it is never packed; an ONNX twin,
a README or training data would only make the container larger.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from ephemeral.errors import ModelFormatError

_READ_BYTES: Final = 1024 * 1024
_MAX_MODULES_BYTES: Final = 65_536
_ROOT_FILES: Final = frozenset(
    {
        "added_tokens.json",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
_MODULE_FILES: Final = frozenset({"config.json", "model.safetensors"})
_REQUIRED: Final = ("config.json", "tokenizer.json", "model.safetensors")
_MODULE_PATH: Final = re.compile(r"[A-Za-z0-9_]{1,64}")  # one folder below, as in "1_Pooling": never a way out


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of the model; `name` is relative to the folder, with forward slashes."""

    name: str
    path: Path
    size: int
    sha256: bytes


def pack_folder(folder: Path) -> tuple[PackedFile, ...]:
    """List and hash the files the model needs, by name.

    Raises:
        ModelFormatError: a needed file is missing, or modules.json is not what sentence-transformers writes.
    """
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise ModelFormatError(f"{folder} lacks {', '.join(missing)}; weights must be safetensors", code="MODEL_FILES")
    names = [*_ROOT_FILES, *(f"{module}/{name}" for module in _module_paths(folder) for name in _MODULE_FILES)]
    return tuple(_pack(folder, name) for name in sorted(names) if (folder / name).is_file())


def read_packed(files: Sequence[PackedFile]) -> Iterator[bytes]:
    """Yield the content of the files, one after another, in pieces of at most 1 MiB.

    Raises:
        ModelFormatError: a file changed since it was packed; its digest is about to be signed.
    """
    for file in files:
        digest = sha256()
        with file.path.open("rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
                yield piece
        if digest.digest() != file.sha256:
            raise ModelFormatError(f"{file.path} changed while it was packed", code="MODEL_FILES")


def _pack(folder: Path, name: str) -> PackedFile:
    path = folder / name
    with path.open("rb") as stream:
        return PackedFile(name, path, path.stat().st_size, file_digest(stream, "sha256").digest())


def _module_paths(folder: Path) -> Iterator[str]:
    """Yield the folders that modules.json names; a plain transformers folder has no modules.json."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return
    try:
        modules = json.loads(listing.read_bytes()[:_MAX_MODULES_BYTES])
        paths = [module["path"] for module in modules]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelFormatError(f"{listing} is not a list of modules", code="MODEL_FILES") from None
    for path in paths:
        if path == "":
            continue
        if not isinstance(path, str) or not _MODULE_PATH.fullmatch(path):
            raise ModelFormatError(f"{listing} names a folder that is not directly below", code="MODEL_FILES")
        yield path
