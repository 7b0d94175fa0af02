"""Verification against its own floor: the public-key operations that no implementation could leave out.

The floors are bare calls of `cryptography` on the very same keys, signatures and messages, keys already loaded. The
documents come from the development stack's security module: five levels, P-384, the size of AWS's.

The product takes its libraries when it is imported, so each choice is measured by a process of its own:
``libraries`` starts `python -m benchmarks.verification ROUNDS`, which prints JSON.
"""

import json
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from benchmarks.rounds import Case, Measured, measure
from ephemeral.trusted import ed25519, p384
from ephemeral.trusted.attestation import SessionBinding, parse_document, verify_document, verify_enclave
from ephemeral.trusted.attestation.chain import forget_authorities
from ephemeral.trusted.attestation.document import PROTECTED_ES384
from ephemeral.trusted.cose import parse_sign1, sig_structure
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.handshake.schedule import Transcript, decapsulate, encapsulate, generate_kem_key
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy
from ephemeral.trusted.receipt import (
    Answered,
    EnclaveMeasurements,
    ReceiptClaims,
    ReceiptDraft,
    ReceiptExpectations,
    issue_receipt,
    verify_receipt,
)
from ephemeral_devstack.nsm import SimulatedNsm

_ALGORITHM: Final = ECDSA(SHA384())
_BUILD: Final = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="benchmark")


def run(rounds: int) -> dict[str, Sequence[Measured]]:
    """Measure everything; the titles say which libraries the product's own code ran on."""
    return {
        f"Attestation document, {p384.BACKEND.name} for P-384": measure(_documents(), rounds),
        f"Receipt, {ed25519.BACKEND.name} for verifying Ed25519": measure(_receipts(), 4 * rounds),
        "Session set-up, both sides": measure(_sessions(), 4 * rounds),
    }


@dataclass(frozen=True, slots=True)
class _Signed:
    """One signature with all that a bare verification takes."""

    key: EllipticCurvePublicKey
    signature: bytes
    message: bytes

    def verify(self) -> None:
        self.key.verify(self.signature, self.message, _ALGORITHM)

    @property
    def spki(self) -> bytes:
        """The key as a document brings it."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signatures(raw: bytes) -> list[_Signed]:
    """Four of the chain, from the top, then the document's own."""
    document = parse_document(raw)
    chain = [x509.load_der_x509_certificate(der) for der in (*document.cabundle, document.certificate)]
    keys = [key for certificate in chain if isinstance(key := certificate.public_key(), EllipticCurvePublicKey)]
    half = len(document.signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (document.signature[:half], document.signature[half:]))
    message = sig_structure(PROTECTED_ES384, document.payload)
    return [
        *(
            _Signed(key, below.signature, below.tbs_certificate_bytes)
            for key, below in zip(keys, chain[1:], strict=False)
        ),
        _Signed(keys[-1], encode_dss_signature(r, s), message),
    ]


def _all(signatures: Sequence[_Signed]) -> Callable[[], None]:
    def verify() -> None:
        for signed in signatures:
            signed.verify()

    return verify


def _brought(signatures: Sequence[_Signed]) -> Callable[[], None]:
    """The same with keys that nobody has seen before: what a document cannot but cost."""
    keys = [signed.spki for signed in signatures]

    def verify() -> None:
        for spki, signed in zip(keys, signatures, strict=True):
            key = load_der_public_key(spki)
            assert isinstance(key, EllipticCurvePublicKey)
            key.verify(signed.signature, signed.message, _ALGORITHM)

    return verify


