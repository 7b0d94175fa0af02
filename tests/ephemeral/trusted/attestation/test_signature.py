"""ES384 as documents carry it; the vectors and the libraries behind it are in ``test_p384``."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import ForgedDocument
from ephemeral.trusted.attestation.signature import verify_es384
from ephemeral.trusted.p384 import P384Key


def accepts(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        verify_es384(P384Key(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)), signature, message)
    except ForgedDocument:
        return False
    return True


def test_numbers_of_another_length_are_refused_though_they_are_the_same_numbers() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    r, s = decode_dss_signature(key.sign(b"message", ec.ECDSA(SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    assert accepts(key.public_key(), signature, b"message")
    for other in (signature[:48] + b"\0" + signature[48:], b"\0" + signature[:48] + b"\0" + signature[48:], b""):
        assert not accepts(key.public_key(), other, b"message")


@pytest.mark.parametrize("half", [bytes(48), b"\xff" * 48], ids=["zero", "above the order"])
def test_r_and_s_out_of_range_are_refused(half: bytes) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert not accepts(key, half * 2, b"message")
