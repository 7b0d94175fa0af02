"""The attested recipient of an answer (AWS KMS Developer Guide, "Cryptographic attestation support").

The document is verified by the product's own verifier. Its measurements become condition keys, its public key is the
only one the answer is encrypted to.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ephemeral.errors import AttestationError
from ephemeral.protocol import DOCUMENT_MAX_AGE
from ephemeral.trusted.attestation import VerifiedDocument, verify_document
from ephemeral.trusted.policy import RootOfTrust
from ephemeral_devstack.cms import seal_for_recipient
from ephemeral_devstack.kms.refusal import invalid
from ephemeral_devstack.kms.request import Parameters

_ALGORITHM: Final = "RSAES_OAEP_SHA_256"
_RSA_BITS: Final = 2_048
_MAX_DOCUMENT_BYTES: Final = 262_144  # RecipientInfo$AttestationDocument
_CONDITION: Final = "kms:RecipientAttestation:"


@dataclass(frozen=True, slots=True)
class Recipient:
    """An enclave whose document verified, and the RSA-2048 key in it."""

    document: VerifiedDocument
    spki_der: bytes

    @classmethod
    def verify(cls, parameters: Parameters, roots: Collection[RootOfTrust], now: datetime) -> Self:
        """Verify the `Recipient` structure of a call.

        Raises:
            Refusal: ValidationException, whichever check failed.
        """
        if parameters.text("KeyEncryptionAlgorithm") != _ALGORITHM:
            raise invalid(f"KeyEncryptionAlgorithm must be {_ALGORITHM}")
        raw = parameters.blob("AttestationDocument", most=_MAX_DOCUMENT_BYTES)
        try:
            document = verify_document(raw, roots, now=now, max_age=DOCUMENT_MAX_AGE)
        except AttestationError as error:
            raise invalid(f"the attestation document was refused: {error.code}: {error.detail}") from None
        return cls(document, _rsa_key(document.public_key))

    def seal(self, plaintext: bytes) -> bytes:
        """Return the CMS that only the holder of the document's key can open."""
        return seal_for_recipient(plaintext, self.spki_der)

    def condition_keys(self) -> dict[str, frozenset[str]]:
        """Return the condition keys that the document's measurements set.

        A debug enclave has zero measurements and sets none; a register nobody extended sets none either.
        """
        pcrs = self.document.pcrs
        if any(not any(pcrs.get(index, b"")) for index in range(3)):
            return {}
        keys = {f"{_CONDITION}PCR{index}": frozenset({value.hex()}) for index, value in pcrs.items() if any(value)}
        return {f"{_CONDITION}ImageSha384": frozenset({pcrs[0].hex()}), **keys}

    def audit(self) -> Mapping[str, object]:
        """Return what the audit log keeps of the document."""
        return {
            "module_id": self.document.module_id,
            "document_sha256": self.document.payload_sha256.hex(),
            "image_sha384": self.document.pcrs.get(0, b"").hex(),
        }


def _rsa_key(spki_der: bytes | None) -> bytes:
    try:
        key = load_der_public_key(spki_der or b"")
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if spki_der is None or not isinstance(key, RSAPublicKey) or key.key_size != _RSA_BITS:
        raise invalid(f"the attestation document must carry an RSA-{_RSA_BITS} public key (SubjectPublicKeyInfo, DER)")
    return spki_der
