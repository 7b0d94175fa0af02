"""The CMS we make is laid out as KMS lays it out, and other people's software opens it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ephemeral_devstack.cms import seal_for_recipient

KMS_VECTORS = Path(os.environ.get("EPHEMERALML_VECTORS", Path(__file__).parents[3] / "shared" / "vectors")) / "kms"
PRIMITIVE_SECRETS = (0x04, 0x80)  # encrypted key, IV, content chunks; recipient's key identifier


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def spki(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def masked(ber: bytes) -> bytes:
    """Overwrite what differs between two answers with zeros, keeping every tag and length byte."""
    out, at = bytearray(ber), 0
    while at < len(ber):
        tag, length, at = ber[at], ber[at + 1], at + 2
        if length > 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(ber[at : at + size], "big"), at + size
        if tag in PRIMITIVE_SECRETS:
            out[at : at + length] = bytes(length)
        if not tag & 0x20:
            at += length
    return bytes(out)


@pytest.mark.vectors
def test_layout_equals_that_of_a_genuine_kms_answer(key: rsa.RSAPrivateKey) -> None:
    genuine = KMS_VECTORS / "edgebit.ber"
    if not genuine.is_file():
        pytest.skip("1 KMS vector is not there: set EPHEMERALML_VECTORS")
    assert masked(seal_for_recipient(bytes(32), spki(key))) == masked(genuine.read_bytes())


@pytest.mark.parametrize("size", [0, 1, 15, 16, 32, 984, 999, 4096])
def test_openssl_opens_it(key: rsa.RSAPrivateKey, tmp_path: Path, size: int) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("1 independent oracle is not there: the openssl binary")
    plaintext = os.urandom(size)
    (tmp_path / "cms.ber").write_bytes(seal_for_recipient(plaintext, spki(key)))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    opened = subprocess.run(
        [openssl, "cms", "-decrypt", "-inform", "DER", "-in", tmp_path / "cms.ber", "-inkey", tmp_path / "key.pem"],
        capture_output=True,
        check=True,
    )
    assert opened.stdout == plaintext


def test_every_answer_has_its_own_key_and_iv(key: rsa.RSAPrivateKey) -> None:
    first, second = (seal_for_recipient(b"the same", spki(key)) for _ in range(2))
    assert first[-30:] != second[-30:]


def test_recipient_key_that_is_not_rsa_is_refused() -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(ValueError, match="not RSA"):
        seal_for_recipient(b"x", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
