"""EphemeralML client: verify an enclave, then embed text that nobody else can read.

::

    from ephemeralml import Client, TrustPolicy

    with Client.connect("tcp://gateway:7443", trust=TrustPolicy.load("trust.toml")) as client:
        answer = client.embed(["The patient reports chest pain."])
        answer.vectors   # float32[1, 384]
        answer.receipt   # verified: signed by the attested enclave, over this request and this answer

Zone: the user's machine. Attestation, keys, decryption and receipts are checked here, in this process.
"""

from ephemeral.errors import (
    AttestationError,
    ConfigError,
    DeadlineExceeded,
    EphemeralError,
    EvidenceError,
    FrameRejected,
    MeasurementMismatch,
    Overloaded,
    PolicyError,
    ReceiptError,
    RequestRefused,
    ServiceError,
    SessionError,
    Unavailable,
)
from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import VerifiedReceipt
from ephemeralml.chain import verify_bundle
from ephemeralml.client import Client
from ephemeralml.embeddings import Embeddings
from ephemeralml.policy_source import PolicyFile, SignedPolicyFile
from ephemeralml.report import Report, report_of

__all__ = [
    "AttestationError",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Embeddings",
    "EphemeralError",
    "EvidenceError",
    "FrameRejected",
    "MeasurementMismatch",
    "Overloaded",
    "PolicyError",
    "PolicyFile",
    "ReceiptError",
    "Report",
    "RequestRefused",
    "ServiceError",
    "SessionError",
    "SignedPolicyFile",
    "TrustPolicy",
    "Unavailable",
    "VerifiedEnclave",
    "VerifiedReceipt",
    "report_of",
    "verify_bundle",
]
