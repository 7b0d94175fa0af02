"""Certificates that a trusted authority signed and no library would write: each ends in a verdict, never a crash."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.attestation.chain import walk_chain
from tests.support.invariants import tally
from tests.support.raw_certificates import (
    AT,
    LEVELS,
    Authorities,
    Parts,
    constraints,
    extension,
    extensions,
    general_time,
    integer,
    name,
    oid,
    tlv,
    usage,
    utc_time,
    validity,
)

ACCEPTED, MALFORMED, ALGORITHM = "accepted", "CERTIFICATE_MALFORMED", "CERTIFICATE_ALGORITHM"
EXTENSION, NOT_ISSUED = "CERTIFICATE_EXTENSION", "CERTIFICATE_NOT_ISSUED"
ALL = Authorities()
SOUND = ALL.chain()
PLACES = range(1, 5)
CURVE = oid(1, 3, 132, 0, 34)
EC_KEY = oid(1, 2, 840, 10045, 2, 1)
P = 2**384 - 2**128 - 2**96 + 2**32 - 1
B = int("b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef", 16)
ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
GENERATOR = bytes.fromhex(
    "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"
)
Change = Callable[[Parts, int], Parts]


def put(**parts: bytes) -> Change:
    return lambda sound, _place: replace(sound, **parts)


def with_extension(*more: bytes) -> Change:
    return lambda sound, place: replace(sound, extensions=extensions(*ALL.sound_extensions(place), *more))


def with_constraints(value: bytes) -> Change:
    return lambda sound, place: replace(
        sound, extensions=extensions(constraints(value), ALL.sound_extensions(place)[1])
    )


def with_usage(value: bytes) -> Change:
    return lambda sound, place: replace(sound, extensions=extensions(ALL.sound_extensions(place)[0], usage(value)))


def with_key(parameters: bytes, *, compressed: bool = False, point: bytes | None = None) -> Change:
    """Write the very same key, with its curve or its point written otherwise."""

    def change(sound: Parts, place: int) -> Parts:
        form = PublicFormat.CompressedPoint if compressed else PublicFormat.UncompressedPoint
        own = ALL.keys[place].public_key().public_bytes(Encoding.X962, form)
        return replace(sound, key=tlv(0x30, tlv(0x30, EC_KEY, parameters), tlv(0x03, b"\0", point or own)))

    return change


def explicit_curve(generator: bytes = GENERATOR) -> bytes:
    """Write P-384 by its numbers instead of its name (SEC 1, C.2), as CVE-2020-0601 did with a generator of its own."""
    field = tlv(0x30, oid(1, 2, 840, 10045, 1, 1), integer(P))
    numbers = tlv(0x30, tlv(0x04, (P - 3).to_bytes(48, "big")), tlv(0x04, B.to_bytes(48, "big")))
    return tlv(0x30, integer(1), field, numbers, tlv(0x04, generator), integer(ORDER), integer(1))


def dates(first: bytes, last: bytes) -> Change:
    return put(validity=validity(first, last))


BEGIN, END = utc_time("260115000000Z"), utc_time("260116000000Z")
CORNERS: dict[str, Change] = {
    "as it should be": put(),
    # serial numbers (RFC 5280 section 4.1.2.2: positive, at most 20 octets)
    "serial zero": put(serial=integer(0)),
    "serial negative": put(serial=integer(-5)),
    "serial of 20 octets": put(serial=integer(2**159 - 1)),
    "serial of 21 octets": put(serial=integer(2**160)),
    "serial of 500 octets": put(serial=integer(2**3999)),
    "serial empty": put(serial=tlv(0x02)),
    "serial not shortest": put(serial=tlv(0x02, b"\0\0\1")),
    "serial a text": put(serial=tlv(0x0C, b"1")),
    # object identifiers
    "extension with an arc of 3,000 bits": with_extension(extension(oid(1, 3, 2**3000), b"\5\0")),
    "critical extension with an arc of 3,000 bits": with_extension(
        extension(oid(1, 3, 2**3000), b"\5\0", critical=True)
    ),
    "extension with 400 arcs": with_extension(extension(oid(1, 3, *range(400)), b"\5\0")),
    "extension with an arc of 70 bits": with_extension(extension(oid(2, 25, 2**70), b"\5\0")),
    "extension with an empty identifier": with_extension(extension(tlv(0x06), b"\5\0")),
    "extension with an identifier that does not end": with_extension(extension(tlv(0x06, b"\x2a\x86"), b"\5\0")),
    "extension with a padded identifier": with_extension(extension(tlv(0x06, b"\x2a\x80\x01"), b"\5\0")),
    "algorithm with a huge identifier": put(
        algorithm=tlv(0x30, oid(1, 2, 2**900)), outer_algorithm=tlv(0x30, oid(1, 2, 2**900))
    ),
    # dates
    "dates in GeneralizedTime": dates(general_time("20260115000000Z"), general_time("20260116000000Z")),
    "ends in the year 9999": dates(BEGIN, general_time("99991231235959Z")),
    "begins in the year 0000": dates(general_time("00000101000000Z"), END),
    "begins in 1950": dates(utc_time("500101000000Z"), END),
    "ends before it begins": dates(END, BEGIN),
    "without seconds": dates(utc_time("2601150000Z"), END),
    "with an offset": dates(utc_time("260115000000+0100"), END),
    "without Z": dates(utc_time("260115000000"), END),
    "with fractions": dates(general_time("20260115000000.5Z"), END),
    "30 February": dates(utc_time("260230000000Z"), END),
    "leap second": dates(BEGIN, utc_time("261231235960Z")),
    "hour 24": dates(utc_time("260114240000Z"), END),
    "month 0": dates(utc_time("260015000000Z"), END),
    "letters": dates(utc_time("2601150000aaZ"), END),
    "empty": dates(utc_time(""), END),
    "one date": put(validity=tlv(0x30, BEGIN)),
    "three dates": put(validity=tlv(0x30, BEGIN, END, END)),
    "dates as integers": dates(integer(1), integer(2**31)),
    # keys
    "curve written out": with_key(explicit_curve()),
    "curve written out with another generator": with_key(explicit_curve(b"\x04" + bytes(96))),
    "curve implied": with_key(b"\x05\x00"),
    "curve missing": with_key(b""),
    "curve P-256 for a P-384 point": with_key(oid(1, 2, 840, 10045, 3, 1, 7)),
    "curve unknown": with_key(oid(1, 3, 132, 0, 2**40)),
    "curve brainpoolP384r1": with_key(oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 11)),
    "point compressed": with_key(CURVE, compressed=True),
    "point at infinity": with_key(CURVE, point=b"\0"),
    "point not on the curve": with_key(CURVE, point=b"\x04" + bytes(95) + b"\1"),
    "point too short": with_key(CURVE, point=b"\x04" + bytes(95)),
    "point hybrid": lambda sound, place: with_key(CURVE, point=hybrid(place))(sound, place),
    "key empty": put(key=tlv(0x30)),
    # extensions
    "an unknown extension that is not critical": with_extension(extension(oid(1, 3, 6, 1), b"\5\0")),
    "an unknown extension that is critical": with_extension(extension(oid(1, 3, 6, 1), b"\5\0", critical=True)),
    "an unknown extension twice": with_extension(*2 * [extension(oid(1, 3, 6, 1), b"\5\0")]),
    "basicConstraints twice": lambda sound, place: with_extension(ALL.sound_extensions(place)[0])(sound, place),
    "criticality written though it is the default": with_extension(
        tlv(0x30, oid(1, 3, 6, 1), b"\x01\x01\x00", tlv(0x04, b"\5\0"))
    ),
    "criticality neither true nor false": with_extension(tlv(0x30, oid(1, 3, 6, 1), b"\x01\x01\x01", tlv(0x04, b""))),
    "no extension": put(extensions=b""),
    "an empty list of extensions": put(extensions=extensions()),
    "forty extensions": with_extension(*(extension(oid(1, 3, 6, n), b"") for n in range(40))),
    "path length negative": with_constraints(tlv(0x30, b"\x01\x01\xff", integer(-1))),
    "path length of 70 bits": with_constraints(tlv(0x30, b"\x01\x01\xff", integer(2**70))),
    "path length of no authority": with_constraints(tlv(0x30, integer(0))),
    "cA false, written": with_constraints(tlv(0x30, b"\x01\x01\x00")),
    "basicConstraints of junk": with_constraints(b"\xff\xff"),
    "basicConstraints with bytes left over": with_constraints(tlv(0x30, b"\x01\x01\xff") + b"\0"),
    "keyUsage empty": with_usage(b"\x03\x01\x00"),
    "keyUsage with all bits": with_usage(b"\x03\x03\x07\xff\x80"),
    "keyUsage with unused bits set": with_usage(b"\x03\x02\x07\xff"),
    "keyUsage of junk": with_usage(b"\x04\x01\x00"),
    # the frame around it
    "version 1": put(version=b""),
    "version 1, written": put(version=tlv(0xA0, integer(0))),
    "version 2": put(version=tlv(0xA0, integer(1))),
    "version 4": put(version=tlv(0xA0, integer(3))),
    "version 2**64": put(version=tlv(0xA0, integer(2**64))),
    "unique identifiers": put(unique=tlv(0x81, b"\0\1") + tlv(0x82, b"\0\1")),
    "two algorithms": put(outer_algorithm=tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 2))),
    "algorithm with NULL parameters": put(
        algorithm=tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 3), b"\5\0"),
        outer_algorithm=tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 3), b"\5\0"),
    ),
    "issuer in another string type": lambda sound, place: replace(sound, issuer=name(LEVELS[place - 1], 0x13)),
    "issuer empty": put(issuer=tlv(0x30)),
    "subject empty": put(subject=tlv(0x30)),
    "subject of bytes that are no UTF-8": put(
        subject=tlv(0x30, tlv(0x31, tlv(0x30, oid(2, 5, 4, 3), tlv(0x0C, b"\xff"))))
    ),
    "subject with a hundred names": put(subject=tlv(0x30, *100 * [name("n")[2:]])),
}


def hybrid(place: int) -> bytes:
    """X9.62's third form of a point: uncompressed, with the sign of y in its first byte as well."""
    point = ALL.keys[place].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return bytes([6 + (point[-1] & 1)]) + point[1:]


