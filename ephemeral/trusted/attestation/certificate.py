"""One certificate of a chain, read by the profile; who issued it is for ``chain`` to find out.

cryptography parses it and is the judge of what is DER. The parts that a signature covers or compares are then cut out
of the very bytes that it accepted, so that nothing is encoded again to be verified.
"""

from datetime import datetime
from typing import Final, NamedTuple, NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import SignatureAlgorithmOID

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.p384 import SPKI_PREFIX, P384Key

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
    constraints, usage = _extensions(certificate, place)
    return Certificate(
        place,
        parts,
        P384Key(parts.public_key.removeprefix(SPKI_PREFIX)),
        constraints,
        usage,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _extensions(
    certificate: x509.Certificate, place: str
) -> tuple[x509.Extension[x509.BasicConstraints], x509.KeyUsage]:
    constraints = usage = None
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            constraints = extension
        elif isinstance(value, x509.KeyUsage):
            usage = value
        elif extension.critical:
            _refuse(f"{place}: unknown critical extension {extension.oid.dotted_string}", "CERTIFICATE_EXTENSION")
    if constraints is None or usage is None:
        missing = "BasicConstraints" if constraints is None else "KeyUsage"
        _refuse(f"{place} has no {missing}", "CERTIFICATE_EXTENSION")
    return constraints, usage


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
    start, end = _start(der), len(der)
    found = []
    while start < end:
        stop = start + 2 + der[start + 1]
        if stop >= start + 2 + _LONG_FORM:
            content = stop - _LONG_FORM
            stop = content + int.from_bytes(der[start + 2 : content], "big")
        found.append(der[start:stop])
        start = stop
    return found


def _start(der: bytes) -> int:
    """Return where the content of an element starts."""
    return 2 + max(der[1] - _LONG_FORM, 0)


def _refuse(detail: str, code: str) -> NoReturn:
    raise UntrustedChain(detail, code=code)
