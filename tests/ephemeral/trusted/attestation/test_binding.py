"""A label of `user_data` is a number: nothing that only equals one stands for it."""

import pytest

from ephemeral.errors import BindingMismatch
from ephemeral.trusted.attestation import KmsBinding, SessionBinding
from ephemeral.trusted.cbor import encode
from tests.support.minting import BINDING


def test_true_does_not_pass_for_the_label_one() -> None:
    session = BINDING.encode()
    assert SessionBinding.parse(session) == BINDING
    label, key = b"\x01", b"\x58\x20" + BINDING.identity_key.raw
    respelt = session.replace(label + key, b"") + b"\xf5" + key  # in its deterministic place: last
    with pytest.raises(BindingMismatch) as refused:
        SessionBinding.parse(respelt)
    assert refused.value.code == "MALFORMED_BINDING"


def test_false_does_not_pass_for_the_label_of_the_purpose() -> None:
    for purpose in (0, False):
        raw = encode({1: b"\x05" * 32, purpose: "ephemeralml/kms/v1"})
        if purpose is False:
            with pytest.raises(BindingMismatch) as refused:
                KmsBinding.parse(raw)
            assert refused.value.code == "MALFORMED_BINDING"
        else:
            assert KmsBinding.parse(raw) == KmsBinding(b"\x05" * 32)
