"""Documents that break the profile before any certificate is looked at; each is signed by a sound chain."""

from collections.abc import Callable, Iterator

import cbor2
import pytest

from ephemeral.errors import MalformedDocument
from ephemeral.trusted.attestation import parse_document, verify_enclave
from tests.support.minting import AT, NONCE, PCR0, PCR1, PCR2, Mint, Raw, head, raw_map

FIELDS = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce")
ES384 = bytes.fromhex("a1013822")
PCRS = {0: PCR0, 1: PCR1, 2: PCR2}


@pytest.fixture(scope="module")
def mint() -> Mint:
    return Mint()


def accept(mint: Mint, raw: bytes) -> None:
    verify_enclave(raw, mint.policy, nonce=NONCE, now=AT)


def chunked(kind: int, value: bytes) -> bytes:
    """Encode a string as an indefinite-length one of two chunks."""
    half = len(value) // 2
    chunks = [head(kind, len(part)) + part for part in (value[:half], value[half:])]
    return bytes([kind << 5 | 31]) + b"".join(chunks) + b"\xff"


def duplicate_pcr(_: Mint) -> Raw:
    pairs = [(cbor2.dumps(index), cbor2.dumps(value)) for index, value in [*PCRS.items(), (1, PCR2)]]
    return Raw(raw_map(pairs))


def pcrs_with(key: bytes, value: bytes = PCR0) -> Raw:
    pairs = [(cbor2.dumps(index), cbor2.dumps(pcr)) for index, pcr in PCRS.items()]
    return Raw(raw_map([*pairs, (key, cbor2.dumps(value))]))


def test_the_sound_document_of_the_mint_is_accepted(mint: Mint) -> None:
    accept(mint, mint.document())


ENVELOPES: dict[str, Callable[[Mint], bytes]] = {
    "empty": lambda _: b"",
    "not CBOR": lambda _: b"\xff" * 64,
    "a map": lambda m: b"\xa0" + m.document(),
    "a byte after the document": lambda m: m.document() + b"\0",
    "a second document after it": lambda m: m.document() * 2,
    "three elements": lambda m: b"\x83" + m.document()[1:-98],
    "five elements": lambda m: b"\x85" + m.document()[1:] + b"\x40",
    "indefinite array": lambda m: b"\x9f" + m.document()[1:] + b"\xff",
    "indefinite unprotected map": lambda m: m.seal(raw_map(m.pairs()), unprotected=b"\xbf\xff"),
    "length not in its shortest form": lambda m: m.document()[:-98] + b"\x59\x00\x60" + m.document()[-96:],
    "tag 17 (COSE_Mac0)": lambda m: b"\xd1" + m.document(),
    "tag 98 (COSE_Sign)": lambda m: b"\xd8\x62" + m.document(),
    "tag 61 (CWT)": lambda m: b"\xd8\x3d\xd2" + m.document(),
    "tag 18 twice": lambda m: b"\xd2\xd2" + m.document(),
    "tag 18 in a long head": lambda m: b"\xd8\x12" + m.document(),
    "tag on the payload": lambda m: b"\x84\x44" + ES384 + b"\xa0\xd8\x18" + m.document()[7:],
    "payload null": lambda _: b"\x84\x44" + ES384 + b"\xa0\xf6" + cbor2.dumps(b"s" * 96),
    "payload empty": lambda m: m.seal(b""),
    "payload over 16 KiB": lambda m: m.seal(b"\xa0" * 16_385),
    "over 20 KiB": lambda _: b"\x84" + b"\0" * 20_480,
    "chunked payload": lambda m: (
        b"\x84\x44" + ES384 + b"\xa0" + chunked(2, raw_map(m.pairs())) + cbor2.dumps(m.sign(raw_map(m.pairs())))
    ),
}


@pytest.mark.parametrize("build", ENVELOPES.values(), ids=ENVELOPES)
def test_an_envelope_that_could_be_read_two_ways_is_refused(mint: Mint, build: Callable[[Mint], bytes]) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, build(mint))
    assert refused.value.code == "MALFORMED_ENVELOPE"
    assert refused.value.steps == ()


ALGORITHMS = {
    "ES256": {1: -7},
    "ES512": {1: -36},
    "EdDSA": {1: -8},
    "HS256": {1: 5},
    "ES384 as text": {1: "ES384"},
    "none": {},
    "with content type": {1: -35, 3: 0},
    "critical header": {1: -35, 2: [1]},
}


@pytest.mark.parametrize("protected", ALGORITHMS.values(), ids=ALGORITHMS)
def test_no_other_algorithm_can_be_named(mint: Mint, protected: dict[int, object]) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, mint.seal(raw_map(mint.pairs()), protected=cbor2.dumps(protected)))
    assert refused.value.code == "WRONG_ALGORITHM"


PROTECTED = {
    "a byte after the header": ES384 + b"\0",
    "two algorithms": bytes.fromhex("a20138220126"),
    "not in its shortest form": bytes.fromhex("a1013900 22".replace(" ", "")),
    "indefinite": bytes.fromhex("bf013822ff"),
    "empty string": b"",
}


