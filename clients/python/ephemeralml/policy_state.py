"""What was accepted before: the newest serial of each signed policy, so that an older one is not accepted again.

One JSON file, readable and writable by its owner alone, replaced as a whole, under a lock that processes share::

    {"version": 1, "policies": [{"signer": hex, "name": text, "serial": integer, "sha256": hex of the TOML bytes}]}

A state that is not there is a first use: whatever its signer signed is accepted once, and remembered. A state that is
there and cannot be read is a refusal, because reading it as empty would let any older policy back in.
"""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from ephemeral.errors import PolicyError
from ephemeral.trusted.policy import VerifiedPolicy

_VERSION: Final = 1
_MAX_BYTES: Final = 1024 * 1024
_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Remembered:
    """The newest accepted version of one policy; `sha256` is of its TOML bytes, in hex."""

    signer: str
    name: str
    serial: int
    sha256: str

    @classmethod
    def of(cls, verified: VerifiedPolicy) -> Self:
        """Return what is to be remembered of a policy."""
        return cls(verified.signer.raw.hex(), verified.version.name, verified.version.serial, verified.digest.hex())

    def refuse_older(self, other: "Remembered") -> None:
        """Return if `other` may follow this version of the same policy.

        Raises:
            PolicyError: it is older (POLICY_ROLLBACK), or another text under the same serial (POLICY_EQUIVOCATION).
        """
        if other.serial < self.serial:
            raise PolicyError(
                f"policy {self.name!r} has serial {other.serial}, but {self.serial} was accepted before: somebody put "
                "an older policy back. Get the newest; to go back on purpose, sign the old rules under a higher serial",
                code="POLICY_ROLLBACK",
            )
        if other.serial == self.serial and other.sha256 != self.sha256:
            raise PolicyError(
                f"policy {self.name!r} was accepted before with the same serial {self.serial} and another text: its "
                "signer signed two different policies. Ask which is meant, and have it signed under a higher serial",
                code="POLICY_EQUIVOCATION",
            )


class PolicyState:
    """The remembered versions in one file."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is made when the first policy is accepted."""
        self._path = Path(path)

    def accept(self, verified: VerifiedPolicy, *, name: str | None = None) -> None:
        """Accept this version if none newer was accepted before, and remember it before returning.

        Without `name`, a signer of whom only other policies are remembered is refused: a policy that is valid
        elsewhere must not stand in for this one.

        Raises:
            PolicyError: POLICY_ROLLBACK, POLICY_EQUIVOCATION, POLICY_OTHER_NAME, or the state cannot be read, written
                or trusted (POLICY_STATE).
        """
        offered = Remembered.of(verified)
        refuse_other_name(name, offered.name)
        try:
            with self._locked():
                self._accept(offered, named=name is not None)
        except OSError as error:
            raise PolicyError(
                f"cannot remember which policy was accepted in {self._path}: {error.strerror}. Without that an older "
                "policy could be put back: name a file that this user can write",
                code="POLICY_STATE",
            ) from None

    def _accept(self, offered: Remembered, *, named: bool) -> None:
        known = {(row.signer, row.name): row for row in self._read()}
        before = known.get((offered.signer, offered.name))
        if before is not None:
            before.refuse_older(offered)
        elif not named:
            for row in known.values():
                if row.signer == offered.signer:
                    refuse_other_name(row.name, offered.name)
        if before != offered:
            self._write([*(known | {(offered.signer, offered.name): offered}).values()])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> list[Remembered]:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                raw = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return []
        if mode & _WRITABLE_BY_OTHERS:
            raise self._unusable("others can write it (chmod 600 it if its contents are right)")
        if len(raw) > _MAX_BYTES:
            raise self._unusable(f"it has more than {_MAX_BYTES:,} bytes")
        try:
            return _rows(json.loads(raw))
        except (ValueError, TypeError, RecursionError):
            raise self._unusable("it is not what this client writes") from None

    def _unusable(self, why: str) -> PolicyError:
        return PolicyError(
            f"cannot trust the remembered policy state {self._path}: {why}. Restore it from a backup; if there is "
            "none, learn the newest serial from the policy's signer, delete the file and load that policy first",
            code="POLICY_STATE",
        )

    def _write(self, rows: list[Remembered]) -> None:
        content = json.dumps({"version": _VERSION, "policies": [asdict(row) for row in rows]}, indent=2)
        replace_file(self._path, content.encode() + b"\n", _MODE)


def refuse_other_name(wanted: str | None, name: str) -> None:
    """Return if `name` is the policy that is wanted, or none in particular is.

    Raises:
        PolicyError: POLICY_OTHER_NAME.
    """
    if wanted not in (None, name):
        raise PolicyError(
            f"the policy is {name!r}, not {wanted!r}: the same signer signed both. Name the policy you want, if it is "
            "this one",
            code="POLICY_OTHER_NAME",
        )


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step, durably: a reader sees the old bytes or the new ones, never a part.

    Raises:
        OSError: not writable.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _rows(value: object) -> list[Remembered]:
    """Read exactly what `_write` writes.

    Raises:
        ValueError, TypeError: it is something else.
    """
    if not isinstance(value, dict) or set(value) != {"version", "policies"} or value["version"] != _VERSION:
        raise ValueError("not the state of this version")
    rows = [Remembered(**row) for row in value["policies"]]
    for row in rows:
        if [type(field) for field in (row.signer, row.name, row.serial, row.sha256)] != [str, str, int, str]:
            raise TypeError("a field has another type")
        if (len(bytes.fromhex(row.signer)), len(bytes.fromhex(row.sha256))) != (32, 32) or row.serial < 1:
            raise ValueError("a field is out of bounds")
    if len({(row.signer, row.name) for row in rows}) != len(rows):
        raise ValueError("a policy is remembered twice")
    return rows
