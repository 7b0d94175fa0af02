"""Files of evidence as people keep them: raw CBOR, the same as hex or base64 text, or a published AIR v1 vector."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ephemeralml.cli.kind import PEM, recognise
from ephemeralml.cli.options import read_file
from ephemeralml.cli.steps import Source

_ASCII_END: Final = 0x80  # every format here starts with a CBOR tag, array or map: a byte above ASCII
_SLACK: Final = 4096


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """A file of evidence: the bytes that lie there, and the evidence in them."""

    role: str
    path: Path
    contents: bytes
    raw: bytes

    @property
    def source(self) -> Source:
        """What a record names it by: the hash that `sha256sum` prints."""
        digest = hashlib.sha256(self.contents).hexdigest()
        return Source(self.role, str(self.path), f"{len(self.contents):,} bytes, SHA-256 {digest}")

    def note(self, command: str) -> str:
        """Return a hint if it looks like a file for another command than this one."""
        kind = recognise(self.raw)
        return "" if kind is None else kind.note(command)

    @property
    def published_key(self) -> str | None:
        """The public key that a published vector carries beside its receipt, in hex; nobody vouches for it."""
        match _json(self.contents):
            case {"receipt_hex": str(), "public_key_hex": str() as key}:
                return key if _hex(key.encode()) else None
        return None


def read_evidence(path: Path, role: str, most: int) -> EvidenceFile:
    """Read evidence of at most `most` bytes, in whichever spelling.

    Text that is nothing of these is returned as it is, for the verifier to refuse.

    Raises:
        ConfigError: unreadable or too large.
    """
    contents = read_file(path, f"the {role}", 3 * most + _SLACK)  # hex in pairs with spaces: three characters a byte
    return EvidenceFile(role, path, contents, _spelt(contents))


def _spelt(contents: bytes) -> bytes:
    if not contents or contents[0] >= _ASCII_END or contents.startswith(PEM):  # dashes are base64url too
        return contents
    text = b"".join(contents.split())
    return _hex(text.removeprefix(b"0x")) or _base64(text) or _air_vector(contents) or contents


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
    match _json(text):
        case {"receipt_hex": str() as receipt}:
            return _hex(receipt.encode())
    return None


def _json(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
