"""Would an enclave load this folder? Said before anything leaves the machine, without running any of the model.

The same verdicts as the enclave's own loader, which has the last word, and a few more: what it would load but could not
serve well (a vocabulary larger than the model's, a pooling of another width) is refused here too.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ephemeral.bert import BUFFERS, BertConfig
from ephemeral.errors import ModelFormatError
from ephemeral.protocol import MAX_CHUNK_BYTES
from ephemeral.trusted.artifact import container_size
from ephemeralml.publishing.folder import PackedFile, left_out, pack_folder
from ephemeralml.publishing.pipeline import check_pipeline, pooling_modes
from ephemeralml.publishing.safetensors import Tensor, read_header, require_finite
from ephemeralml.publishing.strict_json import read_object
from ephemeralml.publishing.tokenizer import check_tokenizer, special_tokens

ARCHITECTURE: Final = "sentence-transformers"
MAX_MODEL_BYTES: Final = 16 * 1024**3
_WEIGHTS: Final = "model.safetensors"
_SETTINGS: Final = "sentence_bert_config.json"
_PACKED_POOLINGS: Final = frozenset({"cls", "mean", "max", "mean_sqrt_len_tokens"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A folder in which nothing was found that an enclave refuses; only `Inspection.require` makes one."""

    folder: Path
    files: tuple[PackedFile, ...]

    @property
    def plaintext_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def container_bytes(self) -> int:
        """Bytes of the encrypted container."""
        return container_size(self.plaintext_bytes, MAX_CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a folder; `None` is what could not be read for one of the `problems`."""

    folder: Path
    files: tuple[PackedFile, ...]
    left_out: tuple[str, ...]
    tensors: int | None
    parameters: int | None
    dtypes: Mapping[str, int]
    dimension: int | None
    max_length: int | None
    problems: tuple[ModelFormatError, ...]

    def require(self) -> CheckedModel:
        """Return the model, in which nothing was found.

        Raises:
            ModelFormatError: the first problem; the text says if there are more.
        """
        if not self.problems:
            return CheckedModel(self.folder, self.files)
        first, more = self.problems[0], len(self.problems) - 1
        raise ModelFormatError(f"{first.detail} (and {more} more)" if more else first.detail, code=first.code)


def check_model(folder: Path) -> CheckedModel:
    """Check everything; return the model that may be published.

    Raises:
        ModelFormatError: the first problem; the text says if there are more.
    """
    return inspect_model(folder).require()


def inspect_model(folder: Path) -> Inspection:
    """Check everything that can be checked, and collect every problem."""
    findings = _Findings()
    files = findings.of(lambda: pack_folder(folder)) or ()
    findings.of(lambda: _check_size(files))
    config = findings.of(lambda: BertConfig.parse(read_object(folder, "config.json")))
    tensors = findings.of(lambda: read_header(folder / _WEIGHTS))
    if tensors is not None and config is not None:
        findings.of(lambda: _check_tensors(folder / _WEIGHTS, tensors, config))
    tokenizer = findings.of(lambda: read_object(folder, "tokenizer.json"))
    length = findings.of(lambda: _max_length(folder, config, special_tokens(tokenizer or {})))
    if tokenizer is not None:
        findings.of(lambda: check_tokenizer(tokenizer, None if config is None else config.vocab_size))
    dimension = findings.of(lambda: check_pipeline(folder, None if config is None else config.hidden_size))
    held = list((tensors or {}).values())
    return Inspection(
        folder,
        files,
        left_out(folder, files) if folder.is_dir() else (),
        tensors=None if tensors is None else len(held),
        parameters=None if tensors is None or config is None else _parameters(config),
        dtypes=Counter(tensor.dtype for tensor in held),
        dimension=dimension,
        max_length=length,
        problems=tuple(findings.problems),
    )


def check_bfloat16(folder: Path) -> None:
    """Check that an enclave computes a checked folder in bfloat16.

    Raises:
        ModelFormatError: it would only in float32.
    """
    config = read_object(folder, "config.json")
    exact = BertConfig.parse(config).hidden_act == "gelu"
    absolute = config.get("position_embedding_type", "absolute") == "absolute"
    modes = pooling_modes(folder)
    if not exact or not absolute or len(modes) != 1 or not _PACKED_POOLINGS.issuperset(modes):
        text = f"bfloat16 needs hidden_act gelu and one pooling of {', '.join(sorted(_PACKED_POOLINGS))}: use float32"
        raise ModelFormatError(text, code="ARCHITECTURE_UNSUPPORTED")


class _Findings:
    """Problems in the order they were met, none of them twice."""

    def __init__(self) -> None:
        self.problems: list[ModelFormatError] = []

    def of(self, check: Callable[[], _T]) -> _T | None:
        """Return what the check returns, or keep its problem."""
        try:
            return check()
        except ModelFormatError as error:
            if not any(known.code == error.code and known.detail == error.detail for known in self.problems):
                self.problems.append(error)
            return None


def _check_size(files: tuple[PackedFile, ...]) -> None:
    size = sum(file.size for file in files)
    if size > MAX_MODEL_BYTES:
        text = f"the model has {size:,} bytes, an enclave loads at most {MAX_MODEL_BYTES:,}"
        raise ModelFormatError(text, code="MODEL_TOO_LARGE")


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], config: BertConfig) -> None:
    """All that the architecture calls for, of the right shapes, finite, and nothing else."""
    wanted = config.tensors()
    for name, shape in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelFormatError(f"tensor {name} is missing", code="TENSORS_MISMATCH")
        if tensor.shape != shape or not tensor.floating:
            text = f"tensor {name} is {tensor.dtype}{list(tensor.shape)}, config.json calls for floats{list(shape)}"
            raise ModelFormatError(text, code="TENSORS_MISMATCH")
        require_finite(path, tensor)
    if stray := tensors.keys() - wanted.keys() - BUFFERS:
        raise ModelFormatError(f"tensor {min(stray)} belongs to no layer", code="TENSORS_MISMATCH")


def _max_length(folder: Path, config: BertConfig | None, special: int) -> int | None:
    """Return how many tokens of a text are computed, `special` ones included."""
    settings = read_object(folder, _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    if settings.get("do_lower_case"):
        text = f"{_SETTINGS}: do_lower_case is not supported: have tokenizer.json lower-case, or keep the case"
        raise ModelFormatError(text, code="MODULE_UNSUPPORTED")
    if config is None:
        return None
    positions = config.max_position_embeddings
    longest = settings.get("max_seq_length") or positions
    if type(longest) is not int or not 0 < longest <= positions:
        text = f"{_SETTINGS}: max_seq_length does not fit the model's {positions} positions"
        raise ModelFormatError(text, code="CONFIG_MALFORMED")
    if longest <= special:
        text = f"{_SETTINGS}: max_seq_length {longest} has no room for a text beside {special} special tokens"
        raise ModelFormatError(text, code="CONFIG_MALFORMED")
    return longest


def _parameters(config: BertConfig) -> int:
    return sum(math.prod(shape) for shape in config.tensors().values())
