"""Strict CBOR: one value, one encoding; and the one place where the security module's own habits are let in."""

import random
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ephemeral.trusted.cbor import (
    MAX_ITEMS,
    CborError,
    byte_string,
    decode,
    decode_nsm,
    encode,
    encode_as_ordered,
)

CAP = 65_536

# RFC 8949 appendix A and section 4.2.1, by what a strict decoder does with them.
REFUSED_BY_BOTH = {
    "empty": "",
    "trailing byte": "0000",
    "float16": "f93c00",
    "float32": "fa47c35000",
    "float64": "fb3ff199999999999a",
    "NaN": "f97e00",
    "undefined": "f7",
    "simple value": "f0",
    "simple value, long": "f818",
    "bignum": "c249010000000000000000",
    "date tag": "c074323031332d30332d32315432303a30343a30305a",
    "regular expression tag": "d8236161",
    "cyclic reference tag": "d81c81d81d00",
    "self-described": "d9d9f700",
    "chunked bytes": "5f42010243030405ff",
    "chunked text": "7f657374726561646d696e67ff",
    "empty chunked bytes": "5fff",
    "break alone": "ff",
    "break in a definite array": "82 00 ff",
    "reserved head 28": "1c",
    "reserved head 30": "fe",
    "cut string": "4301",
    "cut head": "19 01",
    "array longer than the input": "9b7fffffffffffffff",
    "string longer than the input": "5b7fffffffffffffff",
    "map without value": "a101",
    "text not UTF-8": "61ff",
    "text with a surrogate": "63eda080",
    "same key twice": "a201000100",
    "text key twice": "a2616100616101",
    "true beside 1": "a20100f500",
    "indefinite unsigned": "1f",
    "indefinite tag": "df00",
}
REFUSED_BY_DETERMINISTIC = {
    "indefinite array": "9f0102ff",
    "indefinite map": "bf0102ff",
    "long head for 23": "1817",
    "long head for 255": "1900ff",
    "long head for 65535": "1a0000ffff",
    "long head for 2^32-1": "1b00000000ffffffff",
    "long negative": "3900ff",
    "long string length": "580100",
    "long array length": "980100",
    "keys out of order": "a202000100",
    "length-first order of keys": "a2200018640 0",
    "text keys out of order": "a2616200616100",
}


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize("text", REFUSED_BY_BOTH.values(), ids=REFUSED_BY_BOTH)
def test_both_profiles_refuse(text: str) -> None:
    for decoder in (decode, decode_nsm):
        with pytest.raises(CborError):
            decoder(unhex(text), max_bytes=CAP)


@pytest.mark.parametrize("text", REFUSED_BY_DETERMINISTIC.values(), ids=REFUSED_BY_DETERMINISTIC)
def test_a_second_encoding_of_a_value_is_refused_except_from_the_security_module(text: str) -> None:
    with pytest.raises(CborError):
        decode(unhex(text), max_bytes=CAP)
    decode_nsm(unhex(text), max_bytes=CAP)


def test_keys_are_ordered_by_bytes_not_by_length_first() -> None:
    # RFC 8949 section 4.2.1 against RFC 7049 section 3.9: 100 (1864) sorts before -1 (20).
    value = {-1: 0, 100: 0, 10: 0, "z": 0, "aa": 0, False: 0}
    assert encode(value) == unhex("a6 0a00 186400 2000 617a00 62616100 f400")
    assert decode(encode(value), max_bytes=CAP) == value


def test_size_is_checked_before_anything_else() -> None:
    with pytest.raises(CborError, match="11 bytes"):
        decode(b"\xff" * 11, max_bytes=10)


@pytest.mark.parametrize("depth", [3, 500, 20_000])
def test_nesting_is_limited(depth: int) -> None:
    raw = b"\x81" * depth + b"\0"
    assert decode(b"\x81\x81\0", max_bytes=CAP, max_depth=2) == [[0]]
    with pytest.raises(CborError, match="deeply"):
        decode(raw, max_bytes=CAP, max_depth=2)
    with pytest.raises(CborError, match="deeply"):
        decode_nsm(b"\x9f" * (depth + 1) + b"\xff" * (depth + 1), max_bytes=CAP, max_depth=2)


