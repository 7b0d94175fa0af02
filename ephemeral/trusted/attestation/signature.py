"""ES384 as COSE carries it (RFC 9053 section 2.1): r || s, 48 bytes each.

High s is admitted: a third of the genuine documents have one. So a signature is no id of anything.
"""

from typing import Final

from ephemeral.errors import ForgedDocument
from ephemeral.trusted.p384 import RAW_SIGNATURE_BYTES, P384Key, SignatureRejected

ES384_SIGNATURE_BYTES: Final = RAW_SIGNATURE_BYTES


def verify_es384(key: P384Key, signature: bytes, message: bytes) -> None:
    """Return if the 96-byte `signature` is `key`'s over `message`.

    Raises:
        ForgedDocument: it is not.
    """
    try:
        key.verify_raw(signature, message)
    except SignatureRejected:
        raise ForgedDocument("the document was not signed by its certificate's key") from None