@pytest.mark.parametrize("protected", PROTECTED.values(), ids=PROTECTED)
def test_the_protected_header_is_compared_as_bytes(mint: Mint, protected: bytes) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, mint.seal(raw_map(mint.pairs()), protected=protected))
    assert refused.value.code == "WRONG_ALGORITHM"


@pytest.mark.parametrize("header", [{1: -7}, {1: -35}, {4: b"kid"}, {33: b"certificate"}], ids=str)
def test_nothing_may_hide_in_the_unprotected_header(mint: Mint, header: dict[int, object]) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, mint.seal(raw_map(mint.pairs()), unprotected=cbor2.dumps(header)))
    assert refused.value.code == "UNPROTECTED_HEADER"


SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "each half padded to 49 bytes": lambda s: b"\0" + s[:48] + b"\0" + s[48:],
    "a byte after it": lambda s: s + b"\0",
    "cut short": lambda s: s[:-1],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("mangle", SIGNATURES.values(), ids=SIGNATURES)
def test_a_signature_has_exactly_96_bytes(mint: Mint, mangle: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, mint.seal(raw_map(mint.pairs()), signature=mangle))
    assert refused.value.code == "MALFORMED_SIGNATURE"


def fields_wrong() -> Iterator[tuple[str, Callable[[Mint], bytes]]]:
    for name in FIELDS:
        extra = {"module_id": "other", "digest": "SHA384", "timestamp": 1, "pcrs": PCRS, "cabundle": [b"c"]}
        value = cbor2.dumps(extra.get(name, b"other"))
        yield f"{name} twice", lambda m, n=name, v=value: raw_map([*m.pairs(), (cbor2.dumps(n), v)])
    for name in FIELDS[:6]:
        yield f"{name} missing", lambda m, n=name: raw_map(m.pairs(**{n: ...}))
        yield f"{name} null", lambda m, n=name: raw_map(m.pairs(**{n: None}))
        yield f"{name} true", lambda m, n=name: raw_map(m.pairs(**{n: True}))
    for name in FIELDS[6:]:
        yield f"{name} as text", lambda m, n=name: raw_map(m.pairs(**{n: "text"}))
        yield f"{name} over 1024 bytes", lambda m, n=name: raw_map(m.pairs(**{n: b"x" * 1025}))
        yield f"{name} chunked", lambda m, n=name: raw_map(m.pairs(**{n: Raw(chunked(2, b"x" * 32))}))
        yield f"{name} undefined", lambda m, n=name: raw_map(m.pairs(**{n: Raw(b"\xf7")}))


def values_wrong() -> Iterator[tuple[str, Callable[[Mint], bytes]]]:
    yield "a field AWS does not define", lambda m: raw_map([*m.pairs(), (cbor2.dumps("extra"), b"\xf6")])
    yield "a key that is bytes", lambda m: raw_map([*m.pairs(), (cbor2.dumps(b"nonce"), b"\xf6")])
    yield "a byte after the payload", lambda m: raw_map(m.pairs()) + b"\0"
    yield "a break after a definite map", lambda m: raw_map(m.pairs()) + b"\xff"
    yield "no break after an indefinite map", lambda m: raw_map(m.pairs(), indefinite=True)[:-1]
    yield "a key without value", lambda m: raw_map([*m.pairs(), (cbor2.dumps("x"), b"")], indefinite=True)
    yield "an array", lambda _: cbor2.dumps([1, 2, 3])
    yield "a tagged map", lambda m: b"\xd8\x18" + raw_map(m.pairs())
    yield "a key chunked", lambda m: raw_map([*m.pairs(nonce=...), (chunked(3, b"nonce"), cbor2.dumps(NONCE))])
    yield "digest SHA256", lambda m: raw_map(m.pairs(digest="SHA256"))
    yield "digest as bytes", lambda m: raw_map(m.pairs(digest=b"SHA384"))
    yield "digest not UTF-8", lambda m: raw_map(m.pairs(digest=Raw(b"\x61\xff")))
    yield "module_id empty", lambda m: raw_map(m.pairs(module_id=""))
    yield "module_id over 256", lambda m: raw_map(m.pairs(module_id="x" * 257))
    yield "module_id with an escape sequence", lambda m: raw_map(m.pairs(module_id="\x1b[2J"))
    yield "timestamp zero", lambda m: raw_map(m.pairs(timestamp=0))
    yield "timestamp negative", lambda m: raw_map(m.pairs(timestamp=-1))
    yield "timestamp float", lambda m: raw_map(m.pairs(timestamp=AT.timestamp() * 1000))
    yield "timestamp 2^64-1", lambda m: raw_map(m.pairs(timestamp=2**64 - 1))
    yield "timestamp bignum", lambda m: raw_map(m.pairs(timestamp=2**65))
    yield "timestamp tagged", lambda m: raw_map(m.pairs(timestamp=Raw(b"\xc1" + cbor2.dumps(1))))


