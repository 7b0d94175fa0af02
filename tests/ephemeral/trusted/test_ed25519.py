"""Ed25519 keys: those under which anyone could sign never become keys, and private keys do not leak by accident."""

import hashlib
import pickle
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ephemeral.trusted.ed25519 import (
    BACKEND,
    Backend,
    KeyRejected,
    OpenSsl,
    SignatureRejected,
    SigningKey,
    Verify,
    VerifyingKey,
    is_strict,
)
from tests.support.backends import ED25519_BACKENDS
from tests.support.vectors import vector_json

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
each_backend = pytest.mark.parametrize("backend", ED25519_BACKENDS)
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


@each_backend
@pytest.mark.vectors
def test_wycheproof_ed25519(backend: Backend) -> None:
    wrong, tried = [], 0
    for group in vector_json("wycheproof/ed25519_test.json")["testGroups"]:
        key = VerifyingKey(bytes.fromhex(group["publicKey"]["pk"]), backend)
        for case in group["tests"]:
            tried += 1
            if accepts(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])) != (case["result"] == "valid"):
                wrong.append(case["tcId"])
    assert (wrong, tried) == ([], 151)


@each_backend
def test_no_mutation_of_a_signature_divides_the_libraries(backend: Backend) -> None:
    seeded = random.Random(25519)
    signing = SigningKey.from_seed(bytes(32))
    signature = signing.sign(b"message")
    keys = [VerifyingKey(signing.verifying_key.raw, library) for library in (OpenSsl(), backend)]
    assert [accepts(key, signature, b"message") for key in keys] == [True, True]
    assert [accepts(key, signature, b"messagf") for key in keys] == [False, False]
    for bit in range(512):
        mutant = bytearray(signature)
        mutant[bit // 8] ^= 1 << bit % 8
        assert [accepts(key, bytes(mutant), b"message") for key in keys] == [False, False]
    for _ in range(200):
        assert [accepts(key, seeded.randbytes(64), b"message") for key in keys] == [False, False]


@each_backend
def test_s_above_the_order_is_refused_though_it_is_the_same_number(backend: Backend) -> None:
    signing = SigningKey.from_seed(bytes(32))
    signature = signing.sign(b"message")
    key = VerifyingKey(signing.verifying_key.raw, backend)
    s = int.from_bytes(signature[32:], "little")
    for multiple in range(1, 16):
        if (other := s + multiple * ORDER) < 2**256:
            assert not accepts(key, signature[:32] + other.to_bytes(32, "little"), b"message")


@each_backend
def test_a_nonce_point_of_low_order_is_refused_with_a_sound_key(backend: Backend) -> None:
    # Its signer can open it to many messages; OpenSSL verifies the one whose R is the identity.
    for torsion in range(8):
        signature, raw = signed_with_torsion(b"message", nonce=0, key_torsion=0, nonce_torsion=torsion)
        assert signature[:32] in LOW_ORDER.values()
        assert not accepts(VerifyingKey(raw, backend), signature, b"message")
    signature, raw = signed_with_torsion(b"message", nonce=0, key_torsion=0, nonce_torsion=0)
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"message")


@each_backend
@pytest.mark.parametrize("key_torsion", range(8))
@pytest.mark.parametrize("nonce_torsion", range(8))
def test_libraries_agree_on_what_only_the_signer_can_make(
    backend: Backend, key_torsion: int, nonce_torsion: int
) -> None:
    # Points of mixed order are where verifiers of RFC 8032 differ (Chalkias et al., "Taming the many EdDSAs", 2020).
    for number in range(4):
        message = bytes([number])
        signature, raw = signed_with_torsion(message, 7, key_torsion, nonce_torsion)
        verdicts = [accepts(VerifyingKey(raw, library), signature, message) for library in (OpenSsl(), backend)]
        assert verdicts[0] == verdicts[1]
        if key_torsion == 0:
            assert verdicts == [nonce_torsion == 0] * 2


class Lenient:
    """Verifies as the other reading of RFC 8032 does, as far as one signature can tell."""

    name = "lenient"

    def load(self, raw: bytes) -> Verify:
        return lambda _signature, _message: None


def test_a_library_that_multiplies_small_order_away_is_not_taken() -> None:
    assert is_strict(OpenSsl())
    assert not is_strict(Lenient())
    assert is_strict(BACKEND)


def accepts(key: VerifyingKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except SignatureRejected:
        return False
    return True


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


# --- RFC 8032's arithmetic, step by step, to make what no honest signer makes

Point = tuple[int, int]
D = -121665 * pow(121666, P - 2, P) % P


def added(one: Point, two: Point) -> Point:
    (x1, y1), (x2, y2) = one, two
    product = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def times(scalar: int, base: Point) -> Point:
    result: Point = (0, 1)
    while scalar:
        if scalar & 1:
            result = added(result, base)
        base, scalar = added(base, base), scalar >> 1
    return result


def lifted(y: int) -> Point:
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x), y


BASE, ORDER_8 = lifted(4 * pow(5, -1, P) % P), lifted(ORDER_8_Y)


def signed_with_torsion(message: bytes, nonce: int, key_torsion: int, nonce_torsion: int) -> tuple[bytes, bytes]:
    """Return a signature and its public key, with multiples of a point of order 8 added to R and to the key."""
    secret = 0x5EED
    public = encoded_point(added(times(secret, BASE), times(key_torsion, ORDER_8)))
    r = encoded_point(added(times(nonce, BASE), times(nonce_torsion, ORDER_8)))
    challenge = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER
    return r + ((nonce + challenge * secret) % ORDER).to_bytes(32, "little"), public


def encoded_point(point: Point) -> bytes:
    return encoded(point[1], point[0] & 1)
