"""The simulated security module: its documents pass the verifier's one code path, and never as production."""

import hashlib
from datetime import UTC, datetime, timedelta

import cbor2
import pytest
from cryptography import x509

from ephemeral.errors import MeasurementMismatch, PolicyError, StaleDocument, UntrustedChain
from ephemeral.trusted.attestation import SessionBinding, parse_document, verify_document, verify_enclave
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1, Measurements, RootOfTrust, TrustPolicy
from ephemeral_devstack.nsm import SimulatedAuthority, SimulatedNsm
from tests.support.vectors import vector_path

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48}
NONCE = b"n" * 32
KEY = SigningKey.generate().verifying_key
BINDING = SessionBinding(KEY, b"a" * 32, b"b" * 32, b"c" * 32)
MAX_AGE = timedelta(minutes=5)


def policy(nsm: SimulatedNsm) -> TrustPolicy:
    root = RootOfTrust("devstack", nsm.root_sha256, evaluation=True)
    return TrustPolicy((root,), (Measurements(PCRS[0], PCRS[1], PCRS[2]),))


@pytest.fixture(scope="module")
def nsm() -> SimulatedNsm:
    return SimulatedNsm(PCRS, now=AT)


def test_its_documents_pass_the_whole_profile_as_evaluation(nsm: SimulatedNsm) -> None:
    raw = nsm.attest(KEY.raw, BINDING.encode(), NONCE)
    enclave = verify_enclave(raw, policy(nsm), nonce=NONCE, now=AT)
    assert enclave.binding == BINDING
    assert enclave.security_mode == "evaluation"


def test_production_policies_refuse_its_root(nsm: SimulatedNsm) -> None:
    with pytest.raises(UntrustedChain) as refused:
        verify_document(nsm.attest(), [AWS_NITRO_ROOT_G1], now=AT, max_age=MAX_AGE)
    assert refused.value.code == "ROOT_NOT_PINNED"
    with pytest.raises(PolicyError):
        RootOfTrust("devstack", nsm.root_sha256, evaluation=False)


def test_the_published_root_hash_is_that_of_the_root_certificate(nsm: SimulatedNsm) -> None:
    assert nsm.root_sha256 == hashlib.sha256(nsm.root_der).digest()
    assert parse_document(nsm.attest()).cabundle[0] == nsm.root_der


def test_two_modules_may_share_a_root_across_processes(nsm: SimulatedNsm) -> None:
    root = SimulatedAuthority.new_root(AT)
    first = SimulatedNsm(PCRS, now=AT, root=root)
    second = SimulatedNsm({**PCRS, 2: b"\xff" * 48}, now=AT, root=SimulatedAuthority.from_pem(root.to_pem()))
    assert first.root_sha256 == second.root_sha256 != nsm.root_sha256
    with pytest.raises(MeasurementMismatch):
        verify_enclave(second.attest(KEY.raw, BINDING.encode(), NONCE), policy(first), nonce=NONCE, now=AT)


def test_a_fresh_module_runs_on_the_real_clock() -> None:
    nsm = SimulatedNsm(PCRS)
    assert verify_document(nsm.attest(), policy(nsm).roots, now=datetime.now(UTC), max_age=MAX_AGE)


def test_its_chain_is_renewed_before_the_leaf_expires() -> None:
    nsm = SimulatedNsm(PCRS, now=AT)
    before = parse_document(nsm.attest()).certificate
    later = AT + timedelta(hours=2)
    nsm._stopped_at = later
    raw = nsm.attest()
    assert parse_document(raw).certificate != before
    assert verify_document(raw, policy(nsm).roots, now=later, max_age=MAX_AGE)


def test_seams_for_tests_reach_the_document(nsm: SimulatedNsm) -> None:
    old = nsm.attest(timestamp=AT - timedelta(seconds=301))
    with pytest.raises(StaleDocument) as refused:
        verify_document(old, policy(nsm).roots, now=AT, max_age=MAX_AGE)
    assert refused.value.code == "STALE_DOCUMENT"
    assert parse_document(nsm.attest(pcrs={0: bytes(48), 16: b"\x10" * 48})).pcrs[16] == b"\x10" * 48


def test_pcrs_have_48_bytes() -> None:
    with pytest.raises(ValueError, match="48"):
        SimulatedNsm({0: b"short"})


def shape(raw: bytes) -> list[object]:
    """Describe a document's format without its values."""
    envelope = cbor2.loads(raw)
    payload = cbor2.loads(envelope[2])
    certificates = [x509.load_der_x509_certificate(der) for der in [*payload["cabundle"], payload["certificate"]]]
    return [
        raw[:8],
        [(name, type(value)) for name, value in payload.items() if name not in ("public_key", "user_data", "nonce")],
        sorted(payload["pcrs"]),
        [
            (
                certificate.version,
                certificate.signature_algorithm_oid,
                certificate.not_valid_after_utc - certificate.not_valid_before_utc > timedelta(hours=4),
                [
                    (extension.oid, extension.critical, getattr(extension.value, "path_length", None))
                    for extension in sorted(certificate.extensions, key=lambda extension: extension.oid.dotted_string)
                    if extension.oid != x509.ExtensionOID.CRL_DISTRIBUTION_POINTS
                ],
            )
            for certificate in certificates
        ],
    ]


@pytest.mark.vectors
def test_its_documents_have_the_shape_of_genuine_ones(nsm: SimulatedNsm) -> None:
    (path,) = vector_path("nitro").glob("mystenlabs_20250415022523*.cbor")
    assert shape(nsm.attest(b"k", b"u", b"n")) == shape(path.read_bytes())
