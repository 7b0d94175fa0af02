"""The whole chain of one bundle: from the texts' hashes to the pinned root, with nothing but the file and a policy."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from ephemeral.errors import EvidenceError
from ephemeral.trusted.attestation import ArchivedEnclave, verify_archived_enclave
from ephemeral.trusted.manifest import UnverifiedManifest, VerifiedManifest
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.trusted.receipt import ReceiptExpectations, VerifiedReceipt
from ephemeralml.bundle import Bundle
from ephemeralml.evidence import (
    DOCUMENT,
    MANIFEST,
    RECEIPT,
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
from ephemeralml.replay import REPLAY, find_engine, take_replay
from ephemeralml.report import Report

_CONFIGURATION: Final = "enclave-config sha256:"
_PLAN: Final = (
    "bundle.form",
    "bundle.digest",
    *DOCUMENT,
    *RECEIPT,
    *MANIFEST,
    "manifest.digest",
    "document.models",
    "build.digest",
    "build.policy",
    "policy.model",
    "policy.digest",
)


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle whose every part was verified and belongs to one answer, and the record that says so."""

    bundle: Bundle
    enclave: ArchivedEnclave
    receipt: VerifiedReceipt
    manifest: VerifiedManifest | UnverifiedManifest
    report: Report


def verify_bundle(
    raw: bytes,
    trust: TrustPolicy,
    *,
    other_policy: bool = False,
    replay: Path | None = None,
    now: datetime | None = None,
) -> VerifiedBundle:
    """Verify a bundle under a policy, at its document's own time.

    1. the file is one undamaged bundle
    2. the document is genuine, of an accepted build, and binds the receipt key
    3. that key signed the receipt, over that document, those measurements, and the messages if they are included
    4. the manifest is the one whose digest the receipt names; a publisher signed it, if the policy names publishers
    5. the models and the build stated are those the document attests; the receipt names that build's configuration
    6. the policy accepts the model, and is the one under which the client accepted the enclave
    7. if `replay` is the model's folder, the model gives this answer when it is computed again

    `other_policy` accepts that the bundle was made under another policy than `trust`: then that is a SKIP.

    Raises:
        EvidenceError: step 1, 5, 6, 7, or parts of different answers.
        AttestationError: step 2, or the policy does not accept the model.
        ReceiptError: step 3.
        ManifestError: step 4.
        PolicyError: the policy had expired when the document was made.
        ConfigError: step 7, and no engine is installed.
    """
    engine = None if replay is None else find_engine()
    exam = Examination("bundle at its document's own time", _PLAN if replay is None else (*_PLAN, *REPLAY))
    skip_nonce(exam)
    with exam.running():
        bundle = _parse(exam, raw)  # 1
        enclave = verify_archived_enclave(bundle.document, trust)  # 2
        exam.took(enclave.steps)
        receipt = take_receipt(exam, bundle.receipt, enclave, _known(exam, bundle), now)  # 3
        manifest = take_manifest(exam, bundle.manifest, trust.publishers, optional=True)  # 4
        _compare_manifest(exam, manifest, receipt)
        _compare_attested(exam, bundle, enclave, receipt)  # 5
        take_model(exam, trust, *model_of(receipt.claims))  # 6
        _compare_policy(exam, bundle, trust, other_policy=other_policy)
        if replay is not None and engine is not None:
            take_replay(exam, manifest.manifest, bundle.messages, replay, engine)  # 7
    exam.facts |= claims_of(receipt.claims) | _facts(bundle)
    _prove(exam, enclave, receipt, manifest)
    return VerifiedBundle(bundle, enclave, receipt, manifest, exam.finish())


def _parse(exam: Examination, raw: bytes) -> Bundle:
    try:
        bundle = Bundle.parse(raw)
    except EvidenceError as error:
        if error.code == "BUNDLE_DAMAGED":
            exam.passed("bundle.form", f"one bundle of {len(raw):,} bytes, nothing left over")
        raise
    exam.passed("bundle.form", f"one bundle of {len(raw):,} bytes, nothing left over")
    exam.passed("bundle.digest", "SHA-256 of the contents is the one at the end")
    return bundle


