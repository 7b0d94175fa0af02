"""The short way to read a receipt and the general one: never two opinions about the same bytes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.protocol import MAX_RECEIPT_BYTES
from ephemeral.trusted.receipt import EnclaveMeasurements, ReceiptClaims, issue_receipt
from ephemeral.trusted.receipt.claims import UnverifiedReceipt
from ephemeral.trusted.receipt.parse import FormError, parse_receipt, read_receipt
from ephemeral.trusted.receipt.template import fitting
from tests.ephemeral.trusted.test_receipt import CLAIMS, KEY

RAW = issue_receipt(CLAIMS, KEY)

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
uint = st.integers(0, 2**64 - 1) | st.sampled_from([23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32])
digest = st.binary(min_size=32, max_size=32).filter(any)
register = st.binary(min_size=48, max_size=48)
issued = st.builds(
    ReceiptClaims,
    iss=printable,
    iat=uint.filter(bool),
    cti=st.binary(min_size=16, max_size=16).filter(any),
    model_id=printable,
    model_version=printable,
    model_hash=digest,
    request_hash=digest,
    response_hash=digest,
    attestation_doc_hash=digest,
    measurements=st.builds(
        EnclaveMeasurements,
        *[register] * 3,
        pcr3=st.none() | register,
        pcr4=st.none() | register,
        pcr8=st.none() | register,
    ),
    policy_version=printable,
    sequence_number=uint,
    execution_time_ms=uint,
    memory_peak_mb=uint,
    security_mode=st.sampled_from(["production", "evaluation"]),
    eat_nonce=st.none() | digest,
    model_hash_scheme=st.none() | st.sampled_from(["sha256-single", "sha256-concat", "sha256-manifest"]),
)


def outcome(parse: Callable[[bytes], UnverifiedReceipt], raw: bytes) -> UnverifiedReceipt | tuple[str, ...]:
    try:
        return parse(raw)
    except FormError as error:
        return error.faults


def agrees(raw: bytes) -> bool:
    """Hold both ways against each other; return whether the short one took the bytes."""
    short, general = fitting(raw), outcome(read_receipt, raw)
    assert short is None or short == general
    assert outcome(parse_receipt, raw) == general
    return short is not None


@given(issued)
def test_whatever_an_enclave_issues_is_read_alike_the_short_way(claims: ReceiptClaims) -> None:
    assert agrees(issue_receipt(claims, KEY))


@pytest.mark.parametrize(
    "claims",
    [
        replace(CLAIMS, iss="é" * 20),
        replace(CLAIMS, model_id="a\nb"),
        replace(CLAIMS, policy_version="x" * 129),
        replace(CLAIMS, eat_nonce=bytes(8)),
        replace(CLAIMS, measurements=replace(CLAIMS.measurements, pcr8=None, measurement_type="tdx-mrtd-rtmr")),
    ],
)
def test_other_receipts_are_read_the_general_way(claims: ReceiptClaims) -> None:
    raw = issue_receipt(claims, KEY)
    assert not agrees(raw)
    assert parse_receipt(raw)


def test_no_changed_missing_or_added_byte_divides_the_two_ways() -> None:
    for at in range(len(RAW)):
        for bit in range(8):
            agrees(RAW[:at] + bytes([RAW[at] ^ 1 << bit]) + RAW[at + 1 :])
        agrees(RAW[:at] + RAW[at + 1 :])
        agrees(RAW[:at] + RAW[at : at + 1] + RAW[at:])
        agrees(RAW[:at])


@given(issued, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 3), st.binary(max_size=3)), max_size=4))
def test_no_damage_divides_the_two_ways(claims: ReceiptClaims, edits: list[tuple[int, int, bytes]]) -> None:
    raw = issue_receipt(claims, KEY)
    for place, gone, new in edits:
        at = place % len(raw)
        raw = raw[:at] + new + raw[at + gone :]
    agrees(raw)


ISSUED = b"\x06\x1a" + CLAIMS.iat.to_bytes(4, "big")
LIES: dict[str, tuple[bytes, bytes]] = {
    "the payload is longer than said": (b"\xa0\x59\x02", b"\xa0\x59\x01"),
    "a pair more than said": (b"\xb2\x01", b"\xb1\x01"),
    "a register more than said": (b"\xa5\x64pcr0", b"\xa4\x64pcr0"),
    "a register fewer than said": (b"\xa5\x64pcr0", b"\xa6\x64pcr0"),
    "a short text is longer than said": (b"\x67enclave", b"\x66enclave"),
    "a short text is shorter than said": (b"\x67enclave", b"\x68enclave"),
    "a text's head is not the shortest": (b"\x67enclave", b"\x78\x07enclave"),
    "a text ends in the next label": (b"\x67enclave\x06", b"\x68enclave\x06"),
    "a number's head is not the shortest": (b"\x18\x2a", b"\x19\x00\x2a"),
    "a number of two bytes would do with one": (b"\x19\x02\x00", b"\x19\x00\xff"),
    "a number of four bytes would do with two": (ISSUED, b"\x06\x1a\x00\x00\xff\xff"),
    "a number of eight bytes would do with four": (ISSUED, b"\x06\x1b" + CLAIMS.iat.to_bytes(8, "big")),
    "the time is zero": (ISSUED, b"\x06\x00"),
    "the receipt has no id": (CLAIMS.cti, bytes(16)),
    "another profile": (b"air/v1", b"air/v2"),
    "another measurement type": (b"nitro-pcr", b"nitro-pcx"),
    "a claim too many": (b"\x0a\x58\x20", b"\x0b\x58\x20"),
    "claims in another order": (b"\x3a\x00\x01\x00\x04", b"\x3a\x00\x01\x00\x03"),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_short_way_believes_no_head(lie: str) -> None:
    true, false = LIES[lie]
    assert RAW.count(true) == 1
    raw = RAW.replace(true, false)
    size = int.from_bytes(RAW[11:13], "big") + len(false) - len(true)
    if lie != "the payload is longer than said":
        raw = raw[:11] + size.to_bytes(2, "big") + raw[13:]
    agrees(raw)
    assert fitting(raw) is None


def test_text_that_looks_like_the_end_is_text() -> None:
    """The last claim's text may hold the head of the signature that follows it."""
    claims = replace(CLAIMS, policy_version="X@" * 64, iss=":X@")
    assert agrees(issue_receipt(claims, KEY))
    assert parse_receipt(issue_receipt(claims, KEY)).values["policy_version"] == "X@" * 64


@given(st.binary(max_size=600))
def test_bytes_that_are_no_receipt_are_none_to_both(raw: bytes) -> None:
    assert not agrees(raw)


def test_a_receipt_beyond_the_limit_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(FormError, match="RECEIPT_TOO_LARGE"):
        parse_receipt(RAW + bytes(MAX_RECEIPT_BYTES))
