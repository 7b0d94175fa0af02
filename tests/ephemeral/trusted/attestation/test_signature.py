"""ES384 against Project Wycheproof's raw-signature vectors: malleable, padded, zero and oversized r and s."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
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
