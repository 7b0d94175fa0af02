"""What of a sentence-transformers folder is the model: what it needs to run, and nothing else.

Weights are safetensors only. A pickle (`.bin`, `.pt`) runs code when it is loaded, so it is never packed; an ONNX twin,
a README or training data would only make the container larger.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from ephemeral.errors import ModelFormatError
from ephemeralml.publishing.strict_json import read_value

_READ_BYTES: Final = 1024 * 1024
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
        ModelFormatError: a needed file is missing or unreadable, or modules.json names a folder elsewhere.
    """
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        text = f"{folder} lacks {', '.join(missing)}; weights must be safetensors, in one file"
        raise ModelFormatError(text, code="FILE_MISSING")
    names = {*_ROOT_FILES, *(f"{module}/{name}" for module in _module_paths(folder) for name in _MODULE_FILES)}
    return tuple(_pack(folder, name) for name in sorted(names) if (folder / name).is_file())


def left_out(folder: Path, packed: Sequence[PackedFile]) -> tuple[str, ...]:
    """Return the names of the folder's other files, hidden ones left aside: they never leave this machine."""
    kept = {file.name for file in packed}
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return tuple(sorted(set(visible) - kept))


def read_packed(files: Sequence[PackedFile]) -> Iterator[bytes]:
    """Yield the content of the files, one after another, in pieces of at most 1 MiB.

    Raises:
        ModelFormatError: a file changed since it was packed; its digest is about to be signed.
    """
    for file in files:
        digest = sha256()
        try:
            with file.path.open("rb") as stream:
                while piece := stream.read(_READ_BYTES):
                    digest.update(piece)
                    yield piece
        except OSError as error:
            raise ModelFormatError(f"cannot read {file.path}: {error.strerror}", code="MODEL_FILES") from None
        if digest.digest() != file.sha256:
            raise ModelFormatError(f"{file.path} changed while it was packed", code="MODEL_FILES")


def _pack(folder: Path, name: str) -> PackedFile:
    path = folder / name
    try:
        with path.open("rb") as stream:
            return PackedFile(name, path, path.stat().st_size, file_digest(stream, "sha256").digest())
    except OSError as error:
        raise ModelFormatError(f"cannot read {path}: {error.strerror}", code="MODEL_FILES") from None


def _module_paths(folder: Path) -> Iterator[str]:
    """Yield the folders that modules.json names."""
    if not (folder / "modules.json").is_file():
        return
    modules = read_value(folder, "modules.json")
    for module in modules if isinstance(modules, list) else [None]:
        match module:
            case {"path": ""}:
                continue
            case {"path": str() as path} if _MODULE_PATH.fullmatch(path):
                yield path
            case _:
                text = "modules.json is not a list of modules in folders directly below"
                raise ModelFormatError(text, code="MODULES_MALFORMED")
