"""What a sentence-transformers folder says of itself, read strictly and without that library."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.strict_json import parse_object, parse_value

_MODULE_LISTS: Final = 8
_POOLING_KEYS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
Files = Mapping[str, memoryview]


@dataclass(frozen=True, slots=True)
class Pooling:
    """One vector from those of a text's tokens, each of `width` values; several modes stand side by side."""

    width: int
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Normalize:
    """Each vector divided by its length."""


Module = Pooling | Normalize


@dataclass(frozen=True, slots=True)
class Pipeline:
    """config.json as it stands, the modules after the transformer in order, and the tokens of one text, if limited."""

    config: dict[str, object]
    modules: tuple[Module, ...]
    max_length: int | None

    def longest(self, positions: int) -> int:
        """Return how many tokens of a text are computed by a model that knows so many positions.

        Raises:
            ModelFormatError: the folder asks for more.
        """
        longest = positions if self.max_length is None else self.max_length
        if longest > positions:
            raise ModelFormatError("max_seq_length does not fit the model's positions", code="CONFIG_MALFORMED")
        return longest


def read_pipeline(files: Files) -> Pipeline:
    """Read a folder's configuration, by file name.

    Raises:
        ModelFormatError: a file is missing or malformed, a module is not supported, or texts would get a prompt.
    """
    _refuse_prompts(files)
    config = parse_object(require_file(files, "config.json"), "config.json")
    modules = tuple(_module(files, path, kind) for path, kind in _listed(files))
    return Pipeline(config, modules, _max_length(files))


def require_file(files: Files, name: str) -> memoryview:
    """Return a file's bytes.

    Raises:
        ModelFormatError: there is no such file.
    """
    if name not in files:
        raise ModelFormatError(f"the model has no {name}", code="FILE_MISSING")
    return files[name]


def _refuse_prompts(files: Files) -> None:
    """Refuse a model that silently puts words before each text: its vectors would not be those of the text alone."""
    name = "config_sentence_transformers.json"
    if parse_object(files.get(name, memoryview(b"{}")), name).get("default_prompt_name") is not None:
        raise ModelFormatError("a default prompt is not supported", code="MODULE_UNSUPPORTED")


def _max_length(files: Files) -> int | None:
    name = "sentence_bert_config.json"
    settings = parse_object(files.get(name, memoryview(b"{}")), name)
    if settings.get("do_lower_case"):  # of the text itself, which no engine here changes
        raise ModelFormatError(f"{name}: do_lower_case is not supported", code="MODULE_UNSUPPORTED")
    length = settings.get("max_seq_length")
    if not length:
        return None
    if type(length) is not int or length < 0:
        raise ModelFormatError("max_seq_length must be a number, 1 or more", code="CONFIG_MALFORMED")
    return length


def _listed(files: Files) -> Iterator[tuple[str, str]]:
    """Yield (folder, class name) of the modules after the transformer, in order."""
    match parse_value(require_file(files, "modules.json"), "modules.json"):
        case [{"path": "", "type": str() as first}, *rest] if (
            first.endswith(".Transformer") and len(rest) < _MODULE_LISTS
        ):
            pass
        case _:
            raise ModelFormatError("modules.json does not begin with a Transformer", code="MODULES_MALFORMED")
    for module in rest:
        match module:
            case {"path": str() as path, "type": str() as kind}:
                yield path, kind.rsplit(".", 1)[-1]
            case _:
                raise ModelFormatError("modules.json is malformed", code="MODULES_MALFORMED")


def _module(files: Files, path: str, kind: str) -> Module:
    if kind == "Normalize":
        return Normalize()
    if kind != "Pooling":
        raise ModelFormatError(f"module {kind} is not supported", code="MODULE_UNSUPPORTED")
    name = f"{path}/config.json"
    settings = parse_object(require_file(files, name), name)
    width = settings.get("word_embedding_dimension", settings.get("embedding_dimension"))
    stated = [mode for key, mode in _POOLING_KEYS.items() if settings.get(key)] or settings.get("pooling_mode")
    listed = stated if isinstance(stated, list) else [stated]
    modes = tuple(mode for mode in listed if isinstance(mode, str))
    if type(width) is not int or width < 1 or not 0 < len(modes) == len(listed):
        raise ModelFormatError(f"{name} is not a pooling configuration", code="CONFIG_MALFORMED")
    return Pooling(width, modes)
