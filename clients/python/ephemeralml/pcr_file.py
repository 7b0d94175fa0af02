"""PCRs as build tools write them: nitro-cli's JSON and its flat relatives, into one set of measurements."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from ephemeral.errors import PolicyError
from ephemeral.trusted.policy import Measurements

MAX_PCR_FILE_BYTES: Final = 65_536
_WRAPPER: Final = "Measurements"
_ALGORITHM: Final = "hashalgorithm"
_PCR: Final = re.compile(r"pcr[_-]?([0-9]{1,2})", re.ASCII | re.IGNORECASE)
_REQUIRED: Final = (0, 1, 2)
_PINNABLE: Final = (0, 1, 2, 3, 4, 8)


def read_measurements(
    raw: bytes, label: str | None, *, not_before: datetime | None = None, not_after: datetime | None = None
) -> Measurements:
    """Read one build's PCRs: `{"Measurements": {"HashAlgorithm": …, "PCR0": …}}` or the inner object alone.

    `PCR0`, `pcr0` and `pcr_0` are one name, hex may be of either case. Without a label, PCR0 gives one.

    Raises:
        PolicyError: not such JSON, a PCR that is missing, short, zero, given twice or that no policy can pin.
    """
    pcrs = _pcrs(_registers(raw))
    missing = [f"PCR{index}" for index in _REQUIRED if index not in pcrs]
    if missing:
        raise PolicyError(f"no {', '.join(missing)} there: a build is all of PCR0, PCR1 and PCR2", code="PCR_MISSING")
    return Measurements(
        pcr0=pcrs[0],
        pcr1=pcrs[1],
        pcr2=pcrs[2],
        pcr3=pcrs.get(3),
        pcr4=pcrs.get(4),
        pcr8=pcrs.get(8),
        label=f"build {pcrs[0].hex()[:12]}" if label is None else label,
        not_before=not_before,
        not_after=not_after,
    )


def append_build(toml: str, build: Measurements) -> str:
    """Return the text of a policy with one more [[measurements]] table at its end, and nothing else changed.

    Raises:
        PolicyError: the label cannot be written in one line.
    """
    if not build.label or not build.label.isprintable():
        raise PolicyError("a label is one line of printable characters, and not empty", code="POLICY_NAME")
    # Of printable text JSON escapes the quote and the backslash alone, as TOML does.
    lines = ["[[measurements]]", f"label = {json.dumps(build.label, ensure_ascii=False)}"]
    lines += [f'pcr{index} = "{value.hex()}"' for index, value in build.pinned.items()]
    times = {"not_before": build.not_before, "not_after": build.not_after}
    lines += [f"{name} = {time.isoformat()}" for name, time in times.items() if time is not None]
    separator = "\n" if toml.endswith("\n") or not toml else "\n\n"
    return toml + separator + "\n".join(lines) + "\n"


def require_registers_set(path: Path, build: Measurements) -> None:
    """Refuse to pin a register that nobody extended: that says "none", which nobody means.

    Raises:
        PolicyError: a pinned PCR is zero.
    """
    for index, value in build.pinned.items():
        if not any(value):
            text = f"PCR{index} in {path} is zero: nothing extended it, so it pins nothing. Leave it out"
            raise PolicyError(text, code="POLICY_ZERO")


def _registers(raw: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"the PCR file is not JSON that can be read in one way: {error}", code="PCR_SYNTAX") from None
    if isinstance(value, dict) and _WRAPPER in value:
        value = value[_WRAPPER]
    if not isinstance(value, dict):
        raise PolicyError('the PCR file is neither {"Measurements": {"PCR0": …}} nor {"PCR0": …}', code="PCR_SYNTAX")
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values


def _pcrs(registers: Mapping[str, object]) -> dict[int, bytes]:
    pcrs: dict[int, bytes] = {}
    for key, value in registers.items():
        if key.replace("_", "").lower() == _ALGORITHM:
            _require_sha384(value)
            continue
        index = _index(key)
        if index in pcrs:
            raise PolicyError(f"PCR{index} is given twice, in two spellings", code="PCR_SYNTAX")
        pcrs[index] = _unhex(key, value)
    return pcrs


def _index(key: str) -> int:
    named = _PCR.fullmatch(key)
    if named is None:
        raise PolicyError(f"{key!r} is no PCR: expected PCR0, pcr0 or pcr_0, and HashAlgorithm", code="PCR_UNKNOWN")
    index = int(named[1])
    if index not in _PINNABLE:
        raise PolicyError(f"a policy pins PCR0 to 4 and 8, not PCR{index}: remove it", code="PCR_UNKNOWN")
    return index


def _require_sha384(value: object) -> None:
    if not isinstance(value, str) or "sha384" not in value.lower().replace("-", ""):
        raise PolicyError("HashAlgorithm is not SHA-384: these are not PCRs of a Nitro enclave", code="PCR_SYNTAX")


def _unhex(key: str, value: object) -> bytes:
    try:
        if not isinstance(value, str) or not value.isascii() or not value.isalnum():
            raise ValueError
        return bytes.fromhex(value)
    except ValueError:
        raise PolicyError(f"{key} is not 96 hex characters", code="PCR_SYNTAX") from None