def verdict(chain: list[bytes]) -> str:
    """Judge as a program does that has not made the library's warnings errors."""
    try:
        with warnings.catch_warnings(action="ignore"):
            walk_chain(chain[:-1], chain[-1], AT)
    except UntrustedChain as error:
        return error.code
    return ACCEPTED


# What is odd and still accepted says nothing that the walk reads: an authority that signs it harms nobody but itself.
VERDICTS: dict[str, str | tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "as it should be",
            "serial of 20 octets",
            "serial of 21 octets",
            "serial of 500 octets",
            "extension with an arc of 70 bits",
            "dates in GeneralizedTime",
            "ends in the year 9999",
            "begins in 1950",
            "an unknown extension that is not critical",
            "forty extensions",
            "unique identifiers",
        ),
        ACCEPTED,
    ),
    **{corner: ALGORITHM for corner in CORNERS if corner.startswith("curve ") and corner != "curve missing"},
    **dict.fromkeys(("point compressed", "point at infinity", "point too short", "two algorithms"), ALGORITHM),
    **dict.fromkeys(
        ("an unknown extension that is critical", "no extension", "an empty list of extensions"), EXTENSION
    ),
    "ends before it begins": "CERTIFICATE_NOT_YET_VALID",
    "keyUsage empty": "CERTIFICATE_USAGE",
    "keyUsage with all bits": (ACCEPTED, ACCEPTED, ACCEPTED, "LEAF_IS_CA"),
    **dict.fromkeys(("issuer in another string type", "issuer empty"), NOT_ISSUED),
    **{corner: (NOT_ISSUED, NOT_ISSUED, NOT_ISSUED, ACCEPTED) for corner in CORNERS if corner.startswith("subject ")},
}


