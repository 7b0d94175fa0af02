"""The very HPKE set-up and export that the handshake uses, against RFC 9180's vectors and against pyhpke."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair

from ephemeral.trusted.handshake.hpke import KemKey, setup_recipient, setup_sender
from tests.support.vectors import vector_json

BASE_MODE, CHACHA20POLY1305 = 0, 3
PYHPKE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)


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
        enc, sender = setup_sender(bytes.fromhex(vector["pkRm"]), info, private(vector["skEm"]))
        assert enc.hex() == vector["enc"]
        receiver = setup_recipient(enc, KemKey.of(private(vector["skRm"])), info)
        for export in vector["exports"]:
            context, length = bytes.fromhex(export["exporter_context"]), export["L"]
            assert sender.export(context, length).hex() == export["exported_value"]
            assert receiver.export(context, length).hex() == export["exported_value"]


@given(st.binary(max_size=200), st.binary(max_size=80), st.integers(1, 32))
def test_pyhpke_comes_to_the_same_from_either_side(info: bytes, context: bytes, length: int) -> None:
    recipient, ephemeral = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = recipient.public_key().public_bytes_raw()
    pair = KEMKeyPair(*(KEMKey.from_pyca_cryptography_key(key) for key in (ephemeral, ephemeral.public_key())))
    theirs, sender = PYHPKE.create_sender_context(PYHPKE.kem.deserialize_public_key(public), info, eks=pair)
    ours, exporter = setup_sender(public, info, ephemeral)
    receiver = PYHPKE.create_recipient_context(ours, KEMKey.from_pyca_cryptography_key(recipient), info)
    exported = exporter.export(context, length)
    assert ours == theirs
    assert exported == sender.export(context, length) == receiver.export(context, length)
    assert exported == setup_recipient(theirs, KemKey.of(recipient), info).export(context, length)


def test_each_set_up_has_a_fresh_key() -> None:
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    (one, exporter_one), (two, exporter_two) = setup_sender(public, b""), setup_sender(public, b"")
    assert one != two
    assert exporter_one.export(b"", 32) != exporter_two.export(b"", 32)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"", bytes(31), bytes(33)], ids=len)
def test_keys_of_low_order_and_other_lengths_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        setup_sender(key, b"")
    with pytest.raises(ValueError, match=r".*"):
        setup_recipient(key, KemKey.of(X25519PrivateKey.generate()), b"")


def test_an_exporter_does_not_print_its_secret() -> None:
    _, exporter = setup_sender(X25519PrivateKey.generate().public_key().public_bytes_raw(), secrets.token_bytes(8))
    assert repr(exporter) == "Exporter(<redacted>)"
