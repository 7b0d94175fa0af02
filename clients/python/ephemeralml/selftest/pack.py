"""The cases as they lie in the package: files become cases, or the installation is damaged."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from ephemeral.errors import ConfigError

FAMILIES: Final = (
    "documents",
    "chains",
    "recipients",
    "receipts",
    "manifests",
    "cms",
    "frames",
    "containers",
    "policies",
    "signed-policies",
)
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Expected:
    """How an input must be refused: the name of the error's class, and its code."""

    error: str
    code: str


@dataclass(frozen=True, slots=True)
class Case:
    """One input and how it is verified; `expected` is None for a control, which must be accepted.

    `threat` is an id of docs/threat-model.md, `says` what is wrong, `context` what else a verifier is given.
    """

    family: str
    name: str
    threat: str
    says: str
    raw: bytes
    context: Mapping[str, Any]
    expected: Expected | None


def load(family: str) -> list[Case]:
    """Return the cases of one family, by name.

    Raises:
        ConfigError: a file of the pack is missing, altered or of another version (SELFTEST_DATA).
    """
    if family not in FAMILIES:
        raise ValueError(f"no family {family!r}")
    try:
        # A shortened pack would pass with fewer cases: the index says what belongs to it.
        index = json.loads(_read("pack.json"))
        raw = _read(f"{family}.json")
        if index["version"] != _VERSION or sha256(raw).hexdigest() != index["families"][family]["sha256"]:
            raise ValueError
        return [*_cases(json.loads(raw))]
    except (OSError, ValueError, KeyError, TypeError, LookupError):
        text = f"the refusal pack of this installation is damaged ({family}): install ephemeralml again"
        raise ConfigError(text, code="SELFTEST_DATA") from None


def _read(name: str) -> bytes:
    return files(__package__).joinpath("data", name).read_bytes()


def _cases(content: Mapping[str, Any]) -> Iterator[Case]:
    for record in content["cases"]:
        expected = record["expected"]
        yield Case(
            family=content["family"],
            name=record["name"],
            threat=record["threat"],
            says=record["says"],
            raw=b64decode(record["input"], validate=True),
            context=content["contexts"][record["context"]],
            expected=None if expected == "accepted" else Expected(expected["error"], expected["code"]),
        )
