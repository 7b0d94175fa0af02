"""The types that mean "verified"; only ``verify`` makes them.

An id of a document is taken over its signed payload, never over the signature: ECDSA signatures are malleable, and
genuine documents come with either form of s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ephemeral.trusted.attestation.binding import KmsBinding, SessionBinding
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.policy import Measurements, RootOfTrust
from ephemeral.verification import VerificationStep


@dataclass(frozen=True, slots=True)
class ProvenDocument:
    """What a genuine document says; `raw` is as received, `payload_sha256` is its id."""

    raw: bytes
    payload_sha256: bytes
    module_id: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    root: RootOfTrust
    steps: tuple[VerificationStep, ...]

    @property
    def security_mode(self) -> Literal["production", "evaluation"]:
        """Whether hardware vouches for it, or a simulated root."""
        return "evaluation" if self.root.evaluation else "production"


@dataclass(frozen=True, slots=True)
class VerifiedDocument(ProvenDocument):
    """A genuine document made now; only `verify_document` makes one. What it says was not yet held against a policy."""


@dataclass(frozen=True, slots=True)
class ArchivedDocument(ProvenDocument):
    """A document that was genuine when it was made; it says nothing about now and opens no session."""


@dataclass(frozen=True, slots=True)
class VerifiedEnclave:
    """An enclave that proved, now, to run an accepted build and to hold these keys."""

    document: VerifiedDocument
    measurements: Measurements
    receipt_key: VerifyingKey
    binding: SessionBinding
    steps: tuple[VerificationStep, ...]

    @property
    def security_mode(self) -> Literal["production", "evaluation"]:
        """Whether hardware vouches for it, or a simulated root."""
        return self.document.security_mode


@dataclass(frozen=True, slots=True)
class ArchivedEnclave:
    """An enclave that proved, back then, to run a build that is accepted today and to hold these keys."""

    document: ArchivedDocument
    measurements: Measurements
    receipt_key: VerifyingKey
    binding: SessionBinding
    steps: tuple[VerificationStep, ...]

    @property
    def security_mode(self) -> Literal["production", "evaluation"]:
        """Whether hardware vouched for it, or a simulated root."""
        return self.document.security_mode


@dataclass(frozen=True, slots=True)
class VerifiedRecipient:
    """An enclave that proved, now, to hold the private half of this RSA key, and asks for one manifest's data key."""

    document: VerifiedDocument
    rsa_public_key_spki: bytes
    binding: KmsBinding
    steps: tuple[VerificationStep, ...]
