"""Strict CBOR: deterministic for what we define, tolerant in one place for what the Nitro Security Module emits.

A scanner walks the encoded heads first and refuses everything the profile does not name; only then does cbor2 build
values. The scanner can only narrow what cbor2 accepts, so the two cannot be played against each other.

Profile of both modes: integers, byte and text strings, arrays, maps, null, booleans. No tags, floats, undefined or
simple values, no indefinite-length strings, no duplicate keys, every byte consumed.

- Deterministic (RFC 8949 section 4.2.1): definite lengths, shortest heads, map keys in bytewise order.
- NSM: indefinite-length maps and arrays are admitted (genuine documents since 2025 have an indefinite outer map), and
  key order is free.
"""

from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Final

import cbor2

MAX_ITEMS: Final = 4096  # bounds cbor2's work on keys chosen to collide
_BREAK: Final = 0xFF
_INDEFINITE: Final = 31
_SIMPLE: Final = frozenset({20, 21, 22})  # false, true, null


class CborError(ValueError):
    """The bytes are not CBOR of the profile; each parser turns this into its own typed error."""


class _Major(IntEnum):
    UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)


@dataclass(slots=True)
class _Scanner:
    raw: bytes
    deterministic: bool
    max_depth: int
    items: int = 0

    def skip(self, at: int, depth: int) -> int:
        """Check the item at `at`; return where the next one starts."""
        self.items += 1
        if depth > self.max_depth or self.items > MAX_ITEMS:
            raise CborError("nested too deeply or too many items")
        major, argument, after = self._head(at)
        match major:
            case _Major.UNSIGNED | _Major.NEGATIVE:
                return after
            case _Major.BYTES | _Major.TEXT:
                return self._string(argument, after)
            case _Major.ARRAY:
                return self._array(argument, after, depth)
            case _Major.MAP:
                return self._map(argument, after, depth)
            case _:
                raise CborError("tags are not allowed")

    def _head(self, at: int) -> tuple[_Major, int | None, int]:
        """Read one head: major type, argument (None when indefinite), and where the content starts."""
        if at >= len(self.raw):
            raise CborError("ends too early")
        major, low = _Major(self.raw[at] >> 5), self.raw[at] & 31
        if major is _Major.SIMPLE:
            if low not in _SIMPLE:
                raise CborError("floats, undefined and simple values are not allowed")
            return _Major.UNSIGNED, low, at + 1
        if low < 24:
            return major, low, at + 1
        if low == _INDEFINITE:
            if self.deterministic or major not in (_Major.ARRAY, _Major.MAP):
                raise CborError("indefinite length is not allowed here")
            return major, None, at + 1
        return major, *self._long_argument(low, at + 1)

    def _long_argument(self, low: int, at: int) -> tuple[int, int]:
        if low > 27:
            raise CborError("reserved head")
        size = 1 << (low - 24)
        if at + size > len(self.raw):
            raise CborError("ends too early")
        value = int.from_bytes(self.raw[at : at + size], "big")
        if self.deterministic and value < (24 if size == 1 else 1 << (size * 4)):
            raise CborError("integer or length is not in its shortest form")
        return value, at + size

    def _string(self, length: int | None, at: int) -> int:
        if length is None or at + length > len(self.raw):
            raise CborError("ends too early")
        return at + length

    def _array(self, count: int | None, at: int, depth: int) -> int:
        remaining = count
        while not self._done(remaining, at):
            at = self.skip(at, depth + 1)
            remaining = None if remaining is None else remaining - 1
        return at + (count is None)

    def _map(self, count: int | None, at: int, depth: int) -> int:
        remaining, previous = count, b""
        while not self._done(remaining, at):
            key_end = self.skip(at, depth + 1)
            key = self.raw[at:key_end]
            if self.deterministic and key <= previous:
                raise CborError("map keys are not in bytewise order")
            previous = key
            at = self.skip(key_end, depth + 1)
            remaining = None if remaining is None else remaining - 1
        return at + (count is None)

    def _done(self, remaining: int | None, at: int) -> bool:
        if remaining is not None:
            return remaining == 0
        return at < len(self.raw) and self.raw[at] == _BREAK


def decode(raw: bytes, *, max_bytes: int, max_depth: int = 6) -> object:
    """Decode deterministically encoded CBOR of the profile.

    Raises:
        CborError: too large, not of the profile, not deterministic, or bytes left over.
    """
    return _decode(raw, max_bytes=max_bytes, max_depth=max_depth, deterministic=True)


def decode_nsm(raw: bytes, *, max_bytes: int, max_depth: int = 4) -> object:
    """Decode CBOR as the Nitro Security Module writes it: indefinite containers and any key order are admitted.

    Raises:
        CborError: too large, not of the profile, or bytes left over.
    """
    return _decode(raw, max_bytes=max_bytes, max_depth=max_depth, deterministic=False)


def _decode(raw: bytes, *, max_bytes: int, max_depth: int, deterministic: bool) -> object:
    if not raw or len(raw) > max_bytes:
        raise CborError(f"{len(raw)} bytes, expected 1 to {max_bytes}")
    if _Scanner(raw, deterministic, max_depth).skip(0, 0) != len(raw):
        raise CborError("bytes left over after the value")
    try:
        # A new decoder each time: cbor2 decoders keep state between values (CVE-2025-68131).
        decoder = cbor2.CBORDecoder(BytesIO(raw), allow_duplicate_keys=False, allow_indefinite=not deterministic)
        return decoder.decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise CborError(str(error)) from None


def encode(value: object) -> bytes:
    """Encode in the deterministic form of RFC 8949 section 4.2.1; cbor2's `canonical` is the older length-first order.

    Raises:
        TypeError: a value of a type that our CBOR does not have.
        ValueError: an integer wider than 64 bits.
    """
    return cbor2.dumps(_ordered(value))


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        pairs = sorted((encode(key), key, item) for key, item in value.items())
        return {key: _ordered(item) for _, key, item in pairs}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, int) and not -(1 << 64) <= value < 1 << 64:
        raise ValueError("integer does not fit a CBOR head")  # cbor2 would write a tag, which no decoder of ours admits
    if value is None or type(value) in (int, bytes, str, bool):
        return value
    raise TypeError(f"{type(value).__name__} has no place in our CBOR")
