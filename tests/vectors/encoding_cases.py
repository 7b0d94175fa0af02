"""Section 1: deterministic CBOR."""

from typing import Any, Final

from ephemeral.trusted.cbor import CborError, decode, encode
from tests.vectors.cases import Values, VectorFile

_VALUES: Final[dict[str, Any]] = {
    "zero": 0,
    "23, the last integer in one byte": 23,
    "24": 24,
    "255": 255,
    "256": 256,
    "65,536": 65_536,
    "2^32": 2**32,
    "the largest integer": 2**64 - 1,
    "minus one": -1,
    "a private claim of the receipt profile": -65_537,
    "the smallest integer": -(2**64),
    "no bytes": b"",
    "24 bytes": bytes(24),
    "no text": "",
    "text outside ASCII": "Schlüssel",
    "null, false, true": [None, False, True],
    "integer keys in bytewise order: positive before negative": {-1: 1, 10: 2, 1: 3, 265: 4, -65_537: 5},
    "text keys in bytewise order of their encoding: shorter first": {"aa": 1, "b": 2, "": 3},
    "nested": {0: [1, {2: b"\x03"}], 1: {}},
}
_REFUSED: Final = {
    "nothing": "",
    "an integer with a longer head than needed": "1817",
    "a length with a longer head than needed": "580161",
    "a map of indefinite length": "bfff",
    "an array of indefinite length": "9fff",
    "a string of indefinite length": "5f4161ff",
    "keys out of order": "a202000100",
    "the same key twice": "a201000100",
    "a tag": "c100",
    "a float": "f93c00",
    "undefined": "f7",
    "another simple value": "f0",
    "a map as a key": "a1a000",
    "bytes after the value": "0000",
    "an end too early": "4261",
    "text that is not UTF-8": "61ff",
    "a depth of 7": "81818181818181" + "00",
    "4,097 items": "991000" + "00" * 4096,
}


def described(value: Any) -> Any:
    """Return a value so that JSON keeps its type: integers in decimal, bytes in hex, maps as pairs."""
    match value:
        case bool() | None:
            return value
        case int():
            return {"int": str(value)}
        case bytes():
            return {"bytes": value.hex()}
        case str():
            return {"text": value}
        case list():
            return {"array": [described(item) for item in value]}
        case dict():
            return {"map": [[described(key), described(item)] for key, item in value.items()]}
        case _:
            raise TypeError(type(value).__name__)


def _refuse(inputs: Values) -> str:
    try:
        decode(bytes.fromhex(inputs["encoded"]), max_bytes=65_536)
    except CborError:
        return "CBOR"
    raise AssertionError("accepted")


CBOR: Final = VectorFile(
    name="cbor",
    section="1",
    description="Deterministic CBOR. Integers are given in decimal, byte strings in hex, maps as pairs in any order.",
    derive=lambda inputs: {"encoded": encode(_VALUES[inputs["name"]])},
    cases={name: {"name": name, "value": described(value)} for name, value in _VALUES.items()},
    refuse=_refuse,
    refused={name: {"encoded": encoded} for name, encoded in _REFUSED.items()},
)
FILES: Final = (CBOR,)
