"""What is cut out of a certificate is what the library reads; what is remembered of authorities proves nothing new."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.attestation import parse_document
from ephemeral.trusted.attestation.certificate import parse_certificate
from ephemeral.trusted.attestation.chain import (
    _check_authorities_issued,
    _check_issued,
    _parse_authorities,
    walk_chain,
)
from ephemeral.trusted.p384 import SPKI_PREFIX, P384Key
from tests.support.minting import AT, LEVELS, MINUTE, Level, Mint, changed
from tests.support.vectors import vector_files

DOCUMENTS = vector_files("nitro", "*.cbor", expected=11)


def assert_cut_as_read(der: bytes) -> None:
    read, cut = x509.load_der_x509_certificate(der), parse_certificate(der, "it").parts
    assert cut.content == read.tbs_certificate_bytes
    assert cut.signature == read.signature
    assert (cut.issuer, cut.subject) == (read.issuer.public_bytes(), read.subject.public_bytes())
    assert cut.public_key == read.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert cut.public_key.startswith(SPKI_PREFIX)
    assert cut.content_algorithm == cut.algorithm == bytes.fromhex("300a06082a8648ce3d040303")


def test_the_parts_of_a_minted_certificate_are_those_the_library_reads() -> None:
    long_name = "n" * 64
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x04\x03abc" * 20)
    for levels in (LEVELS, (Level(long_name, extra=[(unknown, False)]), *LEVELS[1:])):
        for der in Mint(levels).chain:
            assert_cut_as_read(der)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_parts_of_a_genuine_certificate_are_those_the_library_reads(path: Path) -> None:
    document = parse_document(path.read_bytes())
    for der in (*document.cabundle, document.certificate):
        assert_cut_as_read(der)


def code_of(mint: Mint, bundle: list[bytes] | None = None, leaf: bytes | None = None, after: timedelta = MINUTE) -> str:
    try:
        walk_chain(bundle or mint.chain[:-1], leaf or mint.chain[-1], AT + after)
    except UntrustedChain as error:
        return error.code
    return "sound"


@pytest.mark.parametrize("place", range(4))
def test_a_remembered_authority_that_expired_since_is_refused(place: int) -> None:
    mint = Mint(changed(place, ends=timedelta(minutes=5)))
    assert code_of(mint) == "sound"
    assert code_of(mint, after=timedelta(minutes=6)) == "CERTIFICATE_EXPIRED"
    assert code_of(mint, after=timedelta(minutes=-11)) == "CERTIFICATE_NOT_YET_VALID"
    assert code_of(mint) == "sound"


def test_a_leaf_that_the_remembered_authorities_did_not_issue_is_refused() -> None:
    mint, foreign = Mint(), Mint()
    assert code_of(mint) == "sound"
    assert code_of(mint, leaf=foreign.chain[-1]) == "CERTIFICATE_NOT_ISSUED"
    damaged = bytearray(mint.chain[-1])
    damaged[-1] ^= 1
    assert code_of(mint, leaf=bytes(damaged)) == "CERTIFICATE_NOT_ISSUED"


@pytest.mark.parametrize("place", range(1, 4))
def test_authorities_that_differ_in_a_byte_from_remembered_ones_are_strangers(place: int) -> None:
    mint = Mint()
    assert code_of(mint) == "sound"
    bundle = mint.chain[:-1]
    bundle[place] = bundle[place][:-1] + bytes([bundle[place][-1] ^ 1])
    for _ in range(2):  # a refusal is not remembered as anything else
        assert code_of(mint, bundle) == "CERTIFICATE_NOT_ISSUED"
    assert code_of(mint) == "sound"


def test_a_remembered_bundle_verifies_the_leaf_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    mint, verified = Mint(), []
    verify = P384Key.verify_der
    monkeypatch.setattr(P384Key, "verify_der", lambda *args: (verified.append(args[0].point), verify(*args))[1])
    assert code_of(mint) == "sound"
    assert len(verified) == 4
    assert code_of(mint) == "sound"
    assert len(verified) == 5
    assert verified[4] == verified[3]  # the key that issued the leaf


def test_what_is_remembered_is_bounded() -> None:
    for _ in range(20):
        assert code_of(Mint()) == "sound"
    assert _parse_authorities.cache_info().currsize <= 16
    assert _check_authorities_issued.cache_info().currsize <= 16


def test_an_algorithm_outside_of_the_signature_that_differs_from_the_one_inside_is_refused() -> None:
    chain = Mint().chain
    issuer, leaf = parse_certificate(chain[-2], "issuer"), parse_certificate(chain[-1], "leaf")
    private = ec.generate_private_key(ec.SECP384R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    issuer = issuer._replace(key=P384Key(point))
    parts = leaf.parts._replace(signature=private.sign(leaf.parts.content, ec.ECDSA(SHA384())))
    _check_issued(leaf._replace(parts=parts), issuer)
    sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    with pytest.raises(UntrustedChain) as refused:
        _check_issued(leaf._replace(parts=parts._replace(content_algorithm=sha256)), issuer)
    assert refused.value.code == "CERTIFICATE_NOT_ISSUED"
