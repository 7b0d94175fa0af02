"""A script of faults for tests: what a host, a network or AWS itself may do to the n-th call of an operation."""

import json
import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ephemeral.errors import ConfigError

_MAX_DELAY_SECONDS: Final = 60
_MEMBERS: Final = frozenset({"operation", "nth", "fault", "seconds"})


class FaultKind(StrEnum):
    """What can go wrong."""

    THROTTLE = "throttle"
    ERROR_500 = "error500"
    DELAY = "delay"
    SWAP_WRAPPED_KEY = "swap_wrapped_key"  # the host sends another key's blob: KMS opens it, honestly
    FORGE_CMS = "forge_cms"  # the host answers by itself, to the RSA key it saw in the document
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the plan; `nth` counts from 1, and 0 means every call."""

    operation: str
    nth: int
    kind: FaultKind
    seconds: float = 1.0


class FaultPlan:
    """The plan in a file, read again whenever the file changes; a change also starts the counting anew."""

    def __init__(self, path: Path | None) -> None:
        """Read the plan once, so that a bad one stops the start.

        Raises:
            ConfigError: unreadable, or not a list of faults.
        """
        self._path = path
        self._lock = threading.Lock()
        self._text = ""
        self._faults: tuple[Fault, ...] = ()
        self._calls: Counter[str] = Counter()
        self._refresh()

    def next(self, operation: str) -> Fault | None:
        """Count one call of the operation and return the fault planned for it.

        Raises:
            ConfigError: the file changed into something that is no plan.
        """
        with self._lock:
            self._refresh()
            self._calls[operation] += 1
            count = self._calls[operation]
            planned = (fault for fault in self._faults if fault.operation == operation and fault.nth in (0, count))
            return next(planned, None)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"fault plan {self._path}: {error}") from None
        if text != self._text:
            self._faults, self._text = parse_faults(text), text
            self._calls.clear()


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Parse a plan: a JSON list of `{"operation", "nth", "fault", "seconds"?}`.

    Raises:
        ConfigError: not such a list.
    """
    try:
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise ConfigError("a fault plan is a JSON list")
        return tuple(_parse_fault(entry) for entry in entries)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"fault plan: {type(error).__name__}: {error}") from None


def _parse_fault(entry: object) -> Fault:
    if not isinstance(entry, dict) or entry.keys() - _MEMBERS:
        raise ConfigError(f"a fault has only the members {', '.join(sorted(_MEMBERS))}")
    operation, nth, seconds = entry["operation"], entry["nth"], entry.get("seconds", 1.0)
    if not isinstance(operation, str) or type(nth) is not int or nth < 0:
        raise ConfigError("a fault names an operation and its nth call (from 1; 0 for every call)")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_DELAY_SECONDS:
        raise ConfigError(f"a delay lasts 0 to {_MAX_DELAY_SECONDS} seconds")
    return Fault(operation, nth, FaultKind(entry["fault"]), float(seconds))
