"""Chains with exactly one defect: the document, its signature and everything else are sound."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from ephemeral.errors import StaleDocument, UntrustedChain
from ephemeral.trusted.attestation import parse_document, verify_archived_document, verify_enclave
from tests.support.invariants import tally
from tests.support.minting import AT, LEVELS, MINUTE, NONCE, Level, Mint, changed, rsa_key

ROOT, REGION, ZONE, INSTANCE, LEAF = range(5)
PLACES = ("root", "region", "zone", "instance", "leaf")
SECOND = timedelta(seconds=1)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


@pytest.fixture(scope="module")
def mint() -> Mint:
    return Mint()


def refusal(mint: Mint, raw: bytes | None = None) -> str:
    with tally("INV-2", 1), pytest.raises(UntrustedChain) as refused:
        verify_enclave(mint.document() if raw is None else raw, mint.policy, nonce=NONCE, now=AT)
    assert refused.value.detail.isprintable()
    return refused.value.code


def refusal_of(*levels: Level) -> str:
    return refusal(Mint(levels))


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


# --- the root


def test_a_foreign_root_with_the_same_names_is_refused(mint: Mint) -> None:
    assert refusal(mint, Mint().document()) == "ROOT_NOT_PINNED"


def test_a_pinned_root_before_a_foreign_chain_is_refused(mint: Mint) -> None:
    foreign = Mint()
    assert refusal(mint, foreign.document(cabundle=[mint.chain[0], *foreign.chain[1:-1]])) == "CERTIFICATE_NOT_ISSUED"


def test_a_foreign_leaf_under_the_true_chain_is_refused(mint: Mint) -> None:
    assert refusal(mint, Mint().document(cabundle=mint.chain[:-1])) == "CERTIFICATE_NOT_ISSUED"


def test_the_root_itself_as_leaf_is_refused(mint: Mint) -> None:
    assert refusal(mint, mint.document(certificate=mint.chain[ROOT])) == "LEAF_IS_CA"


# --- order and number


def test_of_all_orders_of_the_bundle_only_one_is_accepted(mint: Mint) -> None:
    root, *rest = mint.chain[:-1]
    orders = [list(order) for order in itertools.permutations([root, *rest])]
    accepted = 0
    for order in orders:
        try:
            verify_archived_document(mint.document(cabundle=order), mint.policy.roots)
            accepted += 1
        except UntrustedChain:
            continue
    assert (len(orders), accepted) == (24, 1)


@pytest.mark.parametrize("place", [REGION, ZONE, INSTANCE])
def test_a_missing_certificate_is_refused(mint: Mint, place: int) -> None:
    bundle = [der for index, der in enumerate(mint.chain[:-1]) if index != place]
    assert refusal(mint, mint.document(cabundle=bundle)) == "CERTIFICATE_NOT_ISSUED"


@pytest.mark.parametrize("place", range(1, 5))
def test_an_extra_certificate_is_refused(mint: Mint, place: int) -> None:
    bundle = [*mint.chain[:place], mint.chain[REGION], *mint.chain[place:-1]]
    assert refusal(mint, mint.document(cabundle=bundle)) in {"CERTIFICATE_PATH_LENGTH", "CERTIFICATE_NOT_ISSUED"}


def test_a_root_that_stands_twice_as_its_own_child_is_refused(mint: Mint) -> None:
    assert refusal(mint, mint.document(cabundle=[mint.chain[ROOT], *mint.chain[:-1]])) == "CERTIFICATE_NOT_ISSUED"


@pytest.mark.parametrize("depth", [2, 7])
def test_a_chain_of_another_length_is_refused(depth: int) -> None:
    levels = [Level("root"), *(Level(f"authority {n}") for n in range(depth - 2)), LEVELS[LEAF]]
    assert refusal_of(*levels) == "CHAIN_LENGTH"


@pytest.mark.parametrize("depth", [3, 6])
def test_shorter_and_longer_sound_chains_are_accepted(depth: int) -> None:
    levels = [Level("root"), *(Level(f"authority {n}") for n in range(depth - 2)), LEVELS[LEAF]]
    deep = Mint(levels)
    assert verify_enclave(deep.document(), deep.policy, nonce=NONCE, now=AT)


# --- each certificate


@pytest.mark.parametrize("place", range(1, 5), ids=PLACES[1:])
def test_trailing_bytes_after_a_certificate_are_refused(mint: Mint, place: int) -> None:
    chain = [der + b"\0" * (index == place) for index, der in enumerate(mint.chain)]
    assert refusal(mint, mint.document(cabundle=chain[:-1], certificate=chain[-1])) == "CERTIFICATE_MALFORMED"


def test_trailing_bytes_after_the_root_make_it_another_root(mint: Mint) -> None:
    assert refusal(mint, mint.document(cabundle=[mint.chain[0] + b"\0", *mint.chain[1:-1]])) == "ROOT_NOT_PINNED"


@pytest.mark.parametrize("junk", [b"\x30\x00", b"\x30\x80\x00\x00", b"-----BEGIN CERTIFICATE-----", b"\0"], ids=repr)
def test_bytes_that_are_no_certificate_are_refused(mint: Mint, junk: bytes) -> None:
    assert refusal(mint, mint.document(certificate=junk)) == "CERTIFICATE_MALFORMED"


def test_every_damaged_byte_of_the_leaf_certificate_is_caught(mint: Mint) -> None:
    leaf = mint.chain[LEAF]
    for index in range(len(leaf)):
        damaged = leaf[:index] + bytes([leaf[index] ^ 0x01]) + leaf[index + 1 :]
        refusal(mint, mint.document(certificate=damaged))


def test_a_second_spelling_of_a_certificate_is_refused() -> None:
    # A signature whose last bit is zero still verifies when its BIT STRING calls that bit unused.
    while (mint := Mint()).chain[LEAF][-1] & 1:
        continue
    leaf = mint.chain[LEAF]
    signature = x509.load_der_x509_certificate(leaf).signature
    respelt = leaf[: -len(signature) - 1] + b"\x01" + signature
    x509.load_der_x509_certificate(respelt).verify_directly_issued_by(
        x509.load_der_x509_certificate(mint.chain[INSTANCE])
    )
    assert refusal(mint, mint.document(certificate=respelt)) == "CERTIFICATE_MALFORMED"


DEFECTS: dict[str, tuple[tuple[Level, ...], str]] = {
    **{f"{PLACES[p]} is not a CA": (changed(p, ca=False, path_length=None), "CERTIFICATE_NOT_CA") for p in range(4)},
    **{f"{PLACES[p]} lacks keyCertSign": (changed(p, key_cert_sign=False), "CERTIFICATE_USAGE") for p in range(4)},
    **{
        f"{PLACES[p]} lacks {what}": (changed(p, **{what: False}), "CERTIFICATE_EXTENSION")
        for p in range(5)
        for what in ("constraints", "usage")
    },
    **{f"{PLACES[p]} has a key on P-256": (changed(p, key=p256), "CERTIFICATE_ALGORITHM") for p in range(4)},
    **{f"{PLACES[p]} has an RSA key": (changed(p, key=rsa_key), "CERTIFICATE_ALGORITHM") for p in range(4)},
    **{
        f"{PLACES[p]} is signed with {digest.name}": (changed(p, digest=digest), "CERTIFICATE_ALGORITHM")
        for p in range(5)
        for digest in (SHA256(), SHA512())
    },
    **{
        f"{PLACES[p]} has an unknown critical extension": (changed(p, extra=[(UNKNOWN, True)]), "CERTIFICATE_EXTENSION")
        for p in range(5)
    },
    "region has critical name constraints": (
        changed(REGION, extra=[(x509.NameConstraints([x509.DNSName("x")], None), True)]),
        "CERTIFICATE_EXTENSION",
    ),
    "leaf has a critical extended key usage": (
        changed(LEAF, extra=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True)]),
        "CERTIFICATE_EXTENSION",
    ),
    "zone's basicConstraints are not critical": (changed(ZONE, constraints_critical=False), "CERTIFICATE_NOT_CA"),
    "root allows no authority below": (changed(ROOT, path_length=0), "CERTIFICATE_PATH_LENGTH"),
    "root allows too few authorities": (changed(ROOT, path_length=2), "CERTIFICATE_PATH_LENGTH"),
    "region allows too few authorities": (changed(REGION, path_length=1), "CERTIFICATE_PATH_LENGTH"),
    "zone allows too few authorities": (changed(ZONE, path_length=0), "CERTIFICATE_PATH_LENGTH"),
    "leaf is a CA": (changed(LEAF, ca=True), "LEAF_IS_CA"),
    "leaf may sign certificates": (changed(LEAF, key_cert_sign=True), "LEAF_IS_CA"),
    "leaf lacks digitalSignature": (changed(LEAF, digital_signature=False), "CERTIFICATE_USAGE"),
    **{
        f"{PLACES[p]} names another issuer": (changed(p, issuer_name="stranger"), "CERTIFICATE_NOT_ISSUED")
        for p in range(1, 5)
    },
    **{
        f"{PLACES[p]} is signed by a stranger": (changed(p, signed_by_stranger=True), "CERTIFICATE_NOT_ISSUED")
        for p in range(1, 5)
    },
    **{f"{PLACES[p]} expired": (changed(p, ends=-SECOND), "CERTIFICATE_EXPIRED") for p in range(5)},
    **{f"{PLACES[p]} is not yet valid": (changed(p, starts=SECOND), "CERTIFICATE_NOT_YET_VALID") for p in range(5)},
}


@pytest.mark.parametrize(("levels", "code"), DEFECTS.values(), ids=DEFECTS)
def test_a_chain_with_one_defect_is_refused(levels: tuple[Level, ...], code: str) -> None:
    assert refusal_of(*levels) == code


@pytest.mark.parametrize("key", [p256, rsa_key, ed25519.Ed25519PrivateKey.generate], ids=["P-256", "RSA", "Ed25519"])
def test_a_leaf_with_another_kind_of_key_is_refused(mint: Mint, key: Callable[[], object]) -> None:
    # The document keeps the sound leaf's signature: only P-384 keys can make one of 96 bytes.
    other = Mint(changed(LEAF, key=key))
    raw = mint.document(cabundle=other.chain[:-1], certificate=other.chain[-1])
    with pytest.raises(UntrustedChain) as refused:
        verify_enclave(raw, other.policy, nonce=NONCE, now=AT)
    assert refused.value.code == "CERTIFICATE_ALGORITHM"


def test_a_chain_that_is_weak_throughout_is_refused() -> None:
    weak = [replace(level, key=p256, digest=SHA256()) for level in LEVELS]
    assert refusal_of(*weak[:-1], LEVELS[LEAF]) == "CERTIFICATE_ALGORITHM"


@pytest.mark.parametrize("place", range(5), ids=PLACES)
def test_an_unknown_extension_that_is_not_critical_is_ignored(place: int) -> None:
    tolerant = Mint(changed(place, extra=[(UNKNOWN, False)]))
    assert verify_enclave(tolerant.document(), tolerant.policy, nonce=NONCE, now=AT)


@pytest.mark.parametrize("moment", [-10 * MINUTE, timedelta(hours=3)], ids=["first", "last"])
def test_the_first_and_the_last_second_of_validity_count(moment: timedelta) -> None:
    mint = Mint()
    raw = mint.document(timestamp=int((AT + moment).timestamp() * 1000))
    assert verify_enclave(raw, mint.policy, nonce=NONCE, now=AT + moment)


def test_a_document_dated_before_its_leaf_is_refused() -> None:
    mint = Mint(changed(LEAF, starts=-2 * MINUTE))
    with pytest.raises(StaleDocument) as refused:
        verify_enclave(
            mint.document(timestamp=int((AT - 3 * MINUTE).timestamp() * 1000)), mint.policy, nonce=NONCE, now=AT
        )
    assert refused.value.code == "TIMESTAMP_OUTSIDE_LEAF"


def test_a_chain_accepted_once_is_still_refused_when_it_has_expired(mint: Mint) -> None:
    assert verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT)
    with pytest.raises(UntrustedChain) as refused:
        verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT + timedelta(hours=3, seconds=1))
    assert refused.value.code == "CERTIFICATE_EXPIRED"


def test_a_chain_accepted_once_lends_nothing_to_a_chain_with_the_same_names(mint: Mint) -> None:
    assert verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT)
    forged = Mint(changed(LEAF, signed_by_stranger=True))
    assert refusal(mint, forged.document(cabundle=mint.chain[:-1])) == "CERTIFICATE_NOT_ISSUED"


# --- an independent verifier


def library_accepts(chain: list[bytes]) -> bool:
    """Say what cryptography's own path building, of which the walk uses nothing, makes of [root, …, leaf]."""
    root, *intermediates, leaf = [x509.load_der_x509_certificate(der) for der in chain]
    leaf_policy = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.CRITICAL, None
    )
    authority_policy = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.CRITICAL, None)
        .require_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, None)
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(AT)
        .max_chain_depth(4)
        .extension_policies(ca_policy=authority_policy, ee_policy=leaf_policy)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, intermediates)
    except verification.VerificationError:
        return False
    return True


def test_the_library_accepts_the_chain_that_the_walk_accepts(mint: Mint) -> None:
    assert library_accepts(mint.chain)


def test_the_walk_accepts_no_chain_that_the_library_refuses() -> None:
    refused = [name for name, (levels, _) in DEFECTS.items() if not library_accepts(Mint(levels).chain)]
    # The walk refuses every one of DEFECTS (above); so it is at least as strict. Both must agree on these at the least.
    assert {"leaf expired", "zone is not a CA", "region names another issuer", "leaf is signed by a stranger"} <= set(
        refused
    )


def test_parsing_does_not_look_at_certificates(mint: Mint) -> None:
    assert parse_document(mint.document(certificate=b"junk")).certificate == b"junk"


def test_sha384_is_the_only_hash_of_a_sound_chain(mint: Mint) -> None:
    hashes = {x509.load_der_x509_certificate(der).signature_hash_algorithm.name for der in mint.chain}
    assert hashes == {SHA384().name}
