"""One case of the pack, and how a family of cases becomes a file: the same bytes each time."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ephemeral.errors import EphemeralError

VERSION = 1
Context = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """Input, context and verdict; without `error` it is a control, which must be accepted."""

    name: str
    threat: str  # an id of docs/threat-model.md
    says: str  # what is wrong with it, or what is right with a control
    raw: bytes
    context: Context
    error: type[EphemeralError] | None = None
    code: str | None = None

    def record(self) -> dict[str, Any]:
        """Return what the file says of it."""
        expected: Any = "accepted" if self.error is None else {"code": self.code, "error": self.error.__name__}
        return {
            "name": self.name,
            "threat": self.threat,
            "says": self.says,
            "input": b64encode(self.raw).decode(),
            "context": plain(self.context),
            "expected": expected,
        }


@dataclass(frozen=True)
class Family:
    """All cases of one kind of input, and what the file says of itself."""

    name: str
    about: str
    cases: Callable[[], Iterator[Case]]

    def file(self) -> bytes:
        """Return the file: sorted by name, one layout, a line break at the end.

        Contexts that are alike are written once: a case names its own.
        """
        cases = sorted(self.cases(), key=lambda case: case.name)
        names = [case.name for case in cases]
        assert len(set(names)) == len(names), f"{self.name}: two cases have one name"
        records = [case.record() for case in cases]
        contexts = _shared([record["context"] for record in records])
        for record in records:
            record["context"] = contexts.index(record["context"])
        content = {
            "about": self.about,
            "cases": records,
            "contexts": contexts,
            "family": self.name,
            "version": VERSION,
        }
        return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _shared(contexts: list[Any]) -> list[Any]:
    return [context for place, context in enumerate(contexts) if context not in contexts[:place]]


def plain(value: Any) -> Any:
    """Return a context as JSON holds it: bytes in hex, times in ISO 8601."""
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return value.isoformat()
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value
