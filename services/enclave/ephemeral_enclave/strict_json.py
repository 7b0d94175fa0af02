"""JSON without the traps of the standard parser: no duplicate keys, no NaN, bounded size and depth."""

import json
from typing import Final, NoReturn

from ephemeral.errors import ModelFormatError

MAX_JSON_BYTES: Final = 8 * 1024 * 1024


def parse_object(raw: bytes | memoryview, what: str, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, object]:
    """Parse one JSON object; see parse_value().

    Raises:
        ModelFormatError: as parse_value(), or not an object.
    """
    value = parse_value(raw, what, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise ModelFormatError(f"{what} is not a JSON object", code="JSON_MALFORMED")
    return value


def parse_value(raw: bytes | memoryview, what: str, *, max_bytes: int = MAX_JSON_BYTES) -> object:
    """Parse one JSON value.

    Raises:
        ModelFormatError: too large, not UTF-8, not JSON, nested too deeply, a duplicate key, or NaN.
    """
    if len(raw) > max_bytes:
        raise ModelFormatError(f"{what} has {len(raw)} bytes, at most {max_bytes} are read", code="JSON_TOO_LARGE")
    try:
        value: object = json.loads(str(raw, "utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
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