def _documents() -> list[Case]:
    module, nonce, now = SimulatedNsm(_BUILD.pinned), secrets.token_bytes(32), datetime.now(UTC)
    identity, receipts = (SigningKey.generate().verifying_key for _ in range(2))
    binding = SessionBinding(identity, b"\x04" * 32, b"\x05" * 32, b"\x06" * 32)
    raw = module.attest(receipts.raw, binding.encode(), nonce, timestamp=now)
    policy = TrustPolicy((RootOfTrust("benchmark", module.root_sha256, evaluation=True),), (_BUILD,))
    signatures = _signatures(raw)
    five, two = "5 P-384 verifications", "2 P-384 verifications (leaf certificate, document)"

    def document() -> None:
        verified = verify_document(raw, policy.roots, now=now, max_age=policy.max_document_age)
        policy.match(verified.pcrs, now)

    def enclave() -> None:
        verify_enclave(raw, policy, nonce=nonce, now=now)

    return [
        Case(five, _all(signatures), five),
        Case("the same, each key loaded first", _brought(signatures), five),
        Case("document and policy, nothing remembered", document, five, forget_authorities, at_most=1.2),
        Case("the whole session profile, nothing remembered", enclave, five, forget_authorities),
        Case(two, _all(signatures[3:]), two, document),
        Case("document and policy, authorities remembered", document, two, document, at_most=1.3),
        Case("the whole session profile, authorities remembered", enclave, two, document),
    ]


def _receipts() -> list[Case]:
    now, nonce, digest = datetime.now(UTC), secrets.token_bytes(32), secrets.token_bytes(32)
    registers = EnclaveMeasurements(_BUILD.pcr0, _BUILD.pcr1, _BUILD.pcr2)
    known = {
        "model_id": "all-MiniLM-L6-v2",
        "model_hash": digest,
        "request_hash": digest,
        "response_hash": digest,
        "attestation_doc_hash": digest,
        "measurements": registers,
        "sequence_number": 1,
        "security_mode": "evaluation",
    }
    claims = ReceiptClaims(
        iss="ephemeralml",
        iat=int(now.timestamp()),
        cti=secrets.token_bytes(16),
        model_version="1",
        policy_version="benchmark",
        execution_time_ms=12,
        memory_peak_mb=345,
        eat_nonce=nonce,
        model_hash_scheme="sha256-manifest",
        **known,  # type: ignore[arg-type]  # one mapping for what is claimed and what is expected
    )
    expected = ReceiptExpectations(nonce=nonce, accept_evaluation=True, **known)  # type: ignore[arg-type]
    private = Ed25519PrivateKey.generate()
    public, key = private.public_key(), SigningKey(private)
    raw = issue_receipt(claims, key)
    envelope = parse_sign1(raw, max_bytes=len(raw))
    assert envelope.payload is not None
    message = sig_structure(envelope.protected, envelope.payload)
    draft, answered = ReceiptDraft(claims), Answered(*[getattr(claims, name) for name in Answered._fields])
    floor = "Ed25519 sign + verify"
    return [
        Case(floor, lambda: public.verify(private.sign(message), message), floor),
        Case(
            "issue from the session's draft + verify, 12 expectations",
            lambda: verify_receipt(draft.issue(answered, key), key.verifying_key, expected, now=now),
            floor,
            at_most=1.5,
        ),
        Case(
            "the same without a draft",
            lambda: verify_receipt(issue_receipt(claims, key), key.verifying_key, expected, now=now),
            floor,
        ),
    ]


def _sessions() -> list[Case]:
    hello, answer, document = (secrets.token_bytes(size) for size in (48, 106, 4600))
    before = Transcript(hello, answer, document)
    floor = "X25519: 2 keys, 2 exchanges"

    def bare() -> None:
        ours, theirs = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        ours.exchange(theirs.public_key())
        theirs.exchange(ours.public_key())

    def both() -> None:
        key = generate_kem_key()
        complete, client = encapsulate(key.public, before)
        enclave = decapsulate(key, complete)
        assert client.finished == enclave.finished

    return [Case(floor, bare, floor), Case("key schedule of both sides", both, floor, at_most=1.5)]


if __name__ == "__main__":
    found = run(int(sys.argv[1]))
    json.dump({title: [asdict(row) for row in rows] for title, rows in found.items()}, sys.stdout)
