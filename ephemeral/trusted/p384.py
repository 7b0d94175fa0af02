"""P-384 public keys and ECDSA signatures with SHA-384 (FIPS 186-5), in both encodings that documents use.

Two libraries can do the arithmetic. The first that is installed is taken when this module is imported, for good:

- awscrt, which is AWS-LC (the optional extra `fast`): about 2.5 times as fast
- cryptography, which is OpenSSL

What they are given is the same: an uncompressed point, and a signature that was read here and written again in its one
DER encoding. So they can differ in the arithmetic only, and the tests hold them against each other.
"""

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

try:
    from awscrt import crypto as awscrt
except ImportError:  # the extra is not installed
    _HAS_AWSCRT = False
else:
    _HAS_AWSCRT = True

POINT_BYTES: Final = 97
RAW_SIGNATURE_BYTES: Final = 96
# SubjectPublicKeyInfo of an uncompressed point of the named curve (RFC 5480 section 2); the point follows.
SPKI_PREFIX: Final = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")

_HALF: Final = RAW_SIGNATURE_BYTES // 2
_UNCOMPRESSED: Final = 4
_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_ALGORITHM: Final = ECDSA(SHA384())

# Takes a signature in DER and a message; returns if the signature holds, else raises SignatureRejected.
Verify = Callable[[bytes, bytes], None]


class KeyRejected(ValueError):
    """The bytes are not an uncompressed point of the curve."""


class SignatureRejected(ValueError):
    """The signature is not this key's over this message."""


class Backend(Protocol):
    """A library that can verify; `name` is what reports and benchmarks call it."""

    name: str

    def load(self, point: bytes) -> Verify:
        """Load an uncompressed point of 97 bytes; a ValueError if it is not on the curve."""


class OpenSsl:
    """The default."""

    name = "cryptography"

    def load(self, point: bytes) -> Verify:
        """Load the point."""
        key = load_der_public_key(SPKI_PREFIX + point)
        assert isinstance(key, EllipticCurvePublicKey)

        def verify(signature: bytes, message: bytes) -> None:
            try:
                key.verify(signature, message, _ALGORITHM)
            except InvalidSignature:
                raise SignatureRejected("signature does not verify") from None

        return verify


class AwsLc:
    """The one of the extra `fast`; making one without it is a RuntimeError."""

    name = "awscrt"

    def __init__(self) -> None:
        if not _HAS_AWSCRT:
            raise RuntimeError("awscrt is not installed: install ephemeralml-protocol[fast]")

    def load(self, point: bytes) -> Verify:
        """Load the point."""
        try:
            key = awscrt.EC.new_key_from_der_data(SPKI_PREFIX + point)
        except RuntimeError:
            raise ValueError("not a point of P-384") from None

        def verify(signature: bytes, message: bytes) -> None:
            if not key.verify(hashlib.sha384(message).digest(), signature):
                raise SignatureRejected("signature does not verify")

        return verify


BACKEND: Final[Backend] = AwsLc() if _HAS_AWSCRT else OpenSsl()


class P384Key:
    """A public key that is a point of the curve, in its uncompressed encoding."""

    __slots__ = ("_verify", "point")

    def __init__(self, point: bytes, backend: Backend = BACKEND) -> None:
        """Accept 97 bytes.

        Raises:
            KeyRejected: another length, a compressed point, or not a point of the curve.
        """
        if len(point) != POINT_BYTES or point[0] != _UNCOMPRESSED:
            raise KeyRejected(f"not an uncompressed point of {POINT_BYTES} bytes")
        try:
            self._verify = backend.load(point)
        except ValueError:
            raise KeyRejected("not a point of P-384") from None
        self.point = point

    def verify_raw(self, signature: bytes, message: bytes) -> None:
        """Return if the 96-byte signature r || s (RFC 9053 section 2.1) is this key's over `message`.

        Raises:
            SignatureRejected: it is not.
        """
        # Another length would let a padded copy of a signature pass as a second one.
        if len(signature) != RAW_SIGNATURE_BYTES:
            raise SignatureRejected(f"not {RAW_SIGNATURE_BYTES} bytes")
        r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
        self._verify(_der(r, s), message)

    def verify_der(self, signature: bytes, message: bytes) -> None:
        """Return if the signature in DER (RFC 3279 section 2.2.3) is this key's over `message`.

        Raises:
            SignatureRejected: it is not, or is not in its one DER encoding.
        """
        try:
            der = _der(*decode_dss_signature(signature))
        except ValueError:
            raise SignatureRejected("not a signature in DER") from None
        if der != signature:  # belt: today's reader of DER refuses other spellings itself
            raise SignatureRejected("not a signature in DER")
        self._verify(der, message)


def _der(r: int, s: int) -> bytes:
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        raise SignatureRejected("r or s is out of range")
    return encode_dss_signature(r, s)
