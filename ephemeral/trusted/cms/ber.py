"""A cursor over BER (X.690) that walks one expected structure and admits nothing else.

No recursion and no tree: the caller names each tag in order. Lengths of values are definite and shortest (DER, section
10.1); a structure may be of indefinite length (section 8.1.3.6) where the caller allows it.
"""

from typing import Final

_INDEFINITE: Final = 0x80
_MAX_LENGTH_BYTES: Final = 2


class BerError(ValueError):
    """The bytes are not the structure expected."""


class BerCursor:
    """Reads elements in order; every structure entered is left, and every byte belongs to an element."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self._ends: list[int] = [len(raw)]  # of the structures entered
        self._open: list[bool] = []  # whether each is of indefinite length

    def enter(self, tag: int, *, indefinite: bool = False) -> None:
        """Step into a structure; `indefinite` allows that length form as well."""
        self._tag(tag)
        is_open = indefinite and self._peek() == _INDEFINITE
        if is_open:
            self._at += 1
        self._ends.append(self._ends[-1] if is_open else self._end())
        self._open.append(is_open)

    def leave(self) -> None:
        """Step out of the structure, which must be used up."""
        if not self.at_end():
            raise BerError("more elements than expected")
        self._ends.pop()
        if self._open.pop():
            self._at += 2

    def at_end(self) -> bool:
        """Say whether the structure holds no further element."""
        if self._open and self._open[-1]:
            return self._raw[self._at : self._at + 2] == b"\0\0" and self._at + 2 <= self._ends[-1]
        return self._at == self._ends[-1]

    def value(self, tag: int) -> bytes:
        """Read the content of one primitive element."""
        self._tag(tag)
        end = self._end()
        content, self._at = self._raw[self._at : end], end
        return content

    def expect(self, tag: int, content: bytes) -> None:
        """Read one primitive element whose content is known."""
        if self.value(tag) != content:
            raise BerError("an element has another value")

    def finish(self) -> None:
        """Check that nothing is left over."""
        if self._open or self._at != len(self._raw):
            raise BerError("bytes left over")

    def next_is(self, tag: int) -> bool:
        """Say whether the next element has this tag."""
        return self._peek() == tag

    def _tag(self, tag: int) -> None:
        if self._peek() != tag:
            raise BerError("another element than expected")
        self._at += 1

    def _peek(self) -> int:
        if self._at >= self._ends[-1]:
            raise BerError("ends too early")
        return self._raw[self._at]

    def _end(self) -> int:
        """Read a definite, shortest length; return where the content ends."""
        length = self._peek()
        self._at += 1
        if length >= _INDEFINITE:
            size = length - _INDEFINITE
            head = self._raw[self._at : self._at + size]
            if not 1 <= size <= _MAX_LENGTH_BYTES or len(head) != size:
                raise BerError("length")
            length, self._at = int.from_bytes(head, "big"), self._at + size
            if length < (_INDEFINITE if size == 1 else 1 << 8):
                raise BerError("length is not in its shortest form")
        if self._at + length > self._ends[-1]:
            raise BerError("ends too early")
        return self._at + length
