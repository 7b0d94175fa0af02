"""Ed25519 keys that are safe to trust (RFC 8032).

OpenSSL loads public keys of low order, under which a signature can be forged with no private key, encodings that are
not canonical, which give one key two names, and bytes that are no point at all. None becomes a VerifyingKey here.
"""

from typing import Final, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ephemeral.protocol import ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES

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
    return pow((y * y - 1) * (_D * y * y + 1), (_P - 1) // 2, _P) == 1


class VerifyingKey:
    """A public key that is a point of the curve, not of low order, in its canonical encoding."""

    __slots__ = ("_key", "raw")

    def __init__(self, raw: bytes) -> None:
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
        self._key = Ed25519PublicKey.from_public_bytes(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` is this key's over `message`.

        Raises:
            SignatureRejected: it is not.
        """
        try:
            # "verify_strict": a nonce point R of low order lets a signer claim later to have signed something else.
            if len(signature) != ED25519_SIGNATURE_BYTES or _y(signature[:ED25519_KEY_BYTES]) in _LOW_ORDER_Y:
                raise InvalidSignature
            self._key.verify(signature, message)
        except InvalidSignature:
            raise SignatureRejected("signature does not verify") from None

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
