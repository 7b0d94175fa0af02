"""A mint of attestation documents that are sound in every respect but the one a test asks for.

It shares no code with the product's parsers or the simulated module: it builds certificates level by level, and writes
CBOR by hand where an honest encoder would refuse to.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ephemeral.trusted.attestation import SessionBinding
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy

AT = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NONCE = bytes(range(32))
PCR0, PCR1, PCR2 = (bytes([index]) * 48 for index in (0xA0, 0xA1, 0xA2))
IDENTITY_KEY = SigningKey.from_seed(b"identity".ljust(32, b"\0")).verifying_key
RECEIPT_KEY = SigningKey.from_seed(b"receipts".ljust(32, b"\0")).verifying_key
BINDING = SessionBinding(IDENTITY_KEY, b"\x0b" * 32, b"\x0c" * 32, b"\x0d" * 32)
ES384 = bytes.fromhex("a1013822")
_FLAGS = ("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
_RSA_KEY = rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Level:
    """One certificate of a chain; every field is a knob."""

    name: str
    ca: bool = True
    path_length: int | None = None
    constraints: bool = True
    constraints_critical: bool = True
    usage: bool = True
    key_cert_sign: bool = True
    digital_signature: bool = True
    key: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP384R1())
    stranger: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP384R1())
    serial: Callable[[], int] = x509.random_serial_number
    digest: HashAlgorithm = field(default_factory=SHA384)
    starts: timedelta = -10 * MINUTE
    ends: timedelta = timedelta(hours=3)
    extra: Sequence[tuple[x509.ExtensionType, bool]] = ()
    issuer_name: str | None = None
    signed_by_stranger: bool = False


LEVELS = (
    Level("root"),
    Level("region", path_length=2),
    Level("zone", path_length=1),
    Level("instance", path_length=0),
    Level("leaf", ca=False, key_cert_sign=False),
)


def changed(place: int, **knobs: Any) -> tuple[Level, ...]:
    """Return the sound levels with the knobs of one changed."""
    return (*LEVELS[:place], replace(LEVELS[place], **knobs), *LEVELS[place + 1 :])


def rsa_key() -> rsa.RSAPrivateKey:
    """Return one RSA key, made once: making one is slow."""
    return _RSA_KEY


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _issue(level: Level, key: Any, issuer_name: str, issuer_key: Any) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(level.name))
        .issuer_name(_name(level.issuer_name or issuer_name))
        .public_key(key.public_key())
        .serial_number(level.serial())
        .not_valid_before(AT + level.starts)
        .not_valid_after(AT + level.ends)
    )
    if level.constraints:
        builder = builder.add_extension(x509.BasicConstraints(level.ca, level.path_length), level.constraints_critical)
    if level.usage:
        flags = {"content_commitment": False, "crl_sign": False, **dict.fromkeys(_FLAGS, False)}
        usage = x509.KeyUsage(digital_signature=level.digital_signature, key_cert_sign=level.key_cert_sign, **flags)
        builder = builder.add_extension(usage, level.ca)
    for extension, critical in level.extra:
        builder = builder.add_extension(extension, critical)
    signer = level.stranger() if level.signed_by_stranger else issuer_key
    # RFC 6979 nonces: whoever fixes the keys, the serial numbers and the time gets the same certificate each time.
    repeatable = isinstance(signer, ec.EllipticCurvePrivateKey) or None
    return builder.sign(signer, level.digest, ecdsa_deterministic=repeatable).public_bytes(Encoding.DER)


def head(major: int, argument: int) -> bytes:
    """Return a CBOR head in its shortest form."""
    first, *rest = cbor2.dumps(argument)
    return bytes([first | major << 5, *rest])


def raw_map(pairs: Sequence[tuple[bytes, bytes]], *, indefinite: bool = False) -> bytes:
    """Encode a map from encoded keys and values, whatever they are."""
    content = b"".join(key + value for key, value in pairs)
    return b"\xbf" + content + b"\xff" if indefinite else head(5, len(pairs)) + content


@dataclass(frozen=True)
class Raw:
    """A value already in CBOR."""

    cbor: bytes


class Mint:
    """A test PKI and what it signs; a document of `Mint()` with nothing changed verifies under its `policy` at `AT`."""

    def __init__(self, levels: Sequence[Level] = LEVELS) -> None:
        keys = [level.key() for level in levels]
        self.chain: list[bytes] = []
        for place, level in enumerate(levels):
            above = max(place - 1, 0)
            self.chain.append(_issue(level, keys[place], levels[above].name, keys[above]))
        self._leaf_key = keys[-1]
        self.root = RootOfTrust("test", hashlib.sha256(self.chain[0]).digest(), evaluation=True)
        self.policy = TrustPolicy((self.root,), (Measurements(PCR0, PCR1, PCR2, label="test build"),))

    def pairs(self, **claims: Any) -> list[tuple[bytes, bytes]]:
        """Return the payload as encoded keys and values; `claims` replace fields, `...` leaves one out."""
        fields: dict[str, Any] = {
            "module_id": "i-test",
            "digest": "SHA384",
            "timestamp": int(AT.timestamp() * 1000),
            "pcrs": {0: PCR0, 1: PCR1, 2: PCR2, **{index: bytes(48) for index in range(3, 16)}},
            "certificate": self.chain[-1],
            "cabundle": self.chain[:-1],
            "public_key": RECEIPT_KEY.raw,
            "user_data": BINDING.encode(),
            "nonce": NONCE,
            **claims,
        }
        return [
            (cbor2.dumps(name), value.cbor if isinstance(value, Raw) else cbor2.dumps(value))
            for name, value in fields.items()
            if value is not ...
        ]

    def sign(self, payload: bytes, protected: bytes = ES384) -> bytes:
        """Return r || s by the leaf."""
        message = cbor2.dumps(["Signature1", protected, b"", payload])
        r, s = decode_dss_signature(self._leaf_key.sign(message, ec.ECDSA(SHA384(), deterministic_signing=True)))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def seal(
        self,
        payload: bytes,
        *,
        protected: bytes = ES384,
        unprotected: bytes = b"\xa0",
        signature: Callable[[bytes], bytes] = lambda signature: signature,
    ) -> bytes:
        """Sign `payload` as it is, and wrap it."""
        sealed = signature(self.sign(payload, protected))
        return b"\x84" + cbor2.dumps(protected) + unprotected + cbor2.dumps(payload) + cbor2.dumps(sealed)

    def document(self, **claims: Any) -> bytes:
        """Return a signed document with these claims changed."""
        return self.seal(raw_map(self.pairs(**claims)))
