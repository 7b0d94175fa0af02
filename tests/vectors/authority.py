"""A certificate authority of AWS's shape with fixed keys, fixed serial numbers and deterministic signatures.

Its private keys can be read here by anybody: its documents are for test vectors and nothing else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256, sha384
from itertools import pairwise
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

AT: Final = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
PROTECTED: Final = bytes.fromhex("a1013822")
_NAMES: Final = ("root", "region", "zone", "instance", "leaf")
_PATH_LENGTHS: Final = {"root": None, "region": 2, "zone": 1, "instance": 0}
_UNUSED: Final = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
) | {"encipher_only": False, "decipher_only": False}


def _key(name: str) -> EllipticCurvePrivateKey:
    number = int.from_bytes(sha384(b"ephemeralml test vectors: " + name.encode()).digest(), "big")
    return derive_private_key(number % (ORDER - 1) + 1, SECP384R1())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ephemeralml test vectors {name}")])


def _certificate(name: str, issuer: str) -> bytes:
    leaf = name == _NAMES[-1]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(issuer))
        .public_key(_key(name).public_key())
        .serial_number(int.from_bytes(sha256(name.encode()).digest()[:8], "big") >> 1)
        .not_valid_before(AT - timedelta(minutes=10))
        .not_valid_after(AT + timedelta(hours=3))
        .add_extension(x509.BasicConstraints(not leaf, _PATH_LENGTHS.get(name)), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=leaf, key_cert_sign=not leaf, **_UNUSED), critical=True)
    )
    return builder.sign(_key(issuer), SHA384(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


@cache
def chain() -> tuple[bytes, ...]:
    """Return the certificates in DER, root first, leaf last."""
    return tuple(_certificate(name, issuer) for issuer, name in pairwise(_NAMES[:1] + _NAMES))


def root_sha256() -> bytes:
    """Return the hash a policy pins."""
    return sha256(chain()[0]).digest()


def payload(pcrs: Mapping[int, bytes], **claims: bytes | None) -> dict[str, Any]:
    """Return the payload of a document in the order in which the Nitro Security Module writes it."""
    absent: dict[str, bytes | None] = {"public_key": None, "user_data": None, "nonce": None}
    return {
        "module_id": "i-vectors-enc0000000000000000",
        "digest": "SHA384",
        "timestamp": int(AT.timestamp() * 1000),
        "pcrs": dict(pcrs),
        "certificate": chain()[-1],
        "cabundle": list(chain()[:-1]),
        **absent,
        **claims,
    }


def sign(encoded: bytes, *, tagged: bool = False, other_s: bool = False) -> bytes:
    """Return a document over an encoded payload; `other_s` gives the same signature with s negated."""
    message = cbor2.dumps(["Signature1", PROTECTED, b"", encoded])
    r, s = decode_dss_signature(_key("leaf").sign(message, ECDSA(SHA384(), deterministic_signing=True)))
    signature = r.to_bytes(48, "big") + (ORDER - s if other_s else s).to_bytes(48, "big")
    return (b"\xd2" if tagged else b"") + cbor2.dumps([PROTECTED, {}, encoded, signature])


def document(pcrs: Mapping[int, bytes], **claims: bytes | None) -> bytes:
    """Return a document as AWS writes it: untagged."""
    return sign(cbor2.dumps(payload(pcrs, **claims)))


def indefinite(pcrs: Mapping[int, bytes], **claims: bytes | None) -> bytes:
    """Return an encoded payload whose outer map has indefinite length, as in genuine documents since 2025."""
    pairs = payload(pcrs, **claims).items()
    return b"\xbf" + b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in pairs) + b"\xff"