def pcrs_wrong() -> Iterator[tuple[str, Callable[[Mint], bytes]]]:
    yield "PCR index twice", lambda m: raw_map(m.pairs(pcrs=duplicate_pcr(m)))
    yield "PCR index true beside 1", lambda m: raw_map(m.pairs(pcrs=pcrs_with(b"\xf5")))
    yield "PCR index false alone", lambda m: raw_map(m.pairs(pcrs={False: PCR0}))
    yield "PCR index 3.0", lambda m: raw_map(m.pairs(pcrs=pcrs_with(cbor2.dumps(3.0))))
    yield "PCR index 1 in two spellings", lambda m: raw_map(m.pairs(pcrs=pcrs_with(b"\x18\x01")))
    yield "PCR index as text", lambda m: raw_map(m.pairs(pcrs=pcrs_with(cbor2.dumps("3"))))
    yield "PCR index a list", lambda m: raw_map(m.pairs(pcrs=pcrs_with(b"\x80")))
    yield "PCR index 32", lambda m: raw_map(m.pairs(pcrs={**PCRS, 32: PCR0}))
    yield "PCR index -1", lambda m: raw_map(m.pairs(pcrs={**PCRS, -1: PCR0}))
    yield "PCR of 32 bytes", lambda m: raw_map(m.pairs(pcrs={**PCRS, 3: b"x" * 32}))
    yield "PCR of 49 bytes", lambda m: raw_map(m.pairs(pcrs={**PCRS, 3: b"x" * 49}))
    yield "PCR empty", lambda m: raw_map(m.pairs(pcrs={**PCRS, 3: b""}))
    yield "PCR chunked", lambda m: raw_map(m.pairs(pcrs=Raw(b"\xa1\x00" + chunked(2, PCR0))))
    yield "5000 PCRs", lambda m: raw_map(m.pairs(pcrs=Raw(head(5, 5000) + b"\0\x40" * 5000)))


def sizes_wrong() -> Iterator[tuple[str, Callable[[Mint], bytes]]]:
    yield "cabundle empty", lambda m: raw_map(m.pairs(cabundle=[]))
    yield "cabundle of 9", lambda m: raw_map(m.pairs(cabundle=[b"c"] * 9))
    yield "cabundle with an empty string", lambda m: raw_map(m.pairs(cabundle=[m.chain[0], b""]))
    yield "cabundle with text", lambda m: raw_map(m.pairs(cabundle=[m.chain[0], "x"]))
    yield "cabundle with 1025 bytes", lambda m: raw_map(m.pairs(cabundle=[m.chain[0], b"x" * 1025]))
    yield "certificate of 1025 bytes", lambda m: raw_map(m.pairs(certificate=b"x" * 1025))
    yield "deeply nested", lambda m: raw_map(m.pairs(pcrs=Raw(b"\xa1\0" + b"\x81" * 2000 + b"\0")))
    yield "a string of 2^63 bytes", lambda m: raw_map(m.pairs(nonce=Raw(b"\x5b" + b"\x7f" + b"\xff" * 7)))
    yield "an array of 2^63 items", lambda m: raw_map(m.pairs(cabundle=Raw(b"\x9b" + b"\x7f" + b"\xff" * 7)))


PAYLOADS = dict([*fields_wrong(), *values_wrong(), *pcrs_wrong(), *sizes_wrong()])


@pytest.mark.parametrize("build", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_outside_the_profile_is_refused(mint: Mint, build: Callable[[Mint], bytes]) -> None:
    with pytest.raises(MalformedDocument) as refused:
        accept(mint, mint.seal(build(mint)))
    assert refused.value.code == "MALFORMED_PAYLOAD"
    assert refused.value.detail.isprintable()


def test_tag_18_is_optional(mint: Mint) -> None:
    accept(mint, b"\xd2" + mint.document())


def test_an_indefinite_outer_map_is_accepted_as_modules_write_it_since_2025(mint: Mint) -> None:
    accept(mint, mint.seal(raw_map(mint.pairs(), indefinite=True)))


def test_fields_in_any_order_are_accepted(mint: Mint) -> None:
    accept(mint, mint.seal(raw_map(mint.pairs()[::-1])))


@pytest.mark.parametrize("absent", [None, ...], ids=["null", "left out"])
def test_null_and_left_out_both_mean_absent(mint: Mint, absent: object) -> None:
    document = parse_document(mint.document(public_key=absent, user_data=absent, nonce=absent))
    assert (document.public_key, document.user_data, document.nonce) == (None, None, None)


def test_the_widest_fields_of_genuine_documents_are_accepted(mint: Mint) -> None:
    wide = b"x" * 1024
    document = parse_document(mint.document(public_key=wide, user_data=wide, nonce=wide, pcrs={**PCRS, 31: PCR0}))
    assert document.public_key == document.user_data == document.nonce == wide
    assert sorted(document.pcrs) == [0, 1, 2, 31]


def test_pcrs_of_a_parsed_document_cannot_be_changed(mint: Mint) -> None:
    with pytest.raises(TypeError):
        parse_document(mint.document()).pcrs[0] = PCR1  # type: ignore[index]
