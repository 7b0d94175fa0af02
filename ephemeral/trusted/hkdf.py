"""HMAC-SHA-256 (RFC 2104) over hashlib, and HKDF-Expand of one block (RFC 5869 section 2.3) with it.

A key schedule is a dozen of these on a few bytes each. The HMAC of OpenSSL 3 and later looks its algorithm up at every
call, which takes longer than hashing so little; tests hold this one against it (docs/adr/0011-own-hpke.md).
"""

from hashlib import sha256
from typing import Final

from ephemeral.protocol import SHA256_BYTES

_BLOCK_BYTES: Final = 64
_INNER: Final = bytes(value ^ 0x36 for value in range(256))
_OUTER: Final = bytes(value ^ 0x5C for value in range(256))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """Return the HMAC of `message` under a key of at most 64 bytes; longer ones are never needed here."""
    if len(key) > _BLOCK_BYTES:
        raise ValueError(f"a key has at most {_BLOCK_BYTES} bytes")
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + message).digest()).digest()


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 of at most 32 bytes: one block, one HMAC."""
    if not 0 < length <= SHA256_BYTES:
        raise ValueError(f"one block has 1 to {SHA256_BYTES} bytes")
    return hmac_sha256(secret, label + b"\x01")[:length]
