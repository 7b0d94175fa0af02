"""Files of evidence as people keep them: raw CBOR, the same as hex or base64 text, or a published AIR v1 vector."""

import base64
import binascii
import json
from pathlib import Path
from typing import Final

from ephemeralml.cli.options import read_file

_ASCII_END: Final = 0x80  # every format here starts with a CBOR tag, array or map: a byte above ASCII
_SLACK: Final = 4096


def read_evidence(path: Path, what: str, most: int) -> bytes:
    """Read evidence of at most `most` bytes, in whichever spelling.

    Text that is nothing of these is returned as it is, for the verifier to refuse.

    Raises:
        ConfigError: unreadable or too large.
    """
    raw = read_file(path, what, 3 * most + _SLACK)  # hex in pairs with spaces takes three characters a byte
    if not raw or raw[0] >= _ASCII_END:
        return raw
    text = b"".join(raw.split())
    return _hex(text.removeprefix(b"0x")) or _base64(text) or _air_vector(raw) or raw


def _hex(text: bytes) -> bytes | None:
    try:
        return binascii.unhexlify(text)
    except ValueError:
        return None


def _base64(text: bytes) -> bytes | None:
    standard = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return None


def _air_vector(text: bytes) -> bytes | None:
    """Return the receipt of a vector as AIR v1 publishes them: a JSON object whose `receipt_hex` is the receipt."""
    try:
        match json.loads(text):
            case {"receipt_hex": str() as receipt}:
                return binascii.unhexlify(receipt)
    except (ValueError, RecursionError):
        pass
    return None
