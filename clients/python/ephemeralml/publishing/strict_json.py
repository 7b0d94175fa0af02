"""JSON as the enclave reads it: no duplicate keys, no NaN, bounded size and depth."""

import json
from pathlib import Path
from typing import Final, NoReturn

from ephemeral.errors import ModelFormatError

MAX_JSON_BYTES: Final = 8 * 1024 * 1024


def read_object(folder: Path, name: str) -> dict[str, object]:
    """Read a file of the folder that holds one JSON object.

    Raises:
        ModelFormatError: as read_value(), or not an object.
    """
    return as_object(read_value(folder, name), name)


def read_value(folder: Path, name: str) -> object:
    """Read a file of the folder that holds one JSON value.

    Raises:
        ModelFormatError: missing, unreadable, or as parse_value().
    """
    try:
        with (folder / name).open("rb") as stream:
            raw = stream.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        raise ModelFormatError(f"the model has no {name}", code="FILE_MISSING") from None
    except OSError as error:
        raise ModelFormatError(f"cannot read {name}: {error.strerror}", code="MODEL_FILES") from None
    return parse_value(raw, name)


def as_object(value: object, what: str) -> dict[str, object]:
    """Return the value, which must be an object.

    Raises:
        ModelFormatError: it is something else.
    """
    if not isinstance(value, dict):
        raise ModelFormatError(f"{what} is not a JSON object", code="JSON_MALFORMED")
    return value


def parse_value(raw: bytes, what: str) -> object:
    """Parse one JSON value.

    Raises:
        ModelFormatError: too large, not UTF-8, not JSON, nested too deeply, a duplicate key, or NaN.
    """
    if len(raw) > MAX_JSON_BYTES:
        raise ModelFormatError(f"{what} has more than {MAX_JSON_BYTES:,} bytes", code="JSON_TOO_LARGE")
    try:
        value: object = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{what} is not strict JSON: {error}", code="JSON_MALFORMED") from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
