"""Our HMAC and HKDF-Expand say what the libraries' do."""

import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from ephemeral.trusted.hkdf import expand, hmac_sha256


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_hmac_is_that_of_the_standard_library(key: bytes, message: bytes) -> None:
    assert hmac_sha256(key, message) == hmac.digest(key, message, "sha256")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64])
def test_hmac_pads_a_key_of_every_length(size: int) -> None:
    assert hmac_sha256(b"\xff" * size, b"m") == hmac.digest(b"\xff" * size, b"m", "sha256")


def test_rfc_4231_case_2() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex() == expected


def test_a_key_longer_than_a_block_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="64"):
        hmac_sha256(bytes(65), b"")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(1, 32))
def test_expand_is_that_of_cryptography(secret: bytes, label: bytes, length: int) -> None:
    assert expand(secret, label, length) == HKDFExpand(SHA256(), length, label).derive(secret)


@pytest.mark.parametrize("length", [-1, 0, 33])
def test_more_than_one_block_is_our_own_bug(length: int) -> None:
    with pytest.raises(ValueError, match="block"):
        expand(bytes(32), b"", length)
