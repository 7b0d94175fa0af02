"""Every key of the refusal pack, made from its name: public by design, good for nothing but these cases.

Whoever runs the generator gets the same keys, hence the same bytes. A root, publisher or receipt key that anybody can
make again must never be trusted for anything else; the pack's README says so too.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256, shake_256
from math import gcd

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ephemeral.trusted.ed25519 import SigningKey

PRIVATE: set[bytes] = set()  # the private half of every key made so far, so that a test can look for them
_P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_P256_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]
_WITNESSES = 16


def stream(name: str, size: int) -> bytes:
    """Return `size` bytes that follow from `name`."""
    return shake_256(f"ephemeralml refusal pack, public test key: {name}".encode()).digest(size)


def p384(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key of this name."""
    scalar = int.from_bytes(stream(name, 64), "big") % (_P384_ORDER - 1) + 1
    PRIVATE.add(scalar.to_bytes(48, "big"))
    return ec.derive_private_key(scalar, ec.SECP384R1())


def p256(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of this name."""
    scalar = int.from_bytes(stream(name, 64), "big") % (_P256_ORDER - 1) + 1
    PRIVATE.add(scalar.to_bytes(32, "big"))
    return ec.derive_private_key(scalar, ec.SECP256R1())


def signer(name: str) -> SigningKey:
    """Return the Ed25519 key of this name, as the product holds one."""
    return SigningKey.from_seed(_seed(name))


def raw_ed25519(name: str) -> ed25519.Ed25519PrivateKey:
    """Return the same key as the library holds one."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(_seed(name))


def _seed(name: str) -> bytes:
    seed = stream(name, 32)
    PRIVATE.add(seed)
    return seed


def serial(name: str) -> int:
    """Return the serial number of the certificate of this name."""
    return int.from_bytes(sha256(name.encode()).digest()[:16], "big") >> 1 | 1


@lru_cache
def rsa_key(name: str, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """Return the RSA key of this name (FIPS 186-5 appendix A.1.3 in outline: primes out of a stream of candidates)."""
    primes = _primes(name, bits // 2, exponent)
    p, q = next(primes), next(primes)
    PRIVATE.update(prime.to_bytes(bits // 16, "big") for prime in (p, q))
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    ).private_key()


def _primes(name: str, bits: int, exponent: int) -> Iterator[int]:
    counter = 0
    while True:
        candidate = int.from_bytes(stream(f"{name} {bits} {exponent} {counter}", bits // 8), "big")
        candidate |= 3 << bits - 2 | 1  # two top bits: the product has exactly twice as many
        counter += 1
        if gcd(candidate - 1, exponent) == 1 and _is_prime(candidate, name):
            yield candidate


def _is_prime(candidate: int, name: str) -> bool:
    """Miller and Rabin's test."""
    if any(candidate % prime == 0 for prime in _SMALL_PRIMES):
        return False
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_witnessed(candidate, odd, twos, f"{name} witness {n}") for n in range(_WITNESSES))


def _witnessed(candidate: int, odd: int, twos: int, witness: str) -> bool:
    power = pow(int.from_bytes(stream(witness, 32), "big") | 2, odd, candidate)
    if power in (1, candidate - 1):
        return True
    return any((power := power * power % candidate) == candidate - 1 for _ in range(twos - 1))
