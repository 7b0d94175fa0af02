"""The certificate chain of an attestation document: a linear walk in the order given, from a pinned root to the leaf.

No path is built, so no second path can be found: extra, missing or shuffled certificates fail. AWS's chains have five
levels (root, region, zone, instance, leaf), all P-384 and ecdsa-with-SHA384. CAs: critical basicConstraints with path
lengths none, 2, 1, 0 and critical keyUsage. Leaf: CA:FALSE, keyUsage not critical, no name but its subject. CRL
distribution points are present and not followed: a verifier has no network here, and a leaf lives three hours.

The authorities of the last few bundles are remembered by the bundle's bytes: enclaves of one machine share them for
hours, and a signature that holds once holds for ever. What changes with time is checked anew each time; a leaf is never
remembered; refusals raise, and are not remembered either.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NoReturn

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.attestation.certificate import Certificate, parse_certificate
from ephemeral.trusted.p384 import P384Key, SignatureRejected
from ephemeral.trusted.policy import RootOfTrust

_MIN_CERTIFICATES: Final = 3
_MAX_CERTIFICATES: Final = 6
_REMEMBERED_BUNDLES: Final = 16


@dataclass(frozen=True, slots=True)
class TrustedLeaf:
    """The end of a chain that was walked: the key that signs documents, and when it may."""

    key: P384Key
    not_before: datetime
    not_after: datetime


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
    bundle = tuple(cabundle)
    count = len(bundle) + 1
    if not _MIN_CERTIFICATES <= count <= _MAX_CERTIFICATES:
        _refuse(f"the chain has {count} certificates, not 3 to 6", "CHAIN_LENGTH")
    # 2 Each by itself: DER with nothing after it, P-384, ecdsa-with-SHA384, no unknown critical extension.
    authorities = _parse_authorities(bundle)
    end = parse_certificate(leaf, f"certificate {count} of {count}")
    # 3 Each valid at that time: root and intermediates too, not the leaf alone.
    for certificate in (*authorities, end):
        _check_validity(certificate, at)
    # 4 Authorities that may sign certificates and have room below them; a leaf that may sign documents only.
    for place, certificate in enumerate(authorities):
        _check_authority(certificate, authorities_below=count - 2 - place)
    _check_leaf(end)
    # 5 Each issued by the one before it: name and signature.
    _check_authorities_issued(bundle)
    _check_issued(end, authorities[-1])
    return TrustedLeaf(end.key, end.not_before, end.not_after)


def forget_authorities() -> None:
    """Drop what is remembered of earlier bundles, so that the next walk costs what a first one does."""
    _parse_authorities.cache_clear()
    _check_authorities_issued.cache_clear()


@lru_cache(maxsize=_REMEMBERED_BUNDLES)
def _parse_authorities(bundle: tuple[bytes, ...]) -> tuple[Certificate, ...]:
    count = len(bundle) + 1
    return tuple(parse_certificate(der, f"certificate {place} of {count}") for place, der in enumerate(bundle, 1))


@lru_cache(maxsize=_REMEMBERED_BUNDLES)
def _check_authorities_issued(bundle: tuple[bytes, ...]) -> None:
    # RFC 5280 section 6.1: no certificate more than once. A root, which issued itself, would pass as its own child.
    if len(set(bundle)) != len(bundle):
        _refuse("a certificate stands twice in the bundle", "CERTIFICATE_NOT_ISSUED")
    for issuer, subject in pairwise(_parse_authorities(bundle)):
        _check_issued(subject, issuer)


def _check_validity(subject: Certificate, at: datetime) -> None:
    if at < subject.not_before:
        _refuse(
            f"{subject.place} is not valid before {subject.not_before:%Y-%m-%d %H:%M:%S} UTC",
            "CERTIFICATE_NOT_YET_VALID",
        )
    if at > subject.not_after:
        _refuse(f"{subject.place} expired at {subject.not_after:%Y-%m-%d %H:%M:%S} UTC", "CERTIFICATE_EXPIRED")


def _check_authority(subject: Certificate, authorities_below: int) -> None:
    constraints = subject.constraints.value
    if not constraints.ca or not subject.constraints.critical:
        _refuse(f"{subject.place} is not a certificate authority", "CERTIFICATE_NOT_CA")
    if not subject.usage.key_cert_sign:
        _refuse(f"{subject.place} may not sign certificates (keyCertSign)", "CERTIFICATE_USAGE")
    if constraints.path_length is not None and constraints.path_length < authorities_below:
        _refuse(f"{subject.place} has too many authorities below it (pathLenConstraint)", "CERTIFICATE_PATH_LENGTH")


def _check_leaf(subject: Certificate) -> None:
    if subject.constraints.value.ca or subject.usage.key_cert_sign:
        _refuse(f"{subject.place}, the leaf, is an authority", "LEAF_IS_CA")
    if not subject.usage.digital_signature:
        _refuse(f"{subject.place}, the leaf, may not sign documents (digitalSignature)", "CERTIFICATE_USAGE")


def _check_issued(subject: Certificate, issuer: Certificate) -> None:
    """Check the name and the signature (RFC 5280 section 6.1.3), and that both algorithm fields say the same."""
    parts = subject.parts
    try:
        if parts.issuer != issuer.parts.subject or parts.algorithm != parts.content_algorithm:
            raise SignatureRejected("another issuer's name, or two algorithms")
        issuer.key.verify_der(parts.signature, parts.content)
    except SignatureRejected:
        _refuse(f"{subject.place} was not issued by the one before it", "CERTIFICATE_NOT_ISSUED")


def _refuse(detail: str, code: str) -> NoReturn:
    raise UntrustedChain(detail, code=code)