@pytest.mark.parametrize(
    "value", [list(range(MAX_ITEMS)), dict.fromkeys(range(MAX_ITEMS // 2), 0)], ids=["list", "map"]
)
def test_items_are_limited_whatever_the_size_limit(value: object) -> None:
    with pytest.raises(CborError, match="too many"):
        decode_nsm(cbor2.dumps(value), max_bytes=10**6)


def test_keys_whose_hashes_collide_need_a_tag_and_are_refused() -> None:
    # Python hashes integers modulo 2^61 - 1: 20,000 such keys took cbor2 21 seconds.
    collide = {index * (2**61 - 1): 0 for index in range(1000)}
    with pytest.raises(CborError, match="tags"):
        decode_nsm(cbor2.dumps(collide), max_bytes=10**6)


@pytest.mark.parametrize(
    "value", [1.5, {1, 2}, object(), b"x".__class__, {"a": [1.0]}, {1.0: 0}], ids=lambda value: type(value).__name__
)
def test_encoding_a_type_outside_the_profile_is_our_own_bug(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize("value", [1 << 64, -(1 << 64) - 1])
def test_encoding_an_integer_wider_than_64_bits_is_our_own_bug(value: int) -> None:
    with pytest.raises(ValueError, match="head"):
        encode(value)


SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20)
KEYS = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@given(VALUES)
def test_whatever_is_encoded_decodes_to_the_same_and_encodes_to_the_same(value: Any) -> None:
    raw = encode(value)
    assert decode(raw, max_bytes=CAP, max_depth=30) == value
    assert encode(decode(raw, max_bytes=CAP, max_depth=30)) == raw


@given(st.binary(min_size=1, max_size=80))
def test_arbitrary_bytes_give_a_value_with_this_one_encoding_or_the_one_error(raw: bytes) -> None:
    try:
        value = decode(raw, max_bytes=CAP)
    except CborError:
        return
    assert encode(value) == raw


@given(st.binary(min_size=1, max_size=80))
def test_arbitrary_bytes_never_give_the_tolerant_decoder_another_error(raw: bytes) -> None:
    try:
        decode_nsm(raw, max_bytes=CAP)
    except CborError:
        return


# --- the decoder against cbor2, which is the oracle of what bytes mean


def typed(value: Any) -> Any:
    """Return a value that compares types too: to Python 1, 1.0 and True are one."""
    if isinstance(value, dict):
        return ("map", [(typed(key), typed(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [typed(item) for item in value])
    return (type(value).__name__, value)


def oracle(raw: bytes, *, nsm: bool) -> Any:
    """Return what cbor2 reads, all of it, in its own strictest mode; anything else is a CborError."""
    try:
        value = cbor2.loads(raw, allow_duplicate_keys=False, allow_indefinite=nsm)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise CborError(str(error)) from None
    return value


def deterministic_by_definition(raw: bytes) -> Any:
    """Return the value if `raw` is the one encoding of a value of the profile."""
    value = oracle(raw, nsm=False)
    try:
        same = encode(value) == raw
    except (TypeError, ValueError):
        same = False
    if not same:
        raise CborError("not deterministic")
    return value


def verdict(decoder: Any, raw: bytes) -> Any:
    try:
        return typed(decoder(raw))
    except CborError:
        return "refused"


def strict(raw: bytes) -> object:
    return decode(raw, max_bytes=CAP, max_depth=100)


def tolerant(raw: bytes) -> object:
    return decode_nsm(raw, max_bytes=CAP, max_depth=100)


def spelt_by(seeded: random.Random, value: Any, *, wild: bool) -> bytes:
    """Encode a value; a wild speller draws long heads, indefinite containers and any order of keys."""

    def head(major: int, argument: int) -> bytes:
        sizes = [size for size in (0, 1, 2, 4, 8) if argument < (24 if size == 0 else 1 << 8 * size)]
        size = seeded.choice(sizes) if wild else sizes[0]
        low = argument if size == 0 else 23 + size.bit_length()
        return bytes([major << 5 | low]) + (argument.to_bytes(size, "big") if size else b"")

    def spelt(item: Any) -> bytes:
        return spelt_by(seeded, item, wild=wild)

    def container(major: int, count: int, content: list[bytes]) -> bytes:
        if wild and seeded.random() < 0.3:
            return bytes([major << 5 | 31]) + b"".join(content) + b"\xff"
        return head(major, count) + b"".join(content)

    if isinstance(value, dict):
        pairs = [spelt(key) + spelt(item) for key, item in value.items()]
        seeded.shuffle(pairs)
        return container(5, len(pairs), pairs)
    if isinstance(value, list):
        return container(4, len(value), [spelt(item) for item in value])
    if isinstance(value, bytes | str):
        content = value if isinstance(value, bytes) else value.encode()
        return head(2 if isinstance(value, bytes) else 3, len(content)) + content
    if type(value) is int:
        return head(0, value) if value >= 0 else head(1, -1 - value)
    return cbor2.dumps(value)


def damaged(seeded: random.Random, raw: bytes) -> bytes:
    mutant = bytearray(raw)
    for _ in range(seeded.randrange(1, 4)):
        at = seeded.randrange(len(mutant) + 1)
        mutant[at : at + seeded.choice((0, 1, 1, 2))] = seeded.choice(
            (b"", b"\xff", b"\x18", b"\xa1", b"\x9f", b"\xf5", b"\x81", b"\xc0", seeded.randbytes(2))
        )
    return bytes(mutant)


@settings(max_examples=300)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_strict_decoder_accepts_exactly_what_is_deterministic_and_reads_what_cbor2_reads(
    value: Any, seeded: random.Random
) -> None:
    raw = encode(value)
    for bytes_ in (raw, damaged(seeded, raw), spelt_by(seeded, value, wild=True)):
        assert verdict(strict, bytes_) == verdict(deterministic_by_definition, bytes_), bytes_.hex()


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=60))
def test_on_arbitrary_bytes_too(raw: bytes) -> None:
    assert verdict(strict, raw) == verdict(deterministic_by_definition, raw)


@settings(max_examples=300)
@given(VALUES, st.randoms(use_true_random=False))
def test_the_tolerant_decoder_reads_every_spelling_as_cbor2_does(value: Any, seeded: random.Random) -> None:
    raw = spelt_by(seeded, value, wild=True)
    assert verdict(tolerant, raw) == verdict(lambda raw: oracle(raw, nsm=True), raw) != "refused"


@settings(max_examples=300)
@given(VALUES, st.randoms(use_true_random=False))
def test_whatever_the_tolerant_decoder_accepts_cbor2_reads_the_same(value: Any, seeded: random.Random) -> None:
    raw = damaged(seeded, spelt_by(seeded, value, wild=True))
    if (accepted := verdict(tolerant, raw)) != "refused":
        assert accepted == verdict(lambda raw: oracle(raw, nsm=True), raw), raw.hex()


@pytest.mark.parametrize("text", ["a1a1010203", "a181a1010203", "bf9f01ffff", "bf8101", "a1f7f7"])
def test_odd_keys_are_the_one_error(text: str) -> None:
    for decoder in (strict, tolerant):
        with pytest.raises(CborError):
            decoder(unhex(text))


def test_an_array_as_key_is_read_as_cbor2_reads_it() -> None:
    for text in ("a1810102", "a18182010203", "a28101028102 03"):
        raw = unhex(text)
        assert typed(strict(raw)) == typed(cbor2.loads(raw))
    with pytest.raises(CborError, match="twice"):
        tolerant(unhex("a2810102 81f503"))


@given(VALUES)
def test_what_is_in_order_is_encoded_the_same_without_looking(value: Any) -> None:
    assert encode_as_ordered(decode(encode(value), max_bytes=CAP, max_depth=30)) == encode(value)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536, 70_000])
def test_a_byte_string_is_encoded_as_any_value(size: int) -> None:
    assert byte_string(bytes(size)) == encode(bytes(size))
