"""ES384 as COSE carries it (RFC 9053 section 2.1): r || s, 48 bytes each.

High s is admitted: a third of the genuine documents have one. So a signature is no id of anything.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from ephemeral.errors import ForgedDocument

ES384_SIGNATURE_BYTES: Final = 96
_HALF: Final = ES384_SIGNATURE_BYTES // 2


def verify_es384(key: EllipticCurvePublicKey, signature: bytes, message: bytes) -> None:
    """Return if the 96-byte `signature` is `key`'s over `message`.

    Raises:
        ForgedDocument: it is not.
    """
    try:
        # Another length would let a padded copy of a signature pass as a second one.
        if len(signature) != ES384_SIGNATURE_BYTES:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
        key.verify(encode_dss_signature(r, s), message, ECDSA(SHA384()))
    except InvalidSignature:
        raise ForgedDocument("the document was not signed by its certificate's key") from None
