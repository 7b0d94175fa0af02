"""The four layers of AIR v1 in order; the only way to a VerifiedReceipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from ephemeral.errors import ReceiptError
from ephemeral.protocol import ED25519_SIGNATURE_BYTES
from ephemeral.trusted.cose import sig_structure
from ephemeral.trusted.ed25519 import SignatureRejected, VerifyingKey
from ephemeral.trusted.receipt.claims import ReceiptClaims, UnverifiedReceipt, claims_from
from ephemeral.trusted.receipt.expectations import ReceiptExpectations, judge
from ephemeral.trusted.receipt.parse import FormError, parse_receipt
from ephemeral.trusted.receipt.schema import PROTECTED, value_faults
from ephemeral.verification import VerificationStep

_LAYERS: Final = {1: "form", 2: "signature", 3: "claims", 4: "expectations"}


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt that this key signed and that says what was expected; `steps` are the checks made."""

    raw: bytes
    claims: ReceiptClaims
    steps: tuple[VerificationStep, ...]


def verify_receipt(raw: bytes, key: VerifyingKey, expected: ReceiptExpectations, *, now: datetime) -> VerifiedReceipt:
    """Verify a receipt under an attested key.

    Layers, each reporting all of its failures before the next is tried:

    1. form: size, one deterministic tagged COSE_Sign1, the fixed header, the closed claims map
    2. signature: Ed25519 over Sig_structure, strictly (no low-order key or nonce point, canonical encodings)
    3. claims: lengths and closed sets of values
    4. expectations: time, and equality with everything the caller knows

    The caller MUST have `key` from a verified attestation document, and decides whether the measurements are allowed.

    Raises:
        ReceiptError: `code` is the first failure, `failures` all of that `layer`, `steps` what passed before.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    steps: list[VerificationStep] = []
    receipt = _form(raw, steps)  # 1
    _signature(receipt, key, steps)  # 2
    claims = _claims(receipt, steps)  # 3
    failures = []
    for name, title, fault in judge(claims, expected, now):  # 4
        if fault is None:
            steps.append(VerificationStep(f"receipt.{name}", title, "{} = {}", (name, getattr(claims, name))))
        else:
            failures.append(fault)
    if failures:
        _fail(4, failures, steps)
    return VerifiedReceipt(raw, claims, tuple(steps))


def _form(raw: bytes, steps: list[VerificationStep]) -> UnverifiedReceipt:
    try:
        receipt = parse_receipt(raw)
    except FormError as error:
        _fail(1, error.faults, steps)
    steps.append(VerificationStep("receipt.form", "Is an AIR v1 receipt", "{} bytes, COSE_Sign1, EdDSA", (len(raw),)))
    return receipt


def _signature(receipt: UnverifiedReceipt, key: VerifyingKey, steps: list[VerificationStep]) -> None:
    if len(receipt.signature) != ED25519_SIGNATURE_BYTES:
        _fail(2, ["BAD_SIG_LENGTH"], steps)
    try:
        key.verify(receipt.signature, sig_structure(PROTECTED, receipt.payload))
    except SignatureRejected:
        _fail(2, ["SIG_FAILED"], steps)
    steps.append(VerificationStep("receipt.signature", "Is signed by the receipt key", "Ed25519 {}", (key.raw,)))


def _claims(receipt: UnverifiedReceipt, steps: list[VerificationStep]) -> ReceiptClaims:
    if failures := [*value_faults(receipt.values)]:
        _fail(3, failures, steps)
    steps.append(VerificationStep("receipt.claims", "Has well-formed claims", "{} claims", (len(receipt.values),)))
    return claims_from(receipt.values)


def _fail(layer: int, failures: Sequence[str], steps: list[VerificationStep]) -> NoReturn:
    error = ReceiptError(
        f"receipt refused at layer {layer} ({_LAYERS[layer]}): {', '.join(failures)}", code=failures[0]
    )
    error.layer, error.failures, error.steps = layer, tuple(failures), tuple(steps)
    raise error
