"""Receipts, signed in the enclave."""

from ephemeral.trusted.cbor import encode_as_ordered
from ephemeral.trusted.cose import encode_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.receipt.claims import ReceiptClaims, by_label
from ephemeral.trusted.receipt.schema import PROTECTED, form_faults, value_faults


def issue_receipt(claims: ReceiptClaims, key: SigningKey) -> bytes:
    """Sign `claims` with the receipt key: a tagged COSE_Sign1 over deterministic CBOR, byte for byte AIR v1.

    Raises:
        ValueError: a claim that every verifier would refuse; the text lists the codes.
    """
    by_name = claims.by_name()
    values = by_label(by_name)
    if faults := [*form_faults(values)] or [*value_faults(by_name)]:
        raise ValueError(f"not a receipt: {', '.join(faults)}")
    payload = encode_as_ordered(values)
    return encode_sign1(PROTECTED, payload, key.sign(sig_structure(PROTECTED, payload)), tagged=True)
