"""Verification of attestation documents, every check in one order.

::

    1  ATT-01  the bytes are one document of the profile, nothing left over           parse_document
    2  ATT-02  the first certificate is a pinned root                                 find_root
    3  ATT-03  an unbroken chain from it to the leaf, all valid at the same time      walk_chain
    4  ATT-04  the leaf signed exactly these bytes with ES384                         verify_es384
    5  ATT-05  made within the leaf's validity, and now: at most max_age ago
    --- verify_document (a clock), verify_archived_document (the document's own time: another type)
    6  ATT-06  PCR0, PCR1, PCR2 present and not zero                                  refuse_debug
    --- of an enclave that answers a client: verify_enclave
    7  ATT-07  the PCRs are those of one accepted build                               TrustPolicy.match
    8  ATT-08  the nonce is the one this client chose
    9  ATT-09  made for a session; identity key and digests bound in user_data        SessionBinding.parse
    10 ATT-10  public_key is an Ed25519 key that receipts are verified with
    --- of an enclave that asks for a data key: verify_recipient
    9  ATT-09  made for KMS; the manifest digest bound in user_data                   KmsBinding.parse
    11 ATT-11  public_key is an RSA-2048 key that data keys are encrypted to
"""

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ephemeral.errors import BindingMismatch, StaleDocument
from ephemeral.protocol import CLOCK_SKEW, NONCE_BYTES
from ephemeral.trusted.attestation.binding import KmsBinding, SessionBinding
from ephemeral.trusted.attestation.chain import TrustedLeaf, find_root, walk_chain
from ephemeral.trusted.attestation.document import PROTECTED_ES384, AttestationDocument, parse_document
from ephemeral.trusted.attestation.signature import verify_es384
from ephemeral.trusted.attestation.steps import Check, StepRecord, recording
from ephemeral.trusted.attestation.verified import (
    ArchivedDocument,
    ArchivedEnclave,
    ProvenDocument,
    VerifiedDocument,
    VerifiedEnclave,
    VerifiedRecipient,
)
from ephemeral.trusted.cose import sig_structure
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy, refuse_debug

_RSA_BITS: Final = 2048
_RSA_EXPONENT: Final = 65537
_UTC: Final = "{:%Y-%m-%d %H:%M:%S} UTC"

_D = TypeVar("_D", VerifiedDocument, ArchivedDocument)


def verify_document(
    raw: bytes, roots: Collection[RootOfTrust], *, now: datetime, max_age: timedelta
) -> VerifiedDocument:
    """Run checks 1 to 5 at the time `now`.

    Raises:
        AttestationError: the first check that failed, with the steps that passed in `steps`.
    """
    with recording() as record:
        return _verify_now(raw, roots, now, max_age, record)


def verify_archived_document(raw: bytes, roots: Collection[RootOfTrust]) -> ArchivedDocument:
    """Run checks 1 to 5 at the document's own time, for offline audit.

    Raises:
        AttestationError: the first check that failed, with the steps that passed in `steps`.
    """
    with recording() as record:
        return _verify_archived(raw, roots, record)


def verify_enclave(raw: bytes, policy: TrustPolicy, *, nonce: bytes | None, now: datetime) -> VerifiedEnclave:
    """Run the whole profile, checks 1 to 10.

    `nonce` is the 32 bytes this client chose, or None if it asked for no fresh document: then check 8 is left out.

    Raises:
        AttestationError: the first check that failed, with the steps that passed in `steps`.
    """
    if nonce is not None and len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    with recording() as record:
        document = _verify_now(raw, policy.roots, now, policy.max_document_age, record)
        measurements = _check_measurements(document.pcrs, policy, now, record)
        _check_nonce(document.nonce, nonce, record)
        binding, receipt_key = _check_session_binding(document, record)
        return VerifiedEnclave(document, measurements, receipt_key, binding, record.steps)


def verify_archived_enclave(raw: bytes, policy: TrustPolicy) -> ArchivedEnclave:
    """Run checks 1 to 10 at the document's own time and without a nonce, to close the chain of an old receipt.

    Raises:
        AttestationError: the first check that failed, with the steps that passed in `steps`.
    """
    with recording() as record:
        document = _verify_archived(raw, policy.roots, record)
        measurements = _check_measurements(document.pcrs, policy, document.timestamp, record)
        binding, receipt_key = _check_session_binding(document, record)
        return ArchivedEnclave(document, measurements, receipt_key, binding, record.steps)


def verify_recipient(
    raw: bytes, roots: Collection[RootOfTrust], *, now: datetime, max_age: timedelta
) -> VerifiedRecipient:
    """Run checks 1 to 6, 9 and 11: whether KMS may encrypt a data key to the document's key.

    Raises:
        AttestationError: the first check that failed, with the steps that passed in `steps`.
    """
    with recording() as record:
        document = _verify_now(raw, roots, now, max_age, record)
        _check_not_debug(document.pcrs, record)
        binding = KmsBinding.parse(_required("user_data", document.user_data))
        record.passed(Check.PURPOSE, "made for KMS, for the manifest {:.16}…", binding.manifest_digest)
        spki = _check_rsa_key(_required("public_key", document.public_key))
        record.passed(Check.RECIPIENT_KEY, "public_key is an RSA-2048 key")
        return VerifiedRecipient(document, spki, binding, record.steps)


