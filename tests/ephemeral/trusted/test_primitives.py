"""Wycheproof against the very functions that the handshake and the frames call."""

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ephemeral.errors import HandshakeRejected
from ephemeral.trusted.handshake.schedule import Transcript, decapsulate, encapsulate, generate_kem_key
from tests.support.vectors import vector_json

HELLOS = Transcript(b"client hello", b"server hello", b"document")


@pytest.mark.vectors
def test_wycheproof_x25519_secrets_and_what_either_end_makes_of_each_public_key() -> None:
    tests = vector_json("wycheproof/x25519_test.json")["testGroups"][0]["tests"]
    refused = 0
    for test in tests:
        public, private, shared = (bytes.fromhex(test[name]) for name in ("public", "private", "shared"))
        if any(shared):
            key = X25519PrivateKey.from_private_bytes(private)
            assert key.exchange(X25519PublicKey.from_public_bytes(public)) == shared, test["comment"]
            encapsulate(public, HELLOS)
            decapsulate(generate_kem_key(), Transcript(b"client hello", b"server hello", b"document", public))
            continue
        refused += 1
        with pytest.raises(HandshakeRejected):
            encapsulate(public, HELLOS)
        with pytest.raises(HandshakeRejected):
            decapsulate(generate_kem_key(), Transcript(b"client hello", b"server hello", b"document", public))
    assert len(tests) == 518
    assert refused > 20


@pytest.mark.vectors
def test_wycheproof_chacha20_poly1305() -> None:
    verdicts = {"valid": 0, "invalid": 0}
    for group in vector_json("wycheproof/chacha20_poly1305_test.json")["testGroups"]:
        for test in group["tests"]:
            key, nonce, aad, message, sealed, tag = (
                bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            verdicts[test["result"]] += 1
            cipher = ChaCha20Poly1305(key)
            if test["result"] == "valid":
                assert cipher.encrypt(nonce, message, aad) == sealed + tag, test["tcId"]
                assert cipher.decrypt(nonce, sealed + tag, aad) == message, test["tcId"]
            else:
                with pytest.raises((InvalidTag, ValueError)):
                    cipher.decrypt(nonce, sealed + tag, aad)
    assert verdicts == {"valid": 256, "invalid": 69}
