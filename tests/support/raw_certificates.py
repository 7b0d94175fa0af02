"""Certificates of the Nitro profile written element by element, so that any element can be written as no library would.

`Authority.issue` signs whatever came of it: the signature is always right, and the one oddity is the only one.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
LEVELS = ("root", "region", "zone", "instance", "leaf")


def tlv(tag: int, *parts: bytes) -> bytes:
    """Write one DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(*arcs: int) -> bytes:
    """Write an object identifier; arcs may be of any size."""
    return tlv(0x06, b"".join(_base128(arc) for arc in (arcs[0] * 40 + arcs[1], *arcs[2:])))


def _base128(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def utc_time(text: str) -> bytes:
    return tlv(0x17, text.encode())


def general_time(text: str) -> bytes:
    return tlv(0x18, text.encode())


def name(common_name: str, tag: int = 0x0C) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, oid(2, 5, 4, 3), tlv(tag, common_name.encode()))))


def extension(kind: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return tlv(0x30, kind, b"\x01\x01\xff" if critical else b"", tlv(0x04, value))


BASIC_CONSTRAINTS, KEY_USAGE = oid(2, 5, 29, 19), oid(2, 5, 29, 15)
ECDSA_SHA384 = tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 3))


def constraints(value: bytes) -> bytes:
    return extension(BASIC_CONSTRAINTS, value, critical=True)


def usage(value: bytes, *, critical: bool = True) -> bytes:
    return extension(KEY_USAGE, value, critical=critical)


@dataclass
class Parts:
    """A certificate's elements, encoded."""

    version: bytes
    serial: bytes
    algorithm: bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    key: bytes
    unique: bytes
    extensions: bytes
    outer_algorithm: bytes

    @property
    def to_be_signed(self) -> bytes:
        middle = (self.algorithm, self.issuer, self.validity, self.subject, self.key, self.unique)
        return tlv(0x30, self.version, self.serial, *middle, self.extensions)


def validity(first: bytes, last: bytes) -> bytes:
    return tlv(0x30, first, last)


def extensions(*items: bytes) -> bytes:
    return tlv(0xA3, tlv(0x30, *items))


@dataclass
class Authorities:
    """The keys of one chain of five levels."""

    keys: list[ec.EllipticCurvePrivateKey] = field(
        default_factory=lambda: [ec.generate_private_key(ec.SECP384R1()) for _ in LEVELS]
    )

    def sound_extensions(self, place: int) -> list[bytes]:
        """Return the extensions that AWS writes at this level."""
        if place == len(LEVELS) - 1:
            return [constraints(tlv(0x30)), usage(b"\x03\x02\x07\x80", critical=False)]
        length = b"" if place == 0 else integer(3 - place)
        return [constraints(tlv(0x30, b"\x01\x01\xff", length)), usage(b"\x03\x02\x01\x86")]

    def parts(self, place: int) -> Parts:
        """Return the elements of the sound certificate at this level."""
        spki = self.keys[place].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        first, last = AT - timedelta(hours=1), AT + timedelta(hours=2)
        return Parts(
            version=tlv(0xA0, integer(2)),
            serial=integer(place + 1),
            algorithm=ECDSA_SHA384,
            issuer=name(LEVELS[max(place - 1, 0)]),
            validity=validity(utc_time(f"{first:%y%m%d%H%M%S}Z"), utc_time(f"{last:%y%m%d%H%M%S}Z")),
            subject=name(LEVELS[place]),
            key=spki,
            unique=b"",
            extensions=extensions(*self.sound_extensions(place)),
            outer_algorithm=ECDSA_SHA384,
        )

    def issue(self, place: int, parts: Parts, *, envelope: int = 0x30) -> bytes:
        """Sign the elements as the level above."""
        body = parts.to_be_signed
        signature = self.keys[max(place - 1, 0)].sign(body, ec.ECDSA(SHA384()))
        return tlv(envelope, body, parts.outer_algorithm, tlv(0x03, b"\0", signature))

    def chain(self) -> list[bytes]:
        """Return the sound chain, root first."""
        return [self.issue(place, self.parts(place)) for place in range(len(LEVELS))]
