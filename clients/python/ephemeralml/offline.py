"""Checking a receipt years later, with nothing but two files and a policy: no network, no enclave."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ephemeral.errors import ReceiptError
from ephemeral.trusted.attestation import ArchivedEnclave, verify_archived_enclave
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import ReceiptExpectations, VerifiedReceipt, verify_receipt
from ephemeral.verification import VerificationStep
from ephemeralml.session import attested_measurements

_VERSION_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class OfflineVerdict:
    """A receipt that holds, the enclave whose attested key signed it, and the steps that say so."""

    receipt: VerifiedReceipt
    enclave: ArchivedEnclave
    steps: tuple[VerificationStep, ...]


def verify_offline(receipt: bytes, document: bytes, trust: TrustPolicy, now: datetime | None = None) -> OfflineVerdict:
    """Close the chain from a receipt to a pinned root.

    1. the document's chain and signature hold at the document's own time
    2. its registers are one allowed tuple, and it is a session document with a receipt key
    3. the receipt is signed by that key and names that document and those registers
    4. the policy, if it names models, accepts the one that ran

    Raises:
        AttestationError: step 1, 2 or 4.
        ReceiptError: step 3.
    """
    enclave = verify_archived_enclave(document, trust)  # 1, 2
    evidence = enclave.document
    expected = ReceiptExpectations(
        attestation_doc_hash=evidence.payload_sha256,
        measurements=attested_measurements(evidence.pcrs),
        nonce=evidence.nonce,
        security_mode=enclave.security_mode,
        accept_evaluation=enclave.security_mode == "evaluation",
    )
    try:
        verified = verify_receipt(receipt, enclave.receipt_key, expected, now=now or datetime.now(UTC))  # 3
    except ReceiptError as error:
        error.steps = (*enclave.steps, *error.steps)
        raise
    trust.accept_model(verified.claims.model_id, _version(verified), verified.claims.model_hash)  # 4
    return OfflineVerdict(verified, enclave, (*enclave.steps, *verified.steps))


def _version(receipt: VerifiedReceipt) -> int:
    """Our receipts carry the manifest's version in decimal; anything else is no version that a minimum could admit."""
    text = receipt.claims.model_version
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _VERSION_DIGITS else 0
