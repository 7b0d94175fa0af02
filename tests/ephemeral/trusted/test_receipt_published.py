"""AIR v1 receipts that others published: what they say of them, and our issuer's bytes against theirs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ephemeral.errors import ReceiptError
from ephemeral.trusted.ed25519 import SigningKey, VerifyingKey
from ephemeral.trusted.receipt import (
    EnclaveMeasurements,
    ReceiptClaims,
    ReceiptExpectations,
    issue_receipt,
    verify_receipt,
)
from tests.support.vectors import vector_files

Values = dict[str, Any]


@pytest.mark.parametrize("path", vector_files("air-v1/invalid", "*.json", expected=4))
def test_published_invalid_receipt_fails_with_the_code_it_names(path: Path) -> None:
    vector = json.loads(path.read_text())
    key = VerifyingKey(bytes.fromhex(vector.get("public_key_hex") or vector["wrong_public_key_hex"]))
    policy = vector.get("verify_policy", {})
    nonce = bytes.fromhex(policy["expected_nonce_hex"]) if "expected_nonce_hex" in policy else None
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(
            bytes.fromhex(vector["receipt_hex"]), key, ReceiptExpectations(nonce=nonce), now=datetime.now(UTC)
        )
    failure = vector["expected_failure"]
    assert (caught.value.layer, caught.value.failures) == (failure["layer"], (failure["code"],))


@pytest.mark.parametrize("path", vector_files("air-v1/valid", "*.json", expected=1))
def test_published_valid_receipt_passes_and_our_own_issuer_makes_it_byte_for_byte(path: Path) -> None:
    vector = json.loads(path.read_text())
    raw, claims = bytes.fromhex(vector["receipt_hex"]), published_claims(vector["claims"])
    key = SigningKey.from_seed(bytes.fromhex(vector["signing_key_seed_hex"]))
    receipt = verify_receipt(raw, key.verifying_key, ReceiptExpectations(), now=datetime.now(UTC))
    assert receipt.claims == claims
    assert issue_receipt(claims, key) == raw


def published_claims(claims: Values) -> ReceiptClaims:
    values = unhexed(claims)
    del values["eat_profile"]
    return ReceiptClaims(measurements=EnclaveMeasurements(**unhexed(values.pop("enclave_measurements"))), **values)


def unhexed(values: Values) -> Values:
    return {
        name.removesuffix("_hex"): bytes.fromhex(value) if value and name.endswith("_hex") else value
        for name, value in values.items()
    }
