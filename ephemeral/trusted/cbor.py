"""Strict CBOR: deterministic for what we define, tolerant in one place for what the Nitro Security Module emits.

One pass reads heads and builds values, and refuses everything the profile does not name: hostile bytes meet no decoder
that knows tags, floats or references. cbor2 writes; in tests it also is the oracle of what is read.

Profile of both modes: integers, byte and text strings, arrays, maps, null, booleans. No tags, floats, undefined or
simple values, no indefinite-length strings, no duplicate keys, no map as a key, every byte consumed.

- Deterministic (RFC 8949 section 4.2.1): definite lengths, shortest heads, map keys in bytewise order.
- NSM: indefinite-length maps and arrays are admitted (genuine documents since 2025 have an indefinite outer map), and
  key order is free.
"""

from functools import lru_cache
from operator import ge
from typing import Any, Final

import cbor2

MAX_ITEMS: Final = 4096  # bounds the work on keys chosen to collide, and on everything else

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)  # RFC 8949 section 3.1
_INDEFINITE, _REFUSED = 8, 9  # what we make of some first bytes
_NUMBER: Final = _UNSIGNED  # an item that is its argument: an unsigned integer, or a constant
_BREAK: Final = 0xFF
_WHY: Final = {_TAG: "tags are not allowed", _SIMPLE: "floats, undefined and simple values are not allowed"}
_AS_IS: Final = frozenset({bytes, str, bool, type(None)})
_LEAST: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}  # the least number that needs a head of this many bytes


class CborError(ValueError):
    """The bytes are not CBOR of the profile; each parser turns this into its own typed error."""


def _head(first: int) -> tuple[int, Any, int, int]:
    """Return what a first byte says: kind, argument, size of an argument that follows, least that needs that size."""
    major, low = first >> 5, first & 31
    if major in _WHY:
        constants = {20: False, 21: True, 22: None}
        known = major == _SIMPLE and low in constants
        return (_NUMBER, constants[low], 0, 0) if known else (_REFUSED, _WHY[major], 0, 0)
    if low == 31:
        admitted = major in (_ARRAY, _MAP)
        return (_INDEFINITE, major, 0, 0) if admitted else (_REFUSED, "indefinite length is not allowed here", 0, 0)
    if low > 27:
        return _REFUSED, "reserved head", 0, 0
    extra = 1 << (low - 24) if low > 23 else 0
    return (major, 0, extra, _LEAST[extra]) if extra else (major, low, 0, 0)


_HEADS: Final = tuple(_head(first) for first in range(256))


