"""COSE_Sign1 envelopes: kept as received, one encoding each, and signed in the structure of RFC 9052."""

import cbor2
import pytest

from ephemeral.trusted.cose import CoseError, Sign1, encode_sign1, parse_sign1, sig_structure

CAP = 4096
PROTECTED, PAYLOAD, SIGNATURE = b"\xa1\x01\x27", b"payload", b"s" * 64
ENVELOPE = encode_sign1(PROTECTED, PAYLOAD, SIGNATURE, tagged=True)


@pytest.mark.parametrize("tagged", [True, False])
def test_what_is_encoded_is_parsed_back_byte_for_byte(tagged: bool) -> None:  # noqa: FBT001
    raw = encode_sign1(PROTECTED, PAYLOAD, SIGNATURE, tagged=tagged)
    assert parse_sign1(raw, max_bytes=CAP) == Sign1(tagged, PROTECTED, {}, PAYLOAD, SIGNATURE)


def test_another_library_reads_the_same() -> None:
    envelope = cbor2.loads(ENVELOPE)
    assert (envelope.tag, list(envelope.value)) == (18, [PROTECTED, {}, PAYLOAD, SIGNATURE])


def test_the_signature_covers_the_structure_of_rfc_9052() -> None:
    expected = b"\x84\x6aSignature1\x43\xa1\x01\x27\x40\x47payload"
    assert sig_structure(PROTECTED, PAYLOAD) == expected


def test_a_detached_payload_and_an_unprotected_header_are_shown_to_the_caller() -> None:
    raw = cbor2.dumps([PROTECTED, {4: b"kid"}, None, SIGNATURE])
    assert parse_sign1(raw, max_bytes=CAP) == Sign1(False, PROTECTED, {4: b"kid"}, None, SIGNATURE)  # noqa: FBT003


MALFORMED = {
    "empty": b"",
    "tag alone": b"\xd2",
    "tag 98": b"\xd8\x62" + ENVELOPE[1:],
    "tag twice": b"\xd2" + ENVELOPE,
    "tag in a long head": b"\xd8\x12" + ENVELOPE[1:],
    "trailing byte": ENVELOPE + b"\0",
    "cut": ENVELOPE[:-1],
    "three elements": cbor2.dumps([PROTECTED, {}, PAYLOAD]),
    "five elements": cbor2.dumps([PROTECTED, {}, PAYLOAD, SIGNATURE, b""]),
    "indefinite array": b"\x9f" + ENVELOPE[2:] + b"\xff",
    "indefinite unprotected": ENVELOPE.replace(b"\xa0", b"\xbf\xff"),
    "long head on the array": b"\x98\x04" + ENVELOPE[2:],
    "long head on the payload": ENVELOPE.replace(b"\x47payload", b"\x58\x07payload"),
    "protected as map": cbor2.dumps([{1: -8}, {}, PAYLOAD, SIGNATURE]),
    "unprotected as list": cbor2.dumps([PROTECTED, [], PAYLOAD, SIGNATURE]),
    "unprotected key twice": ENVELOPE.replace(b"\xa0", b"\xa2\x04\x40\x04\x40"),
    "payload as text": cbor2.dumps([PROTECTED, {}, "payload", SIGNATURE]),
    "signature null": cbor2.dumps([PROTECTED, {}, PAYLOAD, None]),
    "too large": encode_sign1(PROTECTED, b"x" * CAP, SIGNATURE, tagged=True),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(CoseError):
        parse_sign1(raw, max_bytes=CAP)


def test_the_size_limit_includes_the_tag() -> None:
    parse_sign1(ENVELOPE, max_bytes=len(ENVELOPE))
    with pytest.raises(CoseError):
        parse_sign1(ENVELOPE, max_bytes=len(ENVELOPE) - 1)
