"""Bytes that must not print, compare, copy or linger by accident.

CPython cannot promise wiping: libraries keep copies of what they are given. What is promised is a buffer of our own
that is overwritten, and no copy made by a log line, a comparison, a pickle or a traceback.
"""

from hmac import compare_digest
from types import TracebackType
from typing import NoReturn, Self


class SecretBytes:
    """A secret in one wipeable buffer."""

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Copy `value`; a caller that holds a bytearray wipes its own."""
        self._buffer: bytearray | None = bytearray(value)

    def reveal(self) -> memoryview:
        """Give read access to the buffer itself, not to a copy.

        Raises:
            RuntimeError: the secret was wiped.
        """
        if self._buffer is None:
            raise RuntimeError("secret used after it was wiped")
        return memoryview(self._buffer).toreadonly()

    def wipe(self) -> None:
        """Overwrite the buffer; using the secret afterwards is a RuntimeError."""
        if self._buffer is not None:
            self._buffer[:] = bytes(len(self._buffer))
        self._buffer = None

    def __len__(self) -> int:
        return len(self.reveal())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "SecretBytes(<redacted>)"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretBytes) and compare_digest(self.reveal(), other.reveal())

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a fingerprint of it

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not picklable")
