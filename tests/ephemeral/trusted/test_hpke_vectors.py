"""RFC 9180 vectors through the very HPKE set-up and export that the handshake uses."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import KEMKey, KEMKeyPair

from ephemeral.trusted.handshake.schedule import _HPKE
from tests.support.vectors import vector_json

BASE_MODE, CHACHA20POLY1305 = 0, 3


def private(raw: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(raw))


@pytest.mark.vectors
def test_rfc_9180_exports_agree_on_both_sides() -> None:
    vectors = [
        vector
        for vector in vector_json("hpke/rfc9180_x25519_hkdfsha256.json")
        if vector["mode"] == BASE_MODE and vector["aead_id"] == CHACHA20POLY1305
    ]
    assert vectors
    for vector in vectors:
        info = bytes.fromhex(vector["info"])
        ephemeral = private(vector["skEm"])
        pair = KEMKeyPair(
            KEMKey.from_pyca_cryptography_key(ephemeral), KEMKey.from_pyca_cryptography_key(ephemeral.public_key())
        )
        recipient = _HPKE.kem.deserialize_public_key(bytes.fromhex(vector["pkRm"]))
        enc, sender = _HPKE.create_sender_context(recipient, info, eks=pair)
        assert enc.hex() == vector["enc"]
        own = KEMKey.from_pyca_cryptography_key(private(vector["skRm"]))
        receiver = _HPKE.create_recipient_context(enc, own, info)
        for export in vector["exports"]:
            context, length = bytes.fromhex(export["exporter_context"]), export["L"]
            assert sender.export(context, length).hex() == export["exported_value"]
            assert receiver.export(context, length).hex() == export["exported_value"]
