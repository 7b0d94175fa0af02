"""Nitro attestation: bytes become a verified type, or an AttestationError that names the first check that failed.

::

    document.py    bytes -> AttestationDocument             well-formed, nothing proven
    chain.py       certificates -> TrustedLeaf              from a pinned root, in order
    signature.py   ES384
    binding.py     user_data -> SessionBinding, KmsBinding
    verify.py      all of it, in one order -> the types of verified.py; each check leaves a step (steps.py)
"""

from ephemeral.trusted.attestation.binding import KmsBinding, SessionBinding, build_digest
from ephemeral.trusted.attestation.document import AttestationDocument, parse_document
from ephemeral.trusted.attestation.verified import (
    ArchivedDocument,
    ArchivedEnclave,
    VerifiedDocument,
    VerifiedEnclave,
    VerifiedRecipient,
)
from ephemeral.trusted.attestation.verify import (
    verify_archived_document,
    verify_archived_enclave,
    verify_document,
    verify_enclave,
    verify_recipient,
)
from ephemeral.verification import VerificationStep

__all__ = [
    "ArchivedDocument",
    "ArchivedEnclave",
    "AttestationDocument",
    "KmsBinding",
    "SessionBinding",
    "VerificationStep",
    "VerifiedDocument",
    "VerifiedEnclave",
    "VerifiedRecipient",
    "build_digest",
    "parse_document",
    "verify_archived_document",
    "verify_archived_enclave",
    "verify_document",
    "verify_enclave",
    "verify_recipient",
]
