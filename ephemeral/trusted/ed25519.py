"""Ed25519 keys that are safe to trust (RFC 8032).

OpenSSL loads public keys of low order, under which a signature can be forged with no private key, encodings that are
not canonical, which give one key two names, and bytes that are no point at all. None becomes a VerifyingKey here.

Two libraries can verify. The first that will do is taken when this module is imported, for good: PyNaCl, which is
libsodium (the optional extra `fast`), else cryptography, which is OpenSSL. They must agree on every signature, also on
those that only the holder of the private key can make. Signing is always cryptography's: the key stays inside it.
"""

from collections.abc import Callable
from typing import Final, NoReturn, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ephemeral.protocol import ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES

try:
    from nacl import bindings as sodium
    from nacl.exceptions import BadSignatureError
except ImportError:  # the extra is not installed
    _HAS_SODIUM = False
else:
    _HAS_SODIUM = True

# Takes a signature and a message; returns if the signature holds, else raises SignatureRejected.
Verify = Callable[[bytes, bytes], None]

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P  # RFC 8032 section 5.1
# y coordinates of the eight points whose order divides the cofactor 8 (either sign of x): 0, 1, -1 and two of order 8.
_ORDER_8_Y: Final = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
_LOW_ORDER_Y: Final = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})


class KeyRejected(ValueError):
    """The bytes are not an Ed25519 public key that can be trusted."""


class SignatureRejected(ValueError):
    """The signature is not this key's over this message."""


def _y(encoded: bytes) -> int:
    """Return the y coordinate of an encoded point; the top bit is the sign of x."""
    return int.from_bytes(encoded, "little") & (2**255 - 1)


def _on_curve(y: int) -> bool:
    """Say whether some x goes with `y`: x^2 = (y^2 - 1) / (d y^2 + 1) needs a square (RFC 8032 section 5.1.3)."""
    return _is_square((y * y - 1) * (_D * y * y + 1) % _P)


def _is_square(a: int) -> bool:
    """Say whether `a`, from 0 to p - 1, is a non-zero square modulo p: its Jacobi symbol (FIPS 186-5 B.3) is 1.

    For public values: its time depends on them. It takes a fourth of that of raising to the power (p - 1) / 2.
    """
    n, negative = _P, 0
    while a:
        twos = (a & -a).bit_length() - 1
        a >>= twos
        # (2/n) is -1 when n is 3 or 5 modulo 8; swapping changes the sign when both are 3 modulo 4.
        negative ^= (twos & 1 and n & 7 in (3, 5)) ^ (a & n & 3 == 3)
        a, n = n % a, a
    return n == 1 and not negative


class Backend(Protocol):
    """A library that can verify; `name` is what reports and benchmarks call it."""

    name: str

    def load(self, raw: bytes) -> Verify:
        """Load a public key that was found sound."""


class OpenSsl:
    """The default."""

    name = "cryptography"

    def load(self, raw: bytes) -> Verify:
        """Load the key."""
        key = Ed25519PublicKey.from_public_bytes(raw)

        def verify(signature: bytes, message: bytes) -> None:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                raise SignatureRejected("signature does not verify") from None

        return verify


class Sodium:
    """The one of the extra `fast`; making one without it is a RuntimeError."""

    name = "PyNaCl"

    def __init__(self) -> None:
        if not _HAS_SODIUM:
            raise RuntimeError("PyNaCl is not installed: install ephemeralml-protocol[fast]")

    def load(self, raw: bytes) -> Verify:
        """Load the key."""

        def verify(signature: bytes, message: bytes) -> None:
            try:
                sodium.crypto_sign_open(signature + message, raw)
            except BadSignatureError:
                raise SignatureRejected("signature does not verify") from None

        return verify


# Sound but for its R, to which a point of order 8 was added. RFC 8032 section 5.1.7 lets a verifier multiply such a
# difference away or not; OpenSSL does not, and one receipt must not be true on one machine and false on another.
_TORSION_KEY: Final = bytes.fromhex("102852afc325717599d9a25c0c2b5e891fa811299ef290cf5b33ba23a69a0721")
_TORSION_SIGNATURE: Final = bytes.fromhex(
    "ef836a0d11bbd2e8449b8d455c729c79d69a7e58860a2a25502f9ef0a8691399"
    "4885d48e9deab9f29e6b9c0f91c00f6d065e8e55b43b4d7d84ba024c15973f0f"
)


def is_strict(backend: Backend) -> bool:
    """Say whether a backend refuses a signature whose R is off by a point of small order, as OpenSSL does."""
    try:
        backend.load(_TORSION_KEY)(_TORSION_SIGNATURE, b"")
    except SignatureRejected:
        return True
    return False


BACKEND: Final[Backend] = Sodium() if _HAS_SODIUM and is_strict(Sodium()) else OpenSsl()


class VerifyingKey:
    """A public key that is a point of the curve, not of low order, in its canonical encoding."""

    __slots__ = ("_verify", "raw")

    def __init__(self, raw: bytes, backend: Backend = BACKEND) -> None:
        """Accept 32 bytes.

        Raises:
            KeyRejected: wrong length, not canonical, of low order, or not a point of the curve.
        """
        if len(raw) != ED25519_KEY_BYTES:
            raise KeyRejected(f"an Ed25519 public key has {ED25519_KEY_BYTES} bytes, not {len(raw)}")
        y = _y(raw)
        if y >= _P:
            raise KeyRejected("Ed25519 public key is not canonical")
        if y in _LOW_ORDER_Y:
            raise KeyRejected("Ed25519 public key has low order: anyone could sign for it")
        if not _on_curve(y):
            raise KeyRejected("Ed25519 public key is not a point of the curve")
        self.raw = bytes(raw)
        self._verify = backend.load(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` is this key's over `message`.

        Raises:
            SignatureRejected: it is not.
        """
        # "verify_strict": a nonce point R of low order lets a signer claim later to have signed something else.
        if len(signature) != ED25519_SIGNATURE_BYTES or _y(signature[:ED25519_KEY_BYTES]) in _LOW_ORDER_Y:
            raise SignatureRejected("signature does not verify")
        self._verify(signature, message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.raw.hex()})"


class SigningKey:
    """A private key; prints nothing and is never pickled."""

    __slots__ = ("_key", "verifying_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifying_key = VerifyingKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Make a fresh key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Load a key from its 32-byte seed (RFC 8032 section 5.1.5)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return "SigningKey(<redacted>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not picklable")
