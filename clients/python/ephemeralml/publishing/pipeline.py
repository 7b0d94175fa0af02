"""modules.json and what it names: one transformer, then pooling and normalisation, and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ephemeral.errors import ModelFormatError
from ephemeralml.publishing.strict_json import read_object, read_value

_MAX_MODULES: Final = 8
_POOLING_KEYS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
_POOLING_MODES: Final = frozenset({*_POOLING_KEYS.values(), "weightedmean", "lasttoken"})


def check_pipeline(folder: Path, width: int | None) -> int | None:
    """Check the modules after the transformer, whose token vectors have `width` values; return the vectors' dimension.

    Raises:
        ModelFormatError: malformed, a module that is not supported, or a default prompt.
    """
    _refuse_default_prompt(folder)
    dimension = width
    pooled = False
    for path, kind in _modules(folder):
        if kind == "Pooling" and not pooled:
            dimension, pooled = _check_pooling(folder, path, width), True
        elif kind != "Normalize":
            raise ModelFormatError(f"module {kind[:80]} is not supported here", code="MODULE_UNSUPPORTED")
    if not pooled:
        raise ModelFormatError("modules.json has no Pooling: one vector per text needs it", code="MODULE_UNSUPPORTED")
    return dimension


def pooling_modes(folder: Path) -> list[str]:
    """Return the modes of a checked folder's pooling.

    Raises:
        ModelFormatError: the folder would not pass `check_pipeline`.
    """
    path = next((path for path, kind in _modules(folder) if kind == "Pooling"), "")
    return _modes(read_object(folder, f"{path}/config.json"))


def _refuse_default_prompt(folder: Path) -> None:
    name = "config_sentence_transformers.json"
    if (folder / name).is_file() and read_object(folder, name).get("default_prompt_name") is not None:
        text = f"{name} names a default prompt, which would be put before each text: not supported"
        raise ModelFormatError(text, code="MODULE_UNSUPPORTED")


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return (folder, class name) of the modules after the transformer, in order."""
    if not (folder / "modules.json").is_file():
        text = "the model has no modules.json: save it with sentence-transformers, which says how vectors are pooled"
        raise ModelFormatError(text, code="FILE_MISSING")
    match read_value(folder, "modules.json"):
        case [{"path": "", "type": str() as first}, *rest] if first.endswith(".Transformer"):
            pass
        case _:
            raise ModelFormatError("modules.json does not begin with a Transformer", code="MODULES_MALFORMED")
    pipeline = []
    for module in rest:
        match module:
            case {"path": str() as path, "type": str() as kind} if len(rest) < _MAX_MODULES:
                pipeline.append((path, kind.rsplit(".", 1)[-1]))
            case _:
                raise ModelFormatError("modules.json is malformed, or too long", code="MODULES_MALFORMED")
    return pipeline


def _check_pooling(folder: Path, path: str, width: int | None) -> int:
    name = f"{path}/config.json"
    settings = read_object(folder, name)
    modes = _modes(settings)
    stated = settings.get("word_embedding_dimension", settings.get("embedding_dimension"))
    if type(stated) is not int or not modes or not _POOLING_MODES.issuperset(modes):
        raise ModelFormatError(f"{name} is not a pooling configuration", code="CONFIG_MALFORMED")
    if width is not None and stated != width:
        text = f"{name} pools vectors of {stated} values, the transformer makes {width}"
        raise ModelFormatError(text, code="CONFIG_MALFORMED")
    return stated * len(modes)


def _modes(settings: Mapping[str, object]) -> list[str]:
    stated = settings.get("pooling_mode")
    modes = [mode for key, mode in _POOLING_KEYS.items() if settings.get(key)] or stated
    listed = modes if isinstance(modes, list) else [modes]
    return [mode if isinstance(mode, str) else "" for mode in listed]
