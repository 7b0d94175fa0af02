"""Ed25519 keys: those under which anyone could sign never become keys, and private keys do not leak by accident."""

import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ephemeral.trusted.ed25519 import KeyRejected, SignatureRejected, SigningKey, VerifyingKey
from tests.support.vectors import vector_json

P = 2**255 - 19
ORDER_8_Y = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")


def encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


LOW_ORDER = {
    f"{name}, sign {sign}": encoded(y, sign)
    for sign in (0, 1)
    for name, y in {
        "identity": 1,
        "order 2": P - 1,
        "order 4": 0,
        "order 8": ORDER_8_Y,
        "order 8, other": P - ORDER_8_Y,
        "order 4, not canonical": P,
        "identity, not canonical": P + 1,
    }.items()
}


@pytest.mark.parametrize("raw", LOW_ORDER.values(), ids=LOW_ORDER)
def test_a_key_of_low_order_is_refused(raw: bytes) -> None:
    with pytest.raises(KeyRejected):
        VerifyingKey(raw)


def test_why_openssl_lets_anyone_sign_under_the_all_zero_key() -> None:
    key, forged = Ed25519PublicKey.from_public_bytes(encoded(1)), encoded(1) + bytes(32)
    key.verify(forged, b"a manifest nobody signed")


@pytest.mark.parametrize("y", range(P, P + 19), ids=lambda y: f"p+{y - P}")
def test_a_second_encoding_of_a_key_is_refused(y: int) -> None:
    for sign in (0, 1):
        with pytest.raises(KeyRejected, match="canonical"):
            VerifyingKey(encoded(y, sign))


def test_bytes_that_are_no_point_are_refused_at_load() -> None:
    refused = []
    for y in range(2, 40):
        try:
            VerifyingKey(encoded(y))
        except KeyRejected:
            refused.append(y)
    # RFC 8032's decoding finds no x for these y; OpenSSL loads them all.
    assert refused == [y for y in range(2, 40) if not on_curve(y)]
    assert 10 < len(refused) < 30


def on_curve(y: int) -> bool:
    """Find x by RFC 8032 section 5.1.3, step by step."""
    d = -121665 * pow(121666, P - 2, P) % P
    u, v = (y * y - 1) % P, (d * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    return v * x * x % P in (u, -u % P)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_has_32_bytes(size: int) -> None:
    with pytest.raises(KeyRejected):
        VerifyingKey(b"\x01" * size)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size: int) -> None:
    with pytest.raises(SignatureRejected):
        SigningKey.generate().verifying_key.verify(b"\x01" * size, b"")


def test_many_fresh_keys_are_accepted_and_verify_what_they_signed() -> None:
    for _ in range(50):
        key = SigningKey.generate()
        VerifyingKey(key.verifying_key.raw).verify(key.sign(b"message"), b"message")
        with pytest.raises(SignatureRejected):
            key.verifying_key.verify(key.sign(b"message"), b"another")


@pytest.mark.vectors
def test_wycheproof_ed25519() -> None:
    wrong, tried = [], 0
    for group in vector_json("wycheproof/ed25519_test.json")["testGroups"]:
        key = VerifyingKey(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            tried += 1
            try:
                key.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                accepted = True
            except SignatureRejected:
                accepted = False
            if accepted != (case["result"] == "valid"):
                wrong.append(case["tcId"])
    assert (wrong, tried) == ([], 151)


def test_a_private_key_does_not_print_or_pickle() -> None:
    seed = bytes(range(32))
    key = SigningKey.from_seed(seed)
    assert repr(key) == str(key) == f"{key}" == "SigningKey(<redacted>)"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_keys_are_equal_by_their_bytes() -> None:
    raw = SigningKey.generate().verifying_key.raw
    assert VerifyingKey(raw) == VerifyingKey(raw)
    assert len({VerifyingKey(raw), VerifyingKey(raw)}) == 1
    assert VerifyingKey(raw) != raw
