"""What a file looks like, for somebody who gave it to the wrong command; a guess at its first bytes, and no verdict."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from ephemeral.trusted.attestation.document import PROTECTED_ES384
from ephemeral.trusted.cose import CoseError, parse_sign1
from ephemeral.trusted.receipt.schema import PROTECTED as PROTECTED_RECEIPT
from ephemeralml.bundle import FORMAT, MAX_BUNDLE_BYTES

_SIGN1: Final = {
    PROTECTED_ES384: ("an attestation document", "verify attestation"),
    PROTECTED_RECEIPT: ("an AIR v1 receipt", "verify receipt"),
}
_CONTENT_TYPES: Final = {
    b"vnd.ephemeralml.manifest": ("a model manifest", "verify manifest"),
    b"vnd.ephemeralml.policy": ("a signed trust policy", "policy verify"),
}
PEM: Final = b"-----BEGIN "
_HEAD: Final = 64
_SEQUENCE: Final = b"\x30"
_ENVELOPED_DATA: Final = bytes.fromhex("06092a864886f70d010703")  # RFC 5652 section 6.1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file, and the command for it, if there is one."""

    name: str
    command: str = ""

    def note(self, used: str) -> str:
        """Return what to do instead of the command that was `used`; nothing if it was the right one."""
        if self.command == used:
            return ""
        return f"FILE is {self.name}{f': use ephemeralml {self.command}' if self.command else ''}."


def recognise(raw: bytes) -> Kind | None:
    """Return what `raw` looks like, if it is something that people have beside their evidence."""
    if not raw:
        return Kind("empty")
    if raw.startswith(_SEQUENCE):
        return _der(raw)
    if FORMAT.encode() in raw[:_HEAD]:
        return Kind("a bundle", "verify bundle")
    if raw.startswith(PEM):
        return Kind("PEM text, a certificate or a key, which vouches for nothing by itself")
    if raw.lstrip().startswith((b"{", b"[")):
        measured = b'"Measurements"' in raw
        return Kind("nitro-cli's measurements", "policy add") if measured else Kind("JSON without a receipt in it")
    return _sign1(raw)


def _der(raw: bytes) -> Kind | None:
    if _ENVELOPED_DATA in raw[:_HEAD]:
        return Kind("a CMS envelope, such as KMS answers: it is encrypted to one enclave's key and signed by nobody")
    try:
        x509.load_der_x509_certificate(raw)
    except ValueError:
        return None
    return Kind("a certificate, which vouches for nothing by itself")


def _sign1(raw: bytes) -> Kind | None:
    try:
        header = parse_sign1(raw, max_bytes=MAX_BUNDLE_BYTES).protected
    except CoseError:
        return None
    if header in _SIGN1:
        return Kind(*_SIGN1[header])
    return next((Kind(*kind) for name, kind in _CONTENT_TYPES.items() if name in header), None)
