"""AIR v1 receipts: what ran, on what, with what result, signed inside the enclave and checked offline.

AIR (Attested Inference Receipt) v1 is a frozen public profile of CWT (RFC 8392) and EAT (RFC 9711) in COSE_Sign1
(RFC 9052). ``schema`` holds its claims, ``issue`` signs, ``parse`` reads the form (layer 1; its short way is
``template``), ``verify`` checks the signature, the claims and what the caller expects (layers 2 to 4). A receipt that
fails raises one ReceiptError with every failure of the first layer that failed.
"""

from ephemeral.trusted.receipt.claims import EnclaveMeasurements, ReceiptClaims
from ephemeral.trusted.receipt.expectations import ReceiptExpectations
from ephemeral.trusted.receipt.issue import Answered, ReceiptDraft, issue_receipt
from ephemeral.trusted.receipt.verify import VerifiedReceipt, verify_receipt

__all__ = [
    "Answered",
    "EnclaveMeasurements",
    "ReceiptClaims",
    "ReceiptDraft",
    "ReceiptExpectations",
    "VerifiedReceipt",
    "issue_receipt",
    "verify_receipt",
]
