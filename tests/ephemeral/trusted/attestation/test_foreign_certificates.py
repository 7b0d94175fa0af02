"""Every certificate of NIST's PKITS and of cryptography's own vectors: none ever passes as part of a Nitro chain."""

import re
import warnings
from base64 import b64decode
from binascii import Error as BadBase64
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509

from ephemeral.errors import UntrustedChain
from ephemeral.trusted.attestation.chain import walk_chain
from tests.support.invariants import tally
from tests.support.raw_certificates import AT, Authorities

VECTORS = Path(cryptography_vectors.__file__).parent / "x509"
PKITS = sorted((VECTORS / "PKITS_data" / "certs").glob("*.crt"))
OTHERS = sorted(path for path in VECTORS.rglob("*") if path.suffix in {".pem", ".der"} and path.is_file())
PKITS_VALID = datetime(2015, 1, 1, tzinfo=UTC)
SOUND = Authorities().chain()
PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----(.*?)-----END", re.DOTALL)


def contents(path: Path) -> Iterator[bytes]:
    """Yield the file itself and, if it is text, each certificate in it."""
    raw = path.read_bytes()
    yield raw
    for body in PEM.findall(raw):
        try:
            yield b64decode(body)
        except BadBase64:
            continue


def refusals(foreign: bytes) -> Iterator[str]:
    """Put the bytes into each place of a sound chain."""
    for place in range(len(SOUND)):
        chain = [*SOUND[:place], foreign, *SOUND[place + 1 :]]
        with pytest.raises(UntrustedChain) as refused:
            walk_chain(chain[:-1], chain[-1], AT)
        assert refused.value.detail.isprintable()
        yield refused.value.code


@pytest.mark.parametrize(("paths", "least"), [(PKITS, 400), (OTHERS, 200)], ids=["PKITS", "cryptography"])
def test_no_foreign_certificate_is_accepted_in_any_place_of_a_sound_chain(paths: list[Path], least: int) -> None:
    assert len(paths) >= least
    with tally("INV-10") as tried:
        for path in paths:
            for foreign in contents(path):
                tried.case(len(SOUND))
                assert "" not in set(refusals(foreign)), path.name


def test_no_chain_of_pkits_is_a_nitro_chain_even_under_its_own_root() -> None:
    certificates = defaultdict(list)
    leaves = []
    for path in PKITS:
        raw = path.read_bytes()
        try:
            with warnings.catch_warnings(action="ignore"):  # a serial number of zero
                parsed = x509.load_der_x509_certificate(raw)
        except ValueError:  # DSA parameters inherited: the library cannot read it, and so nobody can chain to it
            continue
        certificates[parsed.subject.public_bytes()].append((parsed.issuer.public_bytes(), raw))
        leaves.append((parsed.issuer.public_bytes(), raw))
    walked = 0
    with tally("INV-2") as tried:
        for issuer, leaf in leaves:
            for chain in upwards(issuer, [leaf], certificates):
                tried.case()
                walked += 1
                with pytest.raises(UntrustedChain) as refused:
                    walk_chain(chain[:-1], chain[-1], PKITS_VALID)
                assert refused.value.code in {"CERTIFICATE_ALGORITHM", "CERTIFICATE_MALFORMED", "CHAIN_LENGTH"}
    assert walked > 400


def upwards(
    issuer: bytes, chain: list[bytes], certificates: dict[bytes, list[tuple[bytes, bytes]]]
) -> Iterator[list[bytes]]:
    """Yield the chain, root first, completed in every way that the names allow."""
    for above, raw in certificates[issuer]:
        longer = [raw, *chain]
        if above == issuer or len(longer) == 6:
            yield longer
        else:
            yield from upwards(above, longer, certificates)
