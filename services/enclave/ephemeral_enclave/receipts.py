"""Receipts for answers: every claim is measured here and now, or absent."""

import hashlib
import resource
import secrets
import time

from ephemeral.trusted.receipt import Answered, ReceiptClaims, ReceiptDraft
from ephemeral.trusted.receipt.schema import CTI_BYTES
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
        answered = Answered(
            iat=int(time.time()),
            cti=secrets.token_bytes(CTI_BYTES),
            request_hash=hashlib.sha256(request).digest(),
            response_hash=hashlib.sha256(result).digest(),
            sequence_number=sequence,
            execution_time_ms=compute_us // 1000,
            memory_peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MIB,
        )
        model_id = model.verified.manifest.model_id
        draft = session.drafts.get(model_id)
        if draft is None:  # a session's models never change
            draft = session.drafts[model_id] = ReceiptDraft(self._claims(session, model, answered))
        return draft.issue(answered, self._key)

    def _claims(self, session: Session, model: LoadedModel, answered: Answered) -> ReceiptClaims:
        manifest = model.verified.manifest
        return ReceiptClaims(
            **answered._asdict(),
            iss=ISSUER,
            model_id=manifest.model_id,
            model_version=str(manifest.version),
            model_hash=model.verified.digest,
            model_hash_scheme="sha256-manifest",
            attestation_doc_hash=session.document_digest,
            measurements=self._measured.registers,
            policy_version=self._policy,
            security_mode=self._measured.security_mode,
            eat_nonce=session.nonce,
        )