@pytest.mark.parametrize("place", PLACES, ids=LEVELS[1:])
@pytest.mark.parametrize("corner", CORNERS)
def test_an_odd_certificate_in_a_sound_chain_gets_the_verdict_of_the_profile(corner: str, place: int) -> None:
    with tally("INV-10") as tried:
        tried.case()
        odd = ALL.issue(place, CORNERS[corner](ALL.parts(place), place))
        expected = VERDICTS.get(corner, MALFORMED)
        found = verdict([*SOUND[:place], odd, *SOUND[place + 1 :]])
        assert found == (expected if isinstance(expected, str) else expected[place - 1])


def test_every_verdict_belongs_to_a_corner() -> None:
    assert set(VERDICTS) <= set(CORNERS)


@pytest.mark.parametrize("envelope", [0x31, 0x24, 0x10], ids=hex)
def test_another_tag_around_a_certificate_is_refused(envelope: int) -> None:
    assert verdict([*SOUND[:-1], ALL.issue(4, ALL.parts(4), envelope=envelope)]) == MALFORMED


@pytest.mark.parametrize("form", [b"\x30\x80", b"\x30\x83\x00", b"\x30\x84\x00\x00"], ids=bytes.hex)
def test_a_length_that_is_not_der_is_refused(form: bytes) -> None:
    leaf = SOUND[-1]
    body, length = leaf[4:], leaf[2:4]
    respelt = form + body + b"\0\0" if form[1] == 0x80 else form + length + body
    assert verdict([*SOUND[:-1], respelt]) == MALFORMED


def test_every_cut_of_a_certificate_is_refused() -> None:
    with tally("INV-10") as tried:
        for size in range(len(SOUND[-1])):
            tried.case()
            assert verdict([*SOUND[:-1], SOUND[-1][:size]]) == MALFORMED
