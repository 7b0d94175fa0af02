"""What several verifications of kept evidence share: plans of checks, and each check as part of an examination."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from ephemeral.trusted.attestation import ArchivedEnclave
from ephemeral.trusted.ed25519 import VerifyingKey
from ephemeral.trusted.manifest import (
    ModelManifest,
    UnverifiedManifest,
    VerifiedManifest,
    parse_manifest,
    verify_manifest,
)
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import ReceiptClaims, ReceiptExpectations, VerifiedReceipt, verify_receipt
from ephemeralml.examination import Examination
from ephemeralml.session import attested_measurements

ORIGIN: Final = ("ATT-01", "ATT-02", "ATT-03", "ATT-04", "ATT-05", "ATT-06")
BUILD: Final = (*ORIGIN, "ATT-07")
BINDING: Final = ("ATT-09", "ATT-10")
DOCUMENT: Final = (*BUILD, "ATT-08", *BINDING)
MESSAGES: Final = ("receipt.request_hash", "receipt.response_hash")
RECEIPT: Final = (
    "receipt.form",
    "receipt.signature",
    "receipt.claims",
    "receipt.iat",
    *MESSAGES,
    "receipt.attestation_doc_hash",
    "receipt.measurements",
    "receipt.security_mode",
    "receipt.eat_nonce",
)
PUBLISHED: Final = ("manifest.publisher", "manifest.signature")
MANIFEST: Final = ("manifest.form", *PUBLISHED, "manifest.schema")
_VERSION_DIGITS: Final = 19


def skip_messages(exam: Examination) -> None:
    """Leave out what only who has the plaintext can compare."""
    exam.skip("receipt.request_hash", "not compared: only who asked has the request", optional=True)
    exam.skip("receipt.response_hash", "not compared: only who asked has the answer", optional=True)


def skip_nonce(exam: Examination) -> None:
    """Leave out the nonce of a document that was kept."""
    exam.skip("ATT-08", "not compared: the client's nonce is not known; the receipt must carry the same", optional=True)


def take_receipt(
    exam: Examination, raw: bytes, enclave: ArchivedEnclave, known: ReceiptExpectations, now: datetime | None
) -> VerifiedReceipt:
    """Verify a receipt under the key and the evidence of `enclave`; `known` holds what else the caller knows.

    Raises:
        ReceiptError: a check failed.
    """
    evidence = enclave.document
    nonce = evidence.nonce if known.nonce is None else known.nonce
    if nonce is None:
        exam.skip("receipt.eat_nonce", "not compared: the document has no nonce", optional=True)
    expected = ReceiptExpectations(
        request_hash=known.request_hash,
        response_hash=known.response_hash,
        attestation_doc_hash=evidence.payload_sha256,
        measurements=attested_measurements(evidence.pcrs),
        nonce=nonce,
        security_mode=enclave.security_mode,
        accept_evaluation=enclave.security_mode == "evaluation",
    )
    verified = verify_receipt(raw, enclave.receipt_key, expected, now=now or datetime.now(UTC))
    exam.took(verified.steps)
    return verified


def take_manifest(
    exam: Examination, raw: bytes, publishers: Collection[VerifyingKey], *, optional: bool
) -> VerifiedManifest | UnverifiedManifest:
    """Verify a manifest, or only parse it when there is no publisher's key; `optional` says whether that is enough.

    Raises:
        ManifestError: a check failed.
    """
    if publishers:
        verified = verify_manifest(raw, publishers)
        exam.took(verified.steps)
        _describe(exam, verified.manifest, verified.digest)
        return verified
    for check in PUBLISHED:
        exam.skip(check, "not compared: no publisher is named in a policy", optional=optional)
    parsed = parse_manifest(raw)
    exam.took(parsed.steps)
    _describe(exam, parsed.manifest, parsed.digest)
    return parsed


def take_model(exam: Examination, trust: TrustPolicy, model_id: str, version: int, digest: bytes) -> None:
    """Hold a model against the policy.

    Raises:
        MeasurementMismatch: the policy does not accept it.
    """
    trust.accept_model(model_id, version, digest)
    if trust.models:
        exam.passed("policy.model", f"{model_id} version {version}, manifest {digest.hex()[:16]}…, is accepted")
    else:
        exam.skip("policy.model", "not compared: the policy names no model", optional=True)


def model_of(claims: ReceiptClaims) -> tuple[str, int, bytes]:
    """Return (model id, version, manifest digest) of a receipt.

    Our receipts carry the manifest's version in decimal; anything else is no version that a minimum could admit.
    """
    text = claims.model_version
    decimal = text.isascii() and text.isdecimal() and len(text) <= _VERSION_DIGITS
    return claims.model_id, int(text) if decimal else 0, claims.model_hash


def claims_of(claims: ReceiptClaims) -> dict[str, str]:
    """Return the claims of a receipt for a person."""
    return {
        "model": f"{claims.model_id} version {claims.model_version}",
        "model_hash": claims.model_hash.hex(),
        "request_hash": claims.request_hash.hex(),
        "response_hash": claims.response_hash.hex(),
        "sequence_number": str(claims.sequence_number),
        "issued_at": f"{_utc(claims.iat)} (the enclave's clock)",
        "execution_time_ms": str(claims.execution_time_ms),
        "memory_peak_mb": str(claims.memory_peak_mb),
        "policy": claims.policy_version,
        "security_mode": claims.security_mode,
    }


def prove_answer(exam: Examination, enclave: ArchivedEnclave, claims: ReceiptClaims) -> None:
    """Say what a verified receipt proves."""
    maker = "a SIMULATED module" if enclave.document.root.evaluation else "an AWS Nitro security module"
    made = f"{enclave.document.timestamp:%Y-%m-%d %H:%M:%S} UTC"
    build = enclave.measurements.label or "without label"
    model = f"{claims.model_id} version {claims.model_version}, manifest sha256 {claims.model_hash.hex()[:16]}…"
    exam.proven.append(f"{maker} attested at {made} that the accepted build {build!r} ran and held the receipt key.")
    exam.proven.append(f"it signed that {model}, answered the request of this hash with the answer of this hash.")
    exam.not_proven.append("that the document was fresh when the receipt was issued.")
    add_limits(exam, evaluation=enclave.document.root.evaluation, archived=True)


def add_limits(exam: Examination, *, evaluation: bool, archived: bool) -> None:
    """Say what no check here can prove."""
    exam.not_proven.append("that no certificate was revoked: CRLs were not fetched, revocation was not checked.")
    if archived:
        exam.not_proven.append("anything about now: the document was verified at its own time.")
    if evaluation:
        exam.not_proven.append("anything about hardware: the root of trust is SIMULATED, for evaluation only.")


def _describe(exam: Examination, manifest: ModelManifest, digest: bytes) -> None:
    exam.facts |= {
        "manifest": f"{manifest.model_id} version {manifest.version}, {manifest.architecture}, sha256 {digest.hex()}",
        "publisher": f"key id {manifest.publisher_key_id.hex()}",
        **{f"file {file.name}": f"sha256 {file.sha256.hex()}, {file.size:,} bytes" for file in manifest.files},
    }


def _utc(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"
