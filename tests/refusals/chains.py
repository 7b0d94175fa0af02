"""Attestation documents that are sound but for their certificates."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import count

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from ephemeral.errors import UntrustedChain
from tests.refusals.case import Case, Family
from tests.refusals.keys import p256, raw_ed25519, rsa_key
from tests.refusals.pki import SOUND, STRANGE, context, document, mint, policy
from tests.support.minting import LEVELS, Level, Mint, changed

ROOT, REGION, ZONE, INSTANCE, LEAF = range(5)
PLACES = ("root", "region", "zone", "instance", "leaf")
SECOND = timedelta(seconds=1)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
CHAIN = SOUND.chain
P256 = partial(p256, "test PKI, another curve")
RSA = partial(rsa_key, "test PKI")
ED25519 = partial(raw_ed25519, "test PKI")


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "A11", "a sound chain of five", SOUND.document(), context())
    for depth in (3, 6):
        sound = mint(_levels(depth))
        yield Case(f"control-{depth}", "A12", f"a sound chain of {depth}", sound.document(), context(policy(sound)))
    tolerant = mint(changed(LEAF, extra=((UNKNOWN, False),)))
    says = "a sound chain whose leaf has an unknown extension that is not critical"
    yield Case("control-extension", "A13", says, tolerant.document(), context(policy(tolerant)))
    for name, threat, says, code, bundle, leaf in _rearranged():
        raw = document(bundle, leaf)
        yield Case(name, threat, says, raw, context(), UntrustedChain, code)
    for name, threat, says, code, levels in _defects():
        defective = mint(levels)
        yield Case(name, threat, says, defective.document(), _pinned(defective), UntrustedChain, code)
    yield from _other_leaf_keys()
    yield _respelt()


def _pinned(mint: Mint) -> dict[str, object]:
    return context(policy(mint))


def _levels(depth: int) -> list[Level]:
    return [Level("root"), *(Level(f"authority {n}") for n in range(depth - 2)), LEVELS[LEAF]]


def _rearranged() -> Iterator[tuple[str, str, str, str, Sequence[bytes], bytes]]:
    """Sound certificates of two PKIs, in an order that proves nothing."""
    not_issued, leaf, theirs = "CERTIFICATE_NOT_ISSUED", CHAIN[LEAF], STRANGE.chain
    root, region, zone, instance = CHAIN[:-1]
    pinned, malformed = "ROOT_NOT_PINNED", "CERTIFICATE_MALFORMED"
    yield "root-foreign", "A11", "a whole chain of another root with the same names", pinned, theirs[:-1], theirs[LEAF]
    yield "root-foreign-alone", "A11", "another root before the true chain", pinned, [theirs[ROOT], *CHAIN[1:-1]], leaf
    yield "root-left-out", "A12", "the bundle starts below the root", pinned, [region, zone, instance], leaf
    yield "root-byte-after", "A2", "a byte follows the root", pinned, [root + b"\0", region, zone, instance], leaf
    yield "root-not-first", "A12", "the root is last in the bundle", pinned, [region, zone, instance, root], leaf
    yield (
        "chain-foreign",
        "A11",
        "the true root before another root's chain",
        not_issued,
        [root, *theirs[1:-1]],
        theirs[LEAF],
    )
    yield "leaf-foreign", "A11", "another PKI's leaf under the true chain", not_issued, CHAIN[:-1], theirs[LEAF]
    yield "region-missing", "A12", "the region is left out", not_issued, [root, zone, instance], leaf
    yield "zone-missing", "A12", "the zone is left out", not_issued, [root, region, instance], leaf
    yield "instance-missing", "A12", "the instance is left out", not_issued, [root, region, zone], leaf
    yield (
        "shuffled",
        "A12",
        "region and zone have changed places",
        "CERTIFICATE_PATH_LENGTH",
        [root, zone, region, instance],
        leaf,
    )
    yield "root-twice", "A12", "the root stands twice", not_issued, [root, root, region, zone, instance], leaf
    yield (
        "instance-twice",
        "A12",
        "the instance stands twice",
        "CERTIFICATE_PATH_LENGTH",
        [root, region, zone, instance, instance],
        leaf,
    )
    yield "leaf-is-root", "A13", "the root in the leaf's place", "LEAF_IS_CA", CHAIN[:-1], root
    yield "leaf-is-instance", "A13", "the instance in the leaf's place", "LEAF_IS_CA", [root, region, zone], instance
    yield "leaf-byte-after", "A2", "a byte follows the leaf", malformed, CHAIN[:-1], leaf + b"\0"
    yield "zone-byte-after", "A2", "a byte follows the zone", malformed, [root, region, zone + b"\0", instance], leaf
    yield "leaf-cut-short", "A2", "the leaf lacks its last byte", malformed, CHAIN[:-1], leaf[:-1]
    yield "leaf-pem", "A25", "the leaf is PEM", malformed, CHAIN[:-1], b"-----BEGIN CERTIFICATE-----"
    yield "leaf-empty-sequence", "A25", "the leaf is an empty sequence", malformed, CHAIN[:-1], b"\x30\x00"


def _defects() -> Iterator[tuple[str, str, str, str, Sequence[Level]]]:
    """Chains that were issued with one wrong field."""
    usage, extension, algorithm = "CERTIFICATE_USAGE", "CERTIFICATE_EXTENSION", "CERTIFICATE_ALGORITHM"
    for depth in (2, 7):
        yield f"length-{depth}", "A12", f"a chain of {depth}", "CHAIN_LENGTH", _levels(depth)
    for p in (ROOT, REGION, ZONE, INSTANCE):
        at = PLACES[p]
        yield (
            f"{at}-not-ca",
            "A13",
            f"the {at} is no authority",
            "CERTIFICATE_NOT_CA",
            changed(p, ca=False, path_length=None),
        )
        yield f"{at}-usage", "A13", f"the {at} may not sign certificates", usage, changed(p, key_cert_sign=False)
    for p in (REGION, LEAF):
        at = PLACES[p]
        yield (
            f"{at}-no-constraints",
            "A13",
            f"the {at} has no basicConstraints",
            extension,
            changed(p, constraints=False),
        )
        yield f"{at}-no-usage", "A13", f"the {at} has no keyUsage", extension, changed(p, usage=False)
    for p in (ROOT, ZONE, LEAF):
        at, extra = PLACES[p], ((UNKNOWN, True),)
        yield f"{at}-critical", "A13", f"the {at} has an unknown critical extension", extension, changed(p, extra=extra)
    names = ((x509.NameConstraints([x509.DNSName("x")], None), True),)
    yield (
        "region-name-constraints",
        "A13",
        "the region has critical name constraints",
        extension,
        changed(REGION, extra=names),
    )
    extended = ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True),)
    yield (
        "leaf-extended-usage",
        "A13",
        "the leaf has a critical extended key usage",
        extension,
        changed(LEAF, extra=extended),
    )
    says = "the zone's basicConstraints are not critical"
    yield "zone-constraints-not-critical", "A13", says, "CERTIFICATE_NOT_CA", changed(ZONE, constraints_critical=False)
    for p, length in ((ROOT, 2), (REGION, 1), (ZONE, 0)):
        says = f"the {PLACES[p]} allows {length} authorities below it, there is one more"
        yield f"{PLACES[p]}-path-length", "A13", says, "CERTIFICATE_PATH_LENGTH", changed(p, path_length=length)
    yield "leaf-ca", "A13", "the leaf is an authority", "LEAF_IS_CA", changed(LEAF, ca=True)
    yield (
        "leaf-signs-certificates",
        "A13",
        "the leaf may sign certificates",
        "LEAF_IS_CA",
        changed(LEAF, key_cert_sign=True),
    )
    yield "leaf-usage", "A13", "the leaf may not sign documents", usage, changed(LEAF, digital_signature=False)
    for p, digest in ((ROOT, SHA256()), (ZONE, SHA256()), (LEAF, SHA256()), (LEAF, SHA512())):
        at, name = PLACES[p], digest.name
        yield f"{at}-{name}", "A14", f"the {at} is signed with {name}", algorithm, changed(p, digest=digest)
    for p in (ROOT, INSTANCE):
        yield f"{PLACES[p]}-p256", "A14", f"the {PLACES[p]} has a key on P-256", algorithm, changed(p, key=P256)
        yield f"{PLACES[p]}-rsa", "A14", f"the {PLACES[p]} has an RSA key", algorithm, changed(p, key=RSA)
    for p in range(5):
        at = PLACES[p]
        yield f"{at}-expired", "A15", f"the {at} expired a second ago", "CERTIFICATE_EXPIRED", changed(p, ends=-SECOND)
        yield (
            f"{at}-too-early",
            "A15",
            f"the {at} becomes valid in a second",
            "CERTIFICATE_NOT_YET_VALID",
            changed(p, starts=SECOND),
        )
    for p in (REGION, INSTANCE, LEAF):
        at, code = PLACES[p], "CERTIFICATE_NOT_ISSUED"
        yield f"{at}-issuer-name", "A12", f"the {at} names another issuer", code, changed(p, issuer_name="stranger")
        yield f"{at}-stranger", "A11", f"the {at} was signed by a stranger", code, changed(p, signed_by_stranger=True)


def _other_leaf_keys() -> Iterator[Case]:
    # The document keeps the sound leaf's signature: only P-384 keys can make one of 96 bytes.
    for name, says, key in (
        ("p256", "a key on P-256", P256),
        ("rsa", "an RSA key", RSA),
        ("ed25519", "an Ed25519 key", ED25519),
    ):
        other = mint(changed(LEAF, key=key))
        raw = SOUND.document(cabundle=other.chain[:-1], certificate=other.chain[LEAF])
        yield Case(
            f"leaf-{name}", "A14", f"the leaf has {says}", raw, _pinned(other), UntrustedChain, "CERTIFICATE_ALGORITHM"
        )


def _respelt() -> Case:
    """A signature that ends in a zero bit still verifies when its BIT STRING calls that bit unused (X.690, 8.6)."""
    for number in count():
        sound = mint(changed(LEAF, starts=-number * SECOND))
        leaf = sound.chain[LEAF]
        if not leaf[-1] & 1:
            break
    size = len(x509.load_der_x509_certificate(leaf).signature)
    raw = sound.document(certificate=leaf[: -size - 1] + b"\x01" + leaf[-size:])
    says = "a second spelling of the leaf's signature, which verifies too"
    return Case("leaf-respelt", "A25", says, raw, _pinned(sound), UntrustedChain, "CERTIFICATE_MALFORMED")


FAMILY = Family(
    "chains",
    "Sound attestation documents whose certificates are wrong in one way; the policy pins the root that they bring, "
    "unless the root is what is wrong. SPEC section 5.2.",
    cases,
)