def _verify_now(
    raw: bytes, roots: Collection[RootOfTrust], now: datetime, max_age: timedelta, record: StepRecord
) -> VerifiedDocument:
    if now.utcoffset() is None:
        raise ValueError("now must have a time zone")
    document = _parse(raw, record)
    root, leaf = _check_origin(document, roots, now, record)
    if not leaf.not_before <= document.timestamp <= leaf.not_after:
        raise StaleDocument("the document's time is outside its certificate's validity", code="TIMESTAMP_OUTSIDE_LEAF")
    age = now - document.timestamp
    if age > max_age:
        raise StaleDocument(
            f"made {age.total_seconds():.0f} s ago, at most {max_age.total_seconds():.0f} s are allowed"
        )
    if -age > CLOCK_SKEW:
        raise StaleDocument(
            f"made {-age.total_seconds():.0f} s in the future: is this machine's clock right?", code="FUTURE_DOCUMENT"
        )
    spent, most = age.total_seconds(), max_age.total_seconds()
    record.passed(Check.TIME, f"made {_UTC}, {{:.0f}} s ago (at most {{:.0f}} s)", document.timestamp, spent, most)
    return _proven(VerifiedDocument, raw, document, root, record)


def _verify_archived(raw: bytes, roots: Collection[RootOfTrust], record: StepRecord) -> ArchivedDocument:
    document = _parse(raw, record)
    root, _ = _check_origin(document, roots, document.timestamp, record)
    record.passed(Check.TIME, f"archived: genuine when made, {_UTC}; not checked against now", document.timestamp)
    return _proven(ArchivedDocument, raw, document, root, record)


def _proven(kind: type[_D], raw: bytes, document: AttestationDocument, root: RootOfTrust, record: StepRecord) -> _D:
    return kind(
        raw=raw,
        payload_sha256=hashlib.sha256(document.payload).digest(),
        module_id=document.module_id,
        timestamp=document.timestamp,
        pcrs=document.pcrs,
        public_key=document.public_key,
        user_data=document.user_data,
        nonce=document.nonce,
        root=root,
        steps=record.steps,
    )


def _parse(raw: bytes, record: StepRecord) -> AttestationDocument:
    document = parse_document(raw)
    record.passed(
        Check.FORMAT, "one COSE_Sign1 of {} bytes, ES384, {} PCRs, nothing left over", len(raw), len(document.pcrs)
    )
    return document


def _check_origin(
    document: AttestationDocument, roots: Collection[RootOfTrust], at: datetime, record: StepRecord
) -> tuple[RootOfTrust, TrustedLeaf]:
    root = find_root(document.cabundle, roots)
    mode = "SIMULATED, for evaluation only" if root.evaluation else "the hardware's maker"
    record.passed(Check.ROOT, "SHA-256 {:.16}… is the pinned root {} ({})", root.sha256, root.name, mode)
    leaf = walk_chain(document.cabundle, document.certificate, at)
    count = len(document.cabundle) + 1
    record.passed(Check.CHAIN, f"{{}} certificates, each issued by the one before it and valid at {_UTC}", count, at)
    # RFC 9052 section 4.4: over the bytes received, never over a re-encoding.
    verify_es384(leaf.key, document.signature, sig_structure(PROTECTED_ES384, document.payload))
    record.passed(Check.SIGNATURE, "ES384 by {} over {} bytes of payload", document.module_id, len(document.payload))
    return root, leaf


def _check_not_debug(pcrs: Mapping[int, bytes], record: StepRecord) -> None:
    refuse_debug(pcrs)
    record.passed(Check.NOT_DEBUG, "PCR0, PCR1 and PCR2 are not zero")


def _check_measurements(
    pcrs: Mapping[int, bytes], policy: TrustPolicy, at: datetime, record: StepRecord
) -> Measurements:
    _check_not_debug(pcrs, record)
    build = policy.match(pcrs, at)
    record.passed(
        Check.MEASUREMENTS,
        "{} are those of the accepted build {!r}",
        build.pinned_names,
        build.label or "without label",
    )
    return build


def _check_nonce(received: bytes | None, expected: bytes | None, record: StepRecord) -> None:
    if expected is None:
        return  # and not recorded: what was not checked has not passed
    if not compare_digest(_required("nonce", received), expected):
        raise BindingMismatch(
            "the document carries another nonce: it was made for somebody else", code="NONCE_MISMATCH"
        )
    record.passed(Check.NONCE, "the {} fresh bytes this client chose", NONCE_BYTES)


def _check_session_binding(document: ProvenDocument, record: StepRecord) -> tuple[SessionBinding, VerifyingKey]:
    binding = SessionBinding.parse(_required("user_data", document.user_data))
    record.passed(
        Check.PURPOSE,
        "made for a session; boot config {:.16}…, models {:.16}…, build {:.16}…",
        binding.boot_config_digest,
        binding.model_set_digest,
        binding.build_digest,
    )
    try:
        receipt_key = VerifyingKey(_required("public_key", document.public_key))
    except KeyRejected as error:
        raise BindingMismatch(f"receipt key: {error}", code="KEY_REJECTED") from None
    record.passed(Check.RECEIPT_KEY, "public_key is the Ed25519 key {:.16}…", receipt_key.raw)
    return binding, receipt_key


def _check_rsa_key(spki: bytes) -> bytes:
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise BindingMismatch("public_key is not a key", code="KEY_REJECTED") from None
    if not isinstance(key, RSAPublicKey) or key.key_size != _RSA_BITS or key.public_numbers().e != _RSA_EXPONENT:
        raise BindingMismatch("public_key is not an RSA-2048 key", code="KEY_REJECTED")
    # KMS names the recipient by the hash of these bytes: one key, one encoding.
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise BindingMismatch("public_key is not in DER", code="KEY_REJECTED")
    return spki


def _required(name: str, value: bytes | None) -> bytes:
    # An absent field is a failed check, never a check to leave out.
    if value is None:
        raise BindingMismatch(f"the document has no {name}", code=f"MISSING_{name.upper()}")
    return value
