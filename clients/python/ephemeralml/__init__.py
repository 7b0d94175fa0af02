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
    FrameRejected,
    MeasurementMismatch,
    Overloaded,
    ReceiptError,
    RequestRefused,
    ServiceError,
    SessionError,
    Unavailable,
)
from ephemeral.trusted.attestation import VerifiedEnclave
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import VerifiedReceipt
from ephemeralml.client import Client
from ephemeralml.embeddings import Embeddings

__all__ = [
    "AttestationError",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Embeddings",
    "EphemeralError",
    "FrameRejected",
    "MeasurementMismatch",
    "Overloaded",
    "ReceiptError",
    "RequestRefused",
    "ServiceError",
    "SessionError",
    "TrustPolicy",
    "Unavailable",
    "VerifiedEnclave",
    "VerifiedReceipt",
]
