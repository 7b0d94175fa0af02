"""A draft issues what issue_receipt() would, and refuses what it would."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from ephemeral.trusted.receipt import Answered, ReceiptClaims, ReceiptDraft, issue_receipt
from tests.ephemeral.trusted.test_receipt import CLAIMS, KEY
from tests.ephemeral.trusted.test_receipt_template import issued


def answered(claims: ReceiptClaims) -> Answered:
    return Answered(*[getattr(claims, name) for name in Answered._fields])


@given(issued, issued)
def test_a_receipt_of_a_draft_is_the_same_bytes(first: ReceiptClaims, later: ReceiptClaims) -> None:
    """A draft made of one receipt carries nothing of it into another."""
    expected = issue_receipt(replace(first, **answered(later)._asdict()), KEY)
    assert ReceiptDraft(first).issue(answered(later), KEY) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iat", 0),
        ("iat", -1),
        ("iat", 2**64),
        ("iat", True),
        ("cti", bytes(16)),
        ("cti", b"\1" * 15),
        ("cti", "a" * 16),
        ("request_hash", bytearray(32)),
        ("response_hash", [1] * 32),
        ("request_hash", b"\1" * 31),
        ("response_hash", b"\1" * 33),
        ("sequence_number", -1),
        ("sequence_number", True),
        ("execution_time_ms", 2**64),
        ("execution_time_ms", 1.0),
        ("memory_peak_mb", -1),
    ],
)
def test_a_draft_never_issues_what_a_verifier_would_refuse(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="not a receipt") as expected:
        issue_receipt(replace(CLAIMS, **{name: value}), KEY)
    with pytest.raises(ValueError, match="not a receipt") as caught:
        ReceiptDraft(CLAIMS).issue(answered(CLAIMS)._replace(**{name: value}), KEY)
    assert str(caught.value) == str(expected.value)


def test_a_draft_of_refused_claims_is_none() -> None:
    with pytest.raises(ValueError, match="BAD_HASH_LENGTH:model_hash"):
        ReceiptDraft(replace(CLAIMS, model_hash=b"\1" * 31))
