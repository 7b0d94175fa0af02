"""Checking kept evidence years later, with nothing but files and a policy: no network, no enclave.

Every function returns what it verified together with its Report, or raises an error that carries the report up to the
check that failed (`report_of`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hmac import compare_digest
from typing import Final

from ephemeral.errors import BindingMismatch
from ephemeral.protocol import DOCUMENT_MAX_AGE
from ephemeral.trusted.attestation import (
    ArchivedDocument,
    ArchivedEnclave,
    VerifiedDocument,
    verify_archived_document,
    verify_archived_enclave,
    verify_document,
    verify_enclave,
)
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1, TrustPolicy, refuse_debug
from ephemeral.trusted.receipt import ReceiptExpectations, VerifiedReceipt, verify_receipt
from ephemeral.verification import VerificationStep
from ephemeralml.evidence import (
    BINDING,
    BUILD,
    DOCUMENT,
    MANIFEST,
    ORIGIN,
    RECEIPT,
    add_limits,
    claims_of,
    model_of,
    prove_answer,
    skip_messages,
    skip_nonce,
    take_manifest,
    take_model,
    take_receipt,
)
from ephemeralml.examination import Examination
from ephemeralml.report import Report

_NO_POLICY: Final = "not compared: no policy was given"


class Scope(Enum):
    """How much of a document is asked about."""

    ORIGIN = "who signed it"
    BUILD = "who signed it, and which build runs there"
    SESSION = "who signed it, which build runs there, and which keys it holds for sessions with clients"


_REQUIRED: Final = {Scope.ORIGIN: ORIGIN, Scope.BUILD: BUILD, Scope.SESSION: (*BUILD, *BINDING)}


@dataclass(frozen=True, slots=True)
class OfflineVerdict:
    """A receipt that holds, the enclave whose attested key signed it, and the record that says so."""

    receipt: VerifiedReceipt
    enclave: ArchivedEnclave
    steps: tuple[VerificationStep, ...]
    report: Report


def audit_document(
    raw: bytes,
    trust: TrustPolicy | None,
    scope: Scope = Scope.SESSION,
    *,
    archived: bool,
    nonce: bytes | None = None,
    now: datetime | None = None,
) -> Report:
    """Verify a document: now, or `archived` at its own time.

    Without a policy the root is AWS's, and no build can be accepted: then only Scope.ORIGIN can be verified.

    Raises:
        AttestationError: a check failed.
        PolicyError: the policy has expired.
        EvidenceError: INCOMPLETE, a required check was skipped.
    """
    required = {*_REQUIRED[scope], *(("ATT-08",) if nonce is not None else ())}
    exam = Examination("attestation document", DOCUMENT, optional=set(DOCUMENT) - required)
    at = now or datetime.now(UTC)
    with exam.running():
        if nonce is None:
            exam.skip("ATT-08", "not compared: no nonce was given")
        if scope is Scope.SESSION and trust is not None:
            document = _session_document(exam, raw, trust, archived=archived, now=at)
        else:
            document = _document(exam, raw, trust, scope, archived=archived, now=at)
        if nonce is not None:
            _compare_nonce(exam, document.nonce, nonce)
    _describe_document(exam, document, scope, archived=archived, nonce=nonce)
    return exam.finish()


def _session_document(
    exam: Examination, raw: bytes, trust: TrustPolicy, *, archived: bool, now: datetime
) -> VerifiedDocument | ArchivedDocument:
    if archived:
        kept = verify_archived_enclave(raw, trust)
        exam.took(kept.steps)
        return kept.document
    enclave = verify_enclave(raw, trust, nonce=None, now=now)
    exam.took(enclave.steps)
    return enclave.document


def _document(
    exam: Examination, raw: bytes, trust: TrustPolicy | None, scope: Scope, *, archived: bool, now: datetime
) -> VerifiedDocument | ArchivedDocument:
    """Check who signed, and the build if there is a policy and it is asked for; not what the document binds."""
    reason = _NO_POLICY if trust is None else f"left out: only asked {scope.value}"
    for check in BINDING if scope is Scope.BUILD else ("ATT-07", *BINDING):
        exam.skip(check, reason)
    if trust is None and scope is Scope.BUILD:
        exam.skip("ATT-07", _NO_POLICY)
    roots = (AWS_NITRO_ROOT_G1,) if trust is None else trust.roots
    max_age = DOCUMENT_MAX_AGE if trust is None else trust.max_document_age
    document = (
        verify_archived_document(raw, roots) if archived else verify_document(raw, roots, now=now, max_age=max_age)
    )
    exam.took(document.steps)
    refuse_debug(document.pcrs)
    exam.passed("ATT-06", "PCR0, PCR1 and PCR2 are not zero")
    if trust is not None and scope is Scope.BUILD:
        build = trust.match(document.pcrs, document.timestamp if archived else now)
        exam.passed("ATT-07", f"{build.pinned_names} are those of the accepted build {build.label!r}")
    return document


def _compare_nonce(exam: Examination, received: bytes | None, expected: bytes) -> None:
    if received is None:
        raise BindingMismatch("the document has no nonce", code="MISSING_NONCE")
    if not compare_digest(received, expected):
        raise BindingMismatch("the document carries another nonce than the one given", code="NONCE_MISMATCH")
    exam.passed("ATT-08", f"the {len(expected)} bytes given")


def _describe_document(
    exam: Examination,
    document: VerifiedDocument | ArchivedDocument,
    scope: Scope,
    *,
    archived: bool,
    nonce: bytes | None,
) -> None:
    exam.facts |= {
        "module": document.module_id,
        "made": document.timestamp.isoformat(),
        "root": f"{document.root.name} ({document.security_mode})",
        **{f"pcr{index}": value.hex() for index, value in sorted(document.pcrs.items()) if any(value)},
    }
    maker = "a SIMULATED module" if document.root.evaluation else "an AWS Nitro security module"
    exam.proven.append(f"{maker} signed exactly these bytes at {document.timestamp:%Y-%m-%d %H:%M:%S} UTC.")
    if scope is Scope.ORIGIN:
        exam.not_proven.append("which code runs there: the measurements were not compared.")
    else:
        exam.proven.append("the enclave ran a build that the policy accepts, and not in debug mode.")
    if scope is Scope.SESSION:
        exam.proven.append("the enclave holds the receipt key and the identity key that the document binds.")
    else:
        exam.not_proven.append("which keys it holds, and for whom: what the document binds was not looked at.")
    if nonce is None:
        exam.not_proven.append("that it was made for you: no nonce was compared.")
    add_limits(exam, evaluation=document.root.evaluation, archived=archived)


def audit_receipt(raw: bytes, key: VerifyingKey, *, nonce: bytes | None = None, now: datetime | None = None) -> Report:
    """Verify a receipt under a key that the caller vouches for.

    Raises:
        ReceiptError: a check failed.
    """
    exam = Examination("receipt under the key given", ("receipt.key", *RECEIPT))
    exam.skip("receipt.key", "the key was given by hand: no document says that an enclave holds it", optional=True)
    for check in ("receipt.attestation_doc_hash", "receipt.measurements"):
        exam.skip(check, "not compared: no document was given", optional=True)
    if nonce is None:
        exam.skip("receipt.eat_nonce", "not compared: no nonce was given", optional=True)
    skip_messages(exam)
    with exam.running():
        receipt = verify_receipt(raw, key, ReceiptExpectations(nonce=nonce), now=now or datetime.now(UTC))
        exam.took(receipt.steps)
    exam.facts |= claims_of(receipt.claims)
    exam.proven.append(f"the holder of the Ed25519 key {key.raw.hex()} signed exactly these claims.")
    exam.not_proven.append("that an enclave holds that key, and which build ran: no document was given.")
    return exam.finish()


def verify_offline(
    receipt: bytes,
    document: bytes,
    trust: TrustPolicy,
    now: datetime | None = None,
    *,
    nonce: bytes | None = None,
) -> OfflineVerdict:
    """Close the chain from a receipt to a pinned root.

    1. the document's chain and signature hold at the document's own time
    2. its registers are one allowed tuple, and it is a session document with a receipt key
    3. the receipt is signed by that key and names that document and those registers
    4. the policy, if it names models, accepts the one that ran

    Raises:
        AttestationError: step 1, 2 or 4.
        ReceiptError: step 3.
        PolicyError: the policy had expired when the document was made.
    """
    exam = Examination("receipt at its document's own time", (*DOCUMENT, *RECEIPT, "policy.model"))
    skip_messages(exam)
    skip_nonce(exam)
    with exam.running():
        enclave = verify_archived_enclave(document, trust)  # 1, 2
        exam.took(enclave.steps)
        verified = take_receipt(exam, receipt, enclave, ReceiptExpectations(nonce=nonce), now)  # 3
        take_model(exam, trust, *model_of(verified.claims))  # 4
    exam.facts |= claims_of(verified.claims)
    prove_answer(exam, enclave, verified.claims)
    return OfflineVerdict(verified, enclave, (*enclave.steps, *verified.steps), exam.finish())


def audit_manifest(raw: bytes, trust: TrustPolicy | None, publishers: tuple[VerifyingKey, ...] = ()) -> Report:
    """Verify a signed model manifest under `publishers`, or else those of a policy.

    Raises:
        ManifestError: malformed, forged or of another publisher.
        MeasurementMismatch: the policy does not accept the model.
        EvidenceError: INCOMPLETE, no publisher was given.
    """
    exam = Examination("model manifest", (*MANIFEST, "policy.model"))
    publishers = publishers or (() if trust is None else trust.publishers)
    with exam.running():
        manifest = take_manifest(exam, raw, publishers, optional=False)
        if trust is None:
            exam.skip("policy.model", _NO_POLICY, optional=True)
        else:
            model = manifest.manifest
            take_model(exam, trust, model.model_id, model.version, manifest.digest)
    if publishers:
        exam.proven.append("a publisher that you named signed exactly these bytes.")
    exam.not_proven.append("that any enclave ever ran this model: a receipt or a bundle shows that.")
    return exam.finish()
