"""ES384 against Project Wycheproof's raw-signature vectors: malleable, padded, zero and oversized r and s."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ephemeral.errors import ForgedDocument
from ephemeral.trusted.attestation.signature import verify_es384
from tests.support.vectors import vector_json


def accepts(key: EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        verify_es384(key, signature, message)
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


@pytest.mark.vectors
def test_wycheproof_raw_p384_signatures() -> None:
    wrong, tried = [], 0
    for group in vector_json("wycheproof/ecdsa_secp384r1_sha384_p1363_test.json")["testGroups"]:
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        assert isinstance(key, EllipticCurvePublicKey)
        for case in group["tests"]:
            tried += 1
            accepted = accepts(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            if accepted != (case["result"] == "valid"):
                wrong.append(case["tcId"])
    assert (wrong, tried) == ([], 280)
