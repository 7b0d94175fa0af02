"""One certificate of a chain, read by the profile; who issued it is for ``chain`` to find out.

cryptography parses it and is the judge of what is DER. The parts that a signature covers or compares are then cut out
of the very bytes that it accepted, so that nothing is encoded again to be verified.
"""

from datetime import datetime
from typing import Final, NamedTuple, NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.p384 import SPKI_PREFIX, P384Key

_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
_LONG_FORM: Final = 0x80

# What cryptography raises, at load or at the first look at a field, for bytes that are no sound certificate. Its
# warnings are errors only where the interpreter makes them so: no verdict may hang on them.
_UNSOUND: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)
_E = TypeVar("_E", bound=x509.ExtensionType)


class SignedParts(NamedTuple):
    """The fields of RFC 5280 section 4.1 that its issuer's signature is checked with, in DER as received."""

    content: bytes  # tbsCertificate
    algorithm: bytes
    content_algorithm: bytes
    signature: bytes
    issuer: bytes
    subject: bytes
    public_key: bytes


class Certificate(NamedTuple):
    """A certificate that fits the profile by itself: P-384, signed with SHA-384, nothing critical left unread."""

    place: str  # names in errors are ours: a stranger's subject could hold anything
    parts: SignedParts
    key: P384Key
    constraints: x509.Extension[x509.BasicConstraints]
    usage: x509.KeyUsage
    not_before: datetime
    not_after: datetime


def parse_certificate(der: bytes, place: str) -> Certificate:
    """Parse one certificate; `place` says which in errors.

    Raises:
        UntrustedChain: malformed, or not of the profile; `code` says which.
    """
    try:
        return _read(der, place)
    except _UNSOUND as error:
        raise UntrustedChain(f"{place} is malformed: {type(error).__name__}", code="CERTIFICATE_MALFORMED") from None


def _read(der: bytes, place: str) -> Certificate:
    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is not x509.Version.v3:
        raise ValueError("not a v3 certificate")
    if certificate.serial_number <= 0:  # RFC 5280 section 4.1.2.2; cryptography only warns of it
        raise ValueError("serial number is not positive")
    parts = _cut(der)
    if not parts.public_key.startswith(SPKI_PREFIX):
        _refuse(f"{place}: its key is not P-384", "CERTIFICATE_ALGORITHM")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        _refuse(f"{place} is not signed with ecdsa-with-SHA384", "CERTIFICATE_ALGORITHM")
    extensions = certificate.extensions
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            _refuse(f"{place}: unknown critical extension {extension.oid.dotted_string}", "CERTIFICATE_EXTENSION")
    return Certificate(
        place,
        parts,
        P384Key(parts.public_key.removeprefix(SPKI_PREFIX)),
        _extension(extensions, x509.BasicConstraints, place),
        _extension(extensions, x509.KeyUsage, place).value,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _extension(extensions: x509.Extensions, kind: type[_E], place: str) -> x509.Extension[_E]:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        raise UntrustedChain(f"{place} has no {kind.__name__}", code="CERTIFICATE_EXTENSION") from None


def _cut(der: bytes) -> SignedParts:
    """Cut a v3 certificate that cryptography accepted as DER."""
    content, algorithm, signature = _elements(der)
    _version, _serial, content_algorithm, issuer, _validity, subject, public_key, *_rest = _elements(content)
    spelt = _start(signature)
    # X.690 lets a BIT STRING leave bits of its last byte unused: a second spelling of the same signature.
    if signature[spelt]:
        raise ValueError("signature is not a whole number of bytes")
    return SignedParts(content, algorithm, content_algorithm, signature[spelt + 1 :], issuer, subject, public_key)


def _elements(der: bytes) -> list[bytes]:
    """Cut a SEQUENCE into its elements, each with its head (X.690 section 8.1.3)."""
    at, end = _start(der), len(der)
    found = []
    while at < end:
        start = at + 2
        length = der[at + 1]
        if length >= _LONG_FORM:
            start += length - _LONG_FORM
            length = int.from_bytes(der[at + 2 : start], "big")
        found.append(der[at : start + length])
        at = start + length
    return found


def _start(der: bytes) -> int:
    """Return where the content of an element starts."""
    return 2 + max(der[1] - _LONG_FORM, 0)


def _refuse(detail: str, code: str) -> NoReturn:
    raise UntrustedChain(detail, code=code)
