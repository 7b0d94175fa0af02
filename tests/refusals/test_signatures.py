"""Each input is validly signed, by libraries that the product has no part in: only its one fault is wrong."""

from contextlib import suppress
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from ephemeralml.selftest import Case, load

# Cases whose very fault is the signature, or the key that it is held against.
UNSIGNED = {
    *("FORGED_DOCUMENT", "MALFORMED_SIGNATURE", "SIG_FAILED", "BAD_SIG_LENGTH", "MANIFEST_FORGED", "POLICY_FORGED"),
    *("MANIFEST_UNKNOWN_PUBLISHER",),
}
# Of each family, how many cases can be read so far that a signature can be looked for.
READABLE = {"documents": 120, "chains": 70, "recipients": 12, "receipts": 75, "manifests": 50, "signed-policies": 14}


@pytest.mark.parametrize("family", READABLE)
def test_what_is_not_wrong_in_its_signature_is_validly_signed(family: str) -> None:
    cases = [case for case in load(family) if case.expected is None or case.expected.code not in UNSIGNED]
    verdicts = {case.name: verdict for case in cases if (verdict := is_signed(case)) is not None}
    assert [name for name, signed in verdicts.items() if not signed] == []
    assert len(verdicts) >= READABLE[family]


def is_signed(case: Case) -> bool | None:
    """Say whether its signature holds; None if it cannot be read so far."""
    match envelope(case.raw):
        case [bytes(protected), _, bytes(payload), bytes(signature)]:
            message = cbor2.dumps(["Signature1", protected, b"", payload])
        case _:
            return None
    match case.family:
        case "receipts":
            return by_any_of([case.context["key"]], signature, message)
        case "manifests":
            return by_any_of(case.context["publishers"], signature, message)
        case "signed-policies":
            return by_any_of([case.context["signer"]], signature, message)
        case _:
            return by_leaf(payload, signature, message)


def envelope(raw: bytes) -> Any:
    """Read an envelope as leniently as the library does, tags left out."""
    try:
        value = cbor2.loads(raw)
    except (cbor2.CBORError, ValueError):
        return None
    while isinstance(value, cbor2.CBORTag):
        value = value.value
    return value


def by_any_of(keys: list[str], signature: bytes, message: bytes) -> bool:
    for key in keys:
        with suppress(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)
            return True
    return False


def by_leaf(payload: bytes, signature: bytes, message: bytes) -> bool | None:
    try:
        key = x509.load_der_x509_certificate(cbor2.loads(payload)["certificate"]).public_key()
    except (cbor2.CBORError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        return None
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True
