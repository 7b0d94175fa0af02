"""Attestation documents with which an enclave asks KMS for a data key, wrong in one way."""

from collections.abc import Iterator
from typing import Any

import cbor2
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import AttestationError, BindingMismatch, MeasurementMismatch, StaleDocument
from ephemeral.trusted.attestation import KmsBinding
from tests.refusals.case import Case, Family
from tests.refusals.keys import p384, rsa_key
from tests.refusals.pki import SOUND, context
from tests.support.minting import AT, BINDING, RECEIPT_KEY

KMS = KmsBinding(b"\x0e" * 32).encode()
ZERO = bytes(48)
RECIPIENT = context(verify="recipient", nonce=None)
RSA = rsa_key("recipient")
SPKI = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
Row = tuple[str, str, str, bytes]


def _for_kms(**claims: Any) -> bytes:
    return SOUND.document(**{"public_key": SPKI, "user_data": KMS, "nonce": None, **claims})


def _spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _refused(error: type[AttestationError], code: str, rows: list[Row]) -> Iterator[Case]:
    for name, threat, says, raw in rows:
        yield Case(name, threat, says, raw, RECIPIENT, error, code)


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "A26", "a sound document for KMS", _for_kms(), RECIPIENT)
    rows = [("session", "A26", "made for a session, shown to KMS", _for_kms(user_data=BINDING.encode()))]
    yield from _refused(BindingMismatch, "WRONG_PURPOSE", rows)
    keys = [
        ("key-ed25519", "a raw Ed25519 key", RECEIPT_KEY.raw),
        ("key-p384", "a P-384 key", _spki(p384("recipient"))),
        ("key-1024", "an RSA key of 1,024 bits", _spki(rsa_key("short", 1024))),
        ("key-exponent", "an RSA key with exponent 3", _spki(rsa_key("exponent 3", 2048, 3))),
        ("key-byte-after", "an RSA key and a byte more", SPKI + b"\0"),
        ("key-pkcs1", "an RSA key in PKCS #1", RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)),
    ]
    rows = [(name, "A26", f"the recipient's key is {says}", _for_kms(public_key=key)) for name, says, key in keys]
    yield from _refused(BindingMismatch, "KEY_REJECTED", rows)
    rows = [("no-key", "A22", "a document for KMS without a key", _for_kms(public_key=None))]
    yield from _refused(BindingMismatch, "MISSING_PUBLIC_KEY", rows)
    rows = [
        (
            "manifest-short",
            "D3",
            "the manifest digest has 31 bytes",
            _for_kms(user_data=cbor2.dumps({0: "ephemeralml/kms/v1", 1: bytes(31)})),
        )
    ]
    yield from _refused(BindingMismatch, "MALFORMED_BINDING", rows)
    rows = [("debug", "D2", "a debug enclave asks for a data key", _for_kms(pcrs=dict.fromkeys(range(16), ZERO)))]
    yield from _refused(MeasurementMismatch, "DEBUG_ENCLAVE", rows)
    rows = [
        (
            "stale",
            "D7",
            "a document for KMS made 301 s ago",
            _for_kms(timestamp=int(AT.timestamp() * 1000) - 301_000),
        )
    ]
    yield from _refused(StaleDocument, "STALE_DOCUMENT", rows)


FAMILY = Family(
    "recipients",
    "Attestation documents for KMS, under a sound chain of the public test PKI, each signed as it stands. "
    "SPEC sections 5.3 and 14.",
    cases,
)