def _known(exam: Examination, bundle: Bundle) -> ReceiptExpectations:
    messages = bundle.messages
    if messages is None:
        skip_messages(exam)
        return ReceiptExpectations()
    return ReceiptExpectations(
        request_hash=sha256(messages.request).digest(), response_hash=sha256(messages.result).digest()
    )


def _compare_manifest(
    exam: Examination, manifest: VerifiedManifest | UnverifiedManifest, receipt: VerifiedReceipt
) -> None:
    model = manifest.manifest
    if (model.model_id, model.version, manifest.digest) != model_of(receipt.claims):
        raise EvidenceError("the receipt names another model or manifest than this one", code="BUNDLE_MANIFEST")
    names = ", ".join(file.name for file in model.files)
    exam.passed("manifest.digest", f"model_hash is {manifest.digest.hex()[:16]}…, which fixes {names}")


def _compare_attested(exam: Examination, bundle: Bundle, enclave: ArchivedEnclave, receipt: VerifiedReceipt) -> None:
    binding, claims = enclave.binding, receipt.claims
    if bundle.model_set_digest != binding.model_set_digest or model_of(claims) not in bundle.models:
        raise EvidenceError("the models stated are not those the document attests", code="BUNDLE_MODEL_SET")
    exam.passed("document.models", f"{len(bundle.models)} models, {binding.model_set_digest.hex()[:16]}…")
    if bundle.build.digest != binding.build_digest:
        raise EvidenceError("the versions stated are not those the document attests", code="BUNDLE_BUILD")
    build = bundle.build
    exam.passed(
        "build.digest",
        f"{binding.build_digest.hex()[:16]}… is that of ephemeralml-protocol {build.protocol_version}, "
        f"ephemeralml-enclave {build.enclave_version}, libraries {build.libraries.hex()[:16]}…, "
        f"configuration {build.configuration.hex()[:16]}…",
    )
    if claims.policy_version != _CONFIGURATION + build.configuration.hex():
        raise EvidenceError("the receipt names another configuration of the enclave", code="BUNDLE_BUILD")
    exam.passed("build.policy", f"policy_version is {claims.policy_version[:38]}…")


def _compare_policy(exam: Examination, bundle: Bundle, trust: TrustPolicy, *, other_policy: bool) -> None:
    stated, given = bundle.policy_digest.hex(), trust.digest.hex()
    if stated == given:
        exam.passed("policy.digest", f"the client accepted the enclave under this policy, {given[:16]}…")
        return
    text = f"the client accepted the enclave under the policy {stated[:16]}…, the one given is {given[:16]}…"
    if not other_policy:
        raise EvidenceError(text, code="BUNDLE_POLICY")
    exam.skip("policy.digest", f"left out, as asked: {text}", optional=True)


def _facts(bundle: Bundle) -> dict[str, str]:
    enclave, library = bundle.build.enclave_version, bundle.build.protocol_version
    return {
        "enclave versions": f"ephemeralml-enclave {enclave}, ephemeralml-protocol {library}",
        "written by": f"ephemeralml {bundle.sdk_version} (stated, not proven)",
        "plaintext": "included" if bundle.messages is not None else "not included",
    }


def _prove(
    exam: Examination,
    enclave: ArchivedEnclave,
    receipt: VerifiedReceipt,
    manifest: VerifiedManifest | UnverifiedManifest,
) -> None:
    prove_answer(exam, enclave, receipt.claims)
    count = len(manifest.manifest.files)
    exam.proven.append(
        f"the manifest fixes the model by the SHA-256 of its {count} files, tokenizer and configuration included."
    )
    if isinstance(manifest, VerifiedManifest):
        exam.proven.append("a publisher that the policy names signed the manifest.")
    else:
        exam.not_proven.append("who published the model: the policy names no publisher, so only the enclave checked.")
