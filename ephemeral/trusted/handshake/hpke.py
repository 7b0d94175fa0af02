"""HPKE in base mode for one suite (RFC 9180): set-up and secret export, all that the key schedule takes from it.

KEM 0x0020 DHKEM(X25519, HKDF-SHA256), KDF 0x0001 HKDF-SHA256, AEAD 0x0003 ChaCha20-Poly1305 (section 7). Frames are
sealed by ``channel`` under exported secrets, so HPKE's own key and nonce are not even derived. Every HKDF output here
is one block, so extracting and expanding are one HMAC each. X25519 is the library's; it refuses the all-zero secret
that a key of low order gives (section 7.1.4).
"""

from typing import Final, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ephemeral.trusted.hkdf import expand, hmac_sha256

_VERSION: Final = b"HPKE-v1"
_KEM: Final = _VERSION + b"KEM" + bytes.fromhex("0020")
_SUITE: Final = _VERSION + b"HPKE" + bytes.fromhex("0020 0001 0003")
_BLOCK: Final = 32
_MODE_BASE: Final = b"\0"


class KemKey(NamedTuple):
    """A recipient's key pair, its public half written out once: 32 bytes."""

    private: X25519PrivateKey
    public: bytes

    @classmethod
    def of(cls, private: X25519PrivateKey) -> Self:
        """Write the public half out."""
        return cls(private, private.public_key().public_bytes_raw())


class Exporter:
    """The one thing both ends keep of a set-up; prints nothing."""

    __slots__ = ("_secret",)

    def __init__(self, exporter_secret: bytes) -> None:
        self._secret = exporter_secret

    def export(self, context: bytes, length: int) -> bytes:
        """Return a secret of at most 32 bytes that is bound to `context` (section 5.3)."""
        return _expand(self._secret, _SUITE, b"sec", context, length)

    def __repr__(self) -> str:
        return "Exporter(<redacted>)"


def setup_sender(recipient: bytes, info: bytes, ephemeral: X25519PrivateKey | None = None) -> tuple[bytes, Exporter]:
    """SetupBaseS (section 5.1.1): return the encapsulated key (32 bytes) and the exporter.

    `ephemeral` is for test vectors; a fresh key is made otherwise.

    Raises:
        ValueError: `recipient` is not an X25519 key, or has low order.
    """
    ephemeral = ephemeral or X25519PrivateKey.generate()
    encapsulated = ephemeral.public_key().public_bytes_raw()
    secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    return encapsulated, _exporter(secret, encapsulated + recipient, info)


def setup_recipient(encapsulated: bytes, key: KemKey, info: bytes) -> Exporter:
    """SetupBaseR (section 5.1.1).

    Raises:
        ValueError: `encapsulated` is not an X25519 key, or has low order.
    """
    secret = key.private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    return _exporter(secret, encapsulated + key.public, info)


def _exporter(secret: bytes, kem_context: bytes, info: bytes) -> Exporter:
    """ExtractAndExpand (section 4.1), then KeySchedule without a pre-shared key (section 5.1) up to exporter_secret."""
    shared = _expand(_extract(b"", _KEM, b"eae_prk", secret), _KEM, b"shared_secret", kem_context, _BLOCK)
    context = _MODE_BASE + _NO_PSK_ID + _extract(b"", _SUITE, b"info_hash", info)
    return Exporter(_expand(_extract(shared, _SUITE, b"secret", b""), _SUITE, b"exp", context, _BLOCK))


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract (section 4); HMAC pads an empty salt with zeros, as HKDF asks."""
    return hmac_sha256(salt, suite + label + ikm)


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (section 4) of at most one block."""
    return expand(prk, length.to_bytes(2, "big") + suite + label + info, length)


_NO_PSK_ID: Final = _extract(b"", _SUITE, b"psk_id_hash", b"")