class _Reader:
    """One pass over `raw`: a position goes in, values and the next position come out.

    Anything cut short yields a position beyond the end, where nothing can be read (an IndexError) and nothing can end.
    """

    __slots__ = ("_deterministic", "_items", "_max_depth", "_raw")

    def __init__(self, raw: bytes, *, deterministic: bool, max_depth: int) -> None:
        self._raw = raw
        self._deterministic = deterministic
        self._max_depth = max_depth
        self._items = 1

    def read(self, count: int, at: int, depth: int) -> tuple[list[object], list[int]]:
        """Return `count` items from `at` on, and where each starts; the last position is where the next would.

        Containers alone need a call: this loop runs for every item, and is most of the time of parsing.
        """
        raw, heads, deterministic = self._raw, _HEADS, self._deterministic
        items: list[object] = []
        starts = [at]
        for _ in range(count):
            kind, argument, extra, least = heads[raw[at]]
            at += 1
            if extra:
                argument = raw[at] if extra == 1 else int.from_bytes(raw[at : at + extra], "big")
                at += extra
                if argument < least and deterministic:
                    raise CborError("integer or length is not in its shortest form")
            if kind == _BYTES:
                items.append(raw[at : at + argument])
                at += argument
            elif kind == _TEXT:
                items.append(raw[at : at + argument].decode())
                at += argument
            elif kind == _NUMBER:
                items.append(argument)
            elif kind == _NEGATIVE:
                items.append(-1 - argument)
            elif kind == _REFUSED:
                raise CborError(argument)
            else:
                item, at = self._container(kind, argument, at, depth)
                items.append(item)
            starts.append(at)
        return items, starts

    def _container(self, kind: int, argument: int, at: int, depth: int) -> tuple[object, int]:
        if kind == _INDEFINITE:
            return self._indefinite(argument, at, depth)
        count = argument * 2 if kind == _MAP else argument
        self._enter(count, depth)
        items, starts = self.read(count, at, depth + 1)
        return (items if kind == _ARRAY else self._map(items, starts)), starts[-1]

    def _indefinite(self, major: int, at: int, depth: int) -> tuple[object, int]:
        if self._deterministic:
            raise CborError("indefinite length is not allowed here")
        items: list[object] = []
        while self._raw[at] != _BREAK:
            self._enter(1, depth)
            (item,), (_, at) = self.read(1, at, depth + 1)
            items.append(item)
        if major == _MAP and len(items) % 2:
            raise CborError("a map key without a value")
        return (items if major == _ARRAY else self._map(items, [])), at + 1

    def _enter(self, items: int, depth: int) -> None:
        self._items += items
        if items and (depth >= self._max_depth or self._items > MAX_ITEMS):
            raise CborError("nested too deeply or too many items")

    def _map(self, items: list[object], starts: list[int]) -> dict[object, object]:
        """Pair keys and values up. True and 1 are one key to Python, so they are duplicates here."""
        keys = items[::2]
        try:
            values = dict(zip(keys, items[1::2], strict=True))
        except TypeError:
            values = dict(zip(map(_frozen, keys), items[1::2], strict=True))
        if len(values) != len(keys):
            raise CborError("a map key is given twice")
        if self._deterministic:
            encoded = [self._raw[start:end] for start, end in zip(starts[::2], starts[1::2], strict=False)]
            if any(map(ge, encoded, encoded[1:])):
                raise CborError("map keys are not in bytewise order")
        return values


def _frozen(key: object) -> object:
    """Return a key that can be hashed: an array as a tuple."""
    if isinstance(key, dict):
        raise CborError("a map is no key")
    return tuple(_frozen(item) for item in key) if isinstance(key, list) else key


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
    try:
        (value,), (_, end) = _Reader(raw, deterministic=deterministic, max_depth=max_depth).read(1, 0, 0)
    except IndexError:
        raise CborError("ends too early") from None
    except UnicodeDecodeError:
        raise CborError("text is not UTF-8") from None
    if end != len(raw):
        raise CborError("bytes left over after the value")
    return value


def encode(value: object) -> bytes:
    """Encode in the deterministic form of RFC 8949 section 4.2.1; cbor2's `canonical` is the older length-first order.

    Raises:
        TypeError: a value of a type that our CBOR does not have.
        ValueError: an integer wider than 64 bits.
    """
    return cbor2.dumps(_ordered(value))


def encode_as_ordered(value: object) -> bytes:
    """Encode a value of our types whose maps are already in order; `encode` of it, without looking."""
    return cbor2.dumps(value)


def byte_string(content: bytes) -> bytes:
    """Encode one byte string; `encode` of it, without looking."""
    size = len(content)
    if size < 24:
        return bytes((0x40 | size,)) + content
    if size < 1 << 8:
        return (0x58_00 | size).to_bytes(2, "big") + content
    if size < 1 << 16:
        return (0x59_0000 | size).to_bytes(3, "big") + content
    return (0x5A << 32 | size).to_bytes(5, "big") + content


def _ordered(value: object) -> object:
    """Check the types and put every map in bytewise order of its keys' encodings."""
    kind = type(value)
    if kind in _AS_IS:
        return value
    if isinstance(value, dict):
        order = sorted([(_encoded_key(key), key) for key in value])
        return {key: item if type(item := value[key]) in _AS_IS else _ordered(item) for _, key in order}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if kind is not int:
        raise TypeError(f"{kind.__name__} has no place in our CBOR")
    if not isinstance(value, int) or not -(1 << 64) <= value < 1 << 64:
        raise ValueError("integer does not fit a CBOR head")  # cbor2 would write a tag, which no decoder of ours admits
    return value


def _encoded_key(key: object) -> bytes:
    return _encoded_label(key) if type(key) is int or type(key) is str else encode(key)


@lru_cache(maxsize=256)
def _encoded_label(key: int | str) -> bytes:
    # Labels and names are few, and the same in every message.
    return encode(key)
