"""The certificate chain of an attestation document: a linear walk in the order given, from a pinned root to the leaf.

No path is built, so no second path can be found: extra, missing or shuffled certificates fail. AWS's chains have five
levels (root, region, zone, instance, leaf), all P-384 and ecdsa-with-SHA384. CAs: critical basicConstraints with path
lengths none, 2, 1, 0 and critical keyUsage. Leaf: CA:FALSE, keyUsage not critical, no name but its subject. CRL
distribution points are present and not followed: a verifier has no network here, and a leaf lives three hours.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.policy import RootOfTrust

_MIN_CERTIFICATES: Final = 3
_MAX_CERTIFICATES: Final = 6
_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})

# What cryptography raises, at load or at the first look at a field, for bytes that are no sound certificate. Its
# warnings (a serial number that is not positive) are errors only where the interpreter makes them so.
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


@dataclass(frozen=True, slots=True)
class TrustedLeaf:
    """The end of a chain that was walked: the key that signs documents, and when it may."""

    key: EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Certificate:
    """A certificate that fits the profile by itself: P-384, signed with SHA-384, nothing critical left unread."""

    place: str  # names in errors are ours: a stranger's subject could hold anything
    certificate: x509.Certificate
    key: EllipticCurvePublicKey
    constraints: x509.Extension[x509.BasicConstraints]
    usage: x509.KeyUsage


def find_root(cabundle: Sequence[bytes], roots: Collection[RootOfTrust]) -> RootOfTrust:
    """Return the pinned root whose SHA-256 is that of the first certificate of the bundle.

    Raises:
        UntrustedChain: it is none of them (ROOT_NOT_PINNED). The document's root is compared, never trusted.
    """
    digest = hashlib.sha256(cabundle[0]).digest()
    for root in roots:
        if root.sha256 == digest:
            return root
    raise UntrustedChain(
        f"its root, SHA-256 {digest.hex()[:16]}…, is none of the {len(roots)} pinned roots", code="ROOT_NOT_PINNED"
    )


def walk_chain(cabundle: Sequence[bytes], leaf: bytes, at: datetime) -> TrustedLeaf:
    """Walk [root, …, leaf] in order, every certificate valid at `at`; the caller has pinned the root.

    Raises:
        UntrustedChain: a certificate breaks the profile or was not issued by the one before it; `code` says how.
    """
    # 1 Length.
    count = len(cabundle) + 1
    if not _MIN_CERTIFICATES <= count <= _MAX_CERTIFICATES:
        _refuse(f"the chain has {count} certificates, not 3 to 6", "CHAIN_LENGTH")
    # 2 Each by itself: DER with nothing after it, P-384, ecdsa-with-SHA384, no unknown critical extension.
    chain = [_parse(der, f"certificate {place} of {count}") for place, der in enumerate([*cabundle, leaf], 1)]
    # 3 Each valid at that time: root and intermediates too, not the leaf alone.
    for certificate in chain:
        _check_validity(certificate, at)
    # 4 Authorities that may sign certificates and have room below them; a leaf that may sign documents only.
    for place, certificate in enumerate(chain[:-1]):
        _check_authority(certificate, authorities_below=count - 2 - place)
    _check_leaf(chain[-1])
    # 5 Each issued by the one before it: name and signature.
    for issuer, subject in pairwise(chain):
        _check_issued(subject, issuer)
    end = chain[-1]
    return TrustedLeaf(end.key, end.certificate.not_valid_before_utc, end.certificate.not_valid_after_utc)


def _parse(der: bytes, place: str) -> _Certificate:
    try:
        return _read(der, place)
    except _UNSOUND as error:
        raise UntrustedChain(f"{place} is malformed: {type(error).__name__}", code="CERTIFICATE_MALFORMED") from None


def _read(der: bytes, place: str) -> _Certificate:
    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is not x509.Version.v3 or certificate.public_bytes(Encoding.DER) != der:
        raise ValueError("not a v3 certificate in DER")
    # X.690 lets a BIT STRING leave bits of its last byte unused: a second spelling of the same signature.
    if not der.endswith(b"\0" + certificate.signature):
        raise ValueError("signature is not a whole number of bytes")
    key = certificate.public_key()
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1):
        _refuse(f"{place}: its key is not P-384", "CERTIFICATE_ALGORITHM")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        _refuse(f"{place} is not signed with ecdsa-with-SHA384", "CERTIFICATE_ALGORITHM")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            _refuse(f"{place}: unknown critical extension {extension.oid.dotted_string}", "CERTIFICATE_EXTENSION")
    constraints = _extension(certificate, x509.BasicConstraints, place)
    return _Certificate(place, certificate, key, constraints, _extension(certificate, x509.KeyUsage, place).value)


def _extension(certificate: x509.Certificate, kind: type[_E], place: str) -> x509.Extension[_E]:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        raise UntrustedChain(f"{place} has no {kind.__name__}", code="CERTIFICATE_EXTENSION") from None


def _check_validity(subject: _Certificate, at: datetime) -> None:
    start, end = subject.certificate.not_valid_before_utc, subject.certificate.not_valid_after_utc
    if at < start:
        _refuse(f"{subject.place} is not valid before {start:%Y-%m-%d %H:%M:%S} UTC", "CERTIFICATE_NOT_YET_VALID")
    if at > end:
        _refuse(f"{subject.place} expired at {end:%Y-%m-%d %H:%M:%S} UTC", "CERTIFICATE_EXPIRED")


def _check_authority(subject: _Certificate, authorities_below: int) -> None:
    constraints = subject.constraints.value
    if not constraints.ca or not subject.constraints.critical:
        _refuse(f"{subject.place} is not a certificate authority", "CERTIFICATE_NOT_CA")
    if not subject.usage.key_cert_sign:
        _refuse(f"{subject.place} may not sign certificates (keyCertSign)", "CERTIFICATE_USAGE")
    if constraints.path_length is not None and constraints.path_length < authorities_below:
        _refuse(f"{subject.place} has too many authorities below it (pathLenConstraint)", "CERTIFICATE_PATH_LENGTH")


def _check_leaf(subject: _Certificate) -> None:
    if subject.constraints.value.ca or subject.usage.key_cert_sign:
        _refuse(f"{subject.place}, the leaf, is an authority", "LEAF_IS_CA")
    if not subject.usage.digital_signature:
        _refuse(f"{subject.place}, the leaf, may not sign documents (digitalSignature)", "CERTIFICATE_USAGE")


def _check_issued(subject: _Certificate, issuer: _Certificate) -> None:
    try:
        _verify_issued(subject.certificate, issuer.certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise UntrustedChain(
            f"{subject.place} was not issued by the one before it", code="CERTIFICATE_NOT_ISSUED"
        ) from None


@lru_cache(maxsize=64)
def _verify_issued(subject: x509.Certificate, issuer: x509.Certificate) -> None:
    # Remembered by the certificates' bytes: a signature that holds once holds for ever, and an enclave shows the same
    # chain for hours. Everything that changes with time is checked anew. Refusals raise, and are not remembered.
    subject.verify_directly_issued_by(issuer)


def _refuse(detail: str, code: str) -> NoReturn:
    raise UntrustedChain(detail, code=code)
