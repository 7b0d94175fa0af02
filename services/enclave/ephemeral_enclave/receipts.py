"""Receipts for answers: every claim is measured here and now, or absent."""

import hashlib
import resource
import secrets
import time

from ephemeral.trusted.receipt import ReceiptClaims, issue_receipt
from ephemeral_enclave.boot import BootedEnclave
from ephemeral_enclave.model import LoadedModel
from ephemeral_enclave.sessions import Session

ISSUER = "ephemeralml"
_KIB_PER_MIB = 1024


class ReceiptIssuer:
    """Signs AIR v1 receipts with the attested receipt key."""

    def __init__(self, enclave: BootedEnclave) -> None:
        self._key = enclave.keys.receipt
        self._measured = enclave.measured
        self._policy = f"enclave-config sha256:{enclave.config.digest.hex()}"

    def issue(
        self, session: Session, sequence: int, model: LoadedModel, request: bytes, result: bytes, compute_us: int
    ) -> bytes:
        """Return the receipt of one answer: `request` and `result` are the exact sealed messages."""
        manifest = model.verified.manifest
        claims = ReceiptClaims(
            iss=ISSUER,
            iat=int(time.time()),
            cti=secrets.token_bytes(16),
            model_id=manifest.model_id,
            model_version=str(manifest.version),
            model_hash=model.verified.digest,
            model_hash_scheme="sha256-manifest",
            request_hash=hashlib.sha256(request).digest(),
            response_hash=hashlib.sha256(result).digest(),
            attestation_doc_hash=session.document_digest,
            measurements=self._measured.registers,
            policy_version=self._policy,
            sequence_number=sequence,
            execution_time_ms=compute_us // 1000,
            memory_peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MIB,
            security_mode=self._measured.security_mode,
            eat_nonce=session.nonce,
        )
        return issue_receipt(claims, self._key)
