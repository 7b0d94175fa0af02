"""The profile beyond format and chain: freshness, debug mode, measurements, nonce, purpose, keys, and the record."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import (
    AttestationError,
    BindingMismatch,
    ForgedDocument,
    MalformedDocument,
    MeasurementMismatch,
    StaleDocument,
)
from ephemeral.trusted.attestation import (
    ArchivedDocument,
    KmsBinding,
    SessionBinding,
    VerifiedDocument,
    verify_archived_document,
    verify_archived_enclave,
    verify_document,
    verify_enclave,
    verify_recipient,
)
from ephemeral.trusted.policy import Measurements, TrustPolicy
from tests.support.invariants import tally
from tests.support.minting import (
    AT,
    BINDING,
    IDENTITY_KEY,
    NONCE,
    PCR0,
    PCR1,
    PCR2,
    RECEIPT_KEY,
    Mint,
    raw_map,
    rsa_key,
)

SECOND = timedelta(seconds=1)
MAX_AGE = timedelta(seconds=300)
PCRS = {0: PCR0, 1: PCR1, 2: PCR2}
ZERO = bytes(48)
KMS = KmsBinding(b"\x0e" * 32)
P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


RSA_SPKI = spki(rsa_key())


@pytest.fixture(scope="module")
def mint() -> Mint:
    return Mint()


def made(when: datetime) -> int:
    return int(when.timestamp() * 1000)


def refusal(
    mint: Mint, kind: type[AttestationError], *, policy: TrustPolicy | None = None, nonce: bytes = NONCE, **claims: Any
) -> AttestationError:
    with tally("INV-2", 1), pytest.raises(kind) as refused:
        verify_enclave(mint.document(**claims), policy or mint.policy, nonce=nonce, now=AT)
    return refused.value


def recipient_refusal(mint: Mint, kind: type[AttestationError], **claims: Any) -> str:
    raw = mint.document(**{"public_key": RSA_SPKI, "user_data": KMS.encode(), "nonce": None, **claims})
    with pytest.raises(kind) as refused:
        verify_recipient(raw, mint.policy.roots, now=AT, max_age=MAX_AGE)
    return refused.value.code


# --- what a verified enclave is


def test_a_verified_enclave_shows_only_what_was_verified(mint: Mint) -> None:
    enclave = verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT)
    assert enclave.receipt_key == RECEIPT_KEY
    assert enclave.binding.identity_key == IDENTITY_KEY
    assert enclave.binding == BINDING
    assert enclave.measurements.label == "test build"
    assert enclave.document.pcrs[0] == PCR0
    assert enclave.document.timestamp == AT
    assert enclave.document.root == mint.root


def test_whatever_stands_under_a_simulated_root_is_evaluation(mint: Mint) -> None:
    assert verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT).security_mode == "evaluation"


def test_every_check_leaves_one_step_that_a_person_can_read(mint: Mint) -> None:
    steps = verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT).steps
    assert [step.id for step in steps] == [f"ATT-{number:02}" for number in range(1, 11)]
    assert all(step.title and step.detail and step.detail.isprintable() for step in steps)


def test_a_refusal_carries_the_steps_that_passed(mint: Mint) -> None:
    error = refusal(mint, BindingMismatch, nonce=b"\xff" * 32)
    assert [step.id for step in error.steps] == [f"ATT-{number:02}" for number in range(1, 8)]


def test_a_nonce_that_was_not_asked_for_is_not_recorded_as_passed(mint: Mint) -> None:
    enclave = verify_enclave(mint.document(nonce=None), mint.policy, nonce=None, now=AT)
    assert "ATT-08" not in {step.id for step in enclave.steps}


@pytest.mark.parametrize("nonce", [b"", NONCE[:31], NONCE + b"\0"], ids=len)
def test_asking_with_a_nonce_of_another_length_is_our_own_bug(mint: Mint, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        verify_enclave(mint.document(), mint.policy, nonce=nonce, now=AT)


def test_a_clock_without_time_zone_is_our_own_bug(mint: Mint) -> None:
    with pytest.raises(ValueError, match="time zone"):
        verify_enclave(mint.document(), mint.policy, nonce=NONCE, now=AT.replace(tzinfo=None))


# --- signature


def test_both_forms_of_s_are_accepted_and_give_one_id(mint: Mint) -> None:
    def other_s(signature: bytes) -> bytes:
        return signature[:48] + (P384_ORDER - int.from_bytes(signature[48:], "big")).to_bytes(48, "big")

    payload = raw_map(mint.pairs())
    documents = [mint.seal(payload), mint.seal(payload, signature=other_s)]
    ids = {verify_enclave(raw, mint.policy, nonce=NONCE, now=AT).document.payload_sha256 for raw in documents}
    assert len(ids) == 1


@pytest.mark.parametrize("byte", [0, 47, 48, 95])
def test_a_damaged_signature_is_refused(mint: Mint, byte: int) -> None:
    def damage(signature: bytes) -> bytes:
        return signature[:byte] + bytes([signature[byte] ^ 1]) + signature[byte + 1 :]

    with pytest.raises(ForgedDocument):
        verify_enclave(mint.seal(raw_map(mint.pairs()), signature=damage), mint.policy, nonce=NONCE, now=AT)


def test_a_payload_signed_by_another_key_is_refused(mint: Mint) -> None:
    payload = raw_map(mint.pairs())
    with pytest.raises(ForgedDocument):
        verify_enclave(mint.seal(payload, signature=lambda _: Mint().sign(payload)), mint.policy, nonce=NONCE, now=AT)


def test_a_signature_over_the_payload_alone_is_refused(mint: Mint) -> None:
    raw = mint.seal(raw_map(mint.pairs()), signature=lambda _: mint.sign(b""))
    with pytest.raises(ForgedDocument):
        verify_enclave(raw, mint.policy, nonce=NONCE, now=AT)


# --- time


@pytest.mark.parametrize("age", [timedelta(), MAX_AGE, -60 * SECOND], ids=str)
def test_documents_within_age_and_skew_are_accepted(mint: Mint, age: timedelta) -> None:
    assert verify_enclave(mint.document(timestamp=made(AT - age)), mint.policy, nonce=NONCE, now=AT)


@pytest.mark.parametrize(
    ("age", "code"), [(MAX_AGE + SECOND, "STALE_DOCUMENT"), (-61 * SECOND, "FUTURE_DOCUMENT")], ids=str
)
def test_a_document_of_another_time_is_refused_though_its_chain_is_valid(mint: Mint, age: timedelta, code: str) -> None:
    assert refusal(mint, StaleDocument, timestamp=made(AT - age)).code == code


def test_one_millisecond_over_the_age_is_too_old(mint: Mint) -> None:
    refusal(mint, StaleDocument, timestamp=made(AT - MAX_AGE) - 1)


def test_the_policy_sets_the_age(mint: Mint) -> None:
    policy = replace(mint.policy, max_document_age=10 * SECOND)
    refusal(mint, StaleDocument, policy=policy, timestamp=made(AT - 11 * SECOND))


def test_a_replay_two_hours_later_within_the_leaf_s_life_is_refused(mint: Mint) -> None:
    with pytest.raises(StaleDocument):
        verify_document(mint.document(), mint.policy.roots, now=AT + timedelta(hours=2), max_age=MAX_AGE)


def test_an_archived_document_is_another_type_than_a_verified_one(mint: Mint) -> None:
    raw = mint.document()
    archived = verify_archived_document(raw, mint.policy.roots)
    verified = verify_document(raw, mint.policy.roots, now=AT, max_age=MAX_AGE)
    assert type(archived) is ArchivedDocument
    assert type(verified) is VerifiedDocument
    assert not isinstance(archived, VerifiedDocument)
    assert archived.payload_sha256 == verified.payload_sha256


def test_an_archived_enclave_is_held_against_the_policy_too(mint: Mint) -> None:
    assert verify_archived_enclave(mint.document(), mint.policy).receipt_key == RECEIPT_KEY
    for raw in (mint.document(pcrs={**PCRS, 2: PCR1}), mint.document(pcrs={**PCRS, 0: ZERO})):
        with pytest.raises(MeasurementMismatch):
            verify_archived_enclave(raw, mint.policy)


# --- measurements


@pytest.mark.parametrize("zero", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_debug_enclave_is_refused_whatever_the_policy_says(mint: Mint, zero: tuple[int, ...]) -> None:
    pcrs = {**PCRS, **dict.fromkeys(zero, ZERO)}
    assert refusal(mint, MeasurementMismatch, pcrs=pcrs).code == "DEBUG_ENCLAVE"
    assert recipient_refusal(mint, MeasurementMismatch, pcrs=pcrs) == "DEBUG_ENCLAVE"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_document_without_pcr_0_to_2_is_refused(mint: Mint, index: int) -> None:
    pcrs = {key: value for key, value in PCRS.items() if key != index}
    assert refusal(mint, MeasurementMismatch, pcrs=pcrs).code == "PCR_MISSING"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_another_build_is_refused(mint: Mint, index: int) -> None:
    error = refusal(mint, MeasurementMismatch, pcrs={**PCRS, index: b"\xee" * 48})
    assert error.code == "MEASUREMENT_MISMATCH"
    assert f"PCR{index} is eeee" in error.detail


def test_a_mixture_of_two_accepted_builds_is_refused(mint: Mint) -> None:
    other = [bytes([0xB0 + index]) * 48 for index in range(3)]
    policy = TrustPolicy((mint.root,), (Measurements(PCR0, PCR1, PCR2), Measurements(*other)))
    assert verify_enclave(
        mint.document(pcrs=dict(enumerate(other))), policy, nonce=NONCE, now=AT
    ).measurements == Measurements(*other)
    for mixed in ((PCR0, other[1], PCR2), (other[0], PCR1, PCR2), (PCR0, PCR1, other[2])):
        refusal(mint, MeasurementMismatch, policy=policy, pcrs=dict(enumerate(mixed)))


@pytest.mark.parametrize("index", [3, 4, 8])
def test_the_right_build_in_another_account_is_refused_when_the_policy_pins_where(mint: Mint, index: int) -> None:
    pinned = Measurements(PCR0, PCR1, PCR2, **{f"pcr{index}": b"\xcc" * 48})
    policy = TrustPolicy((mint.root,), (pinned,))
    mine, theirs = ({**PCRS, index: bytes([fill]) * 48} for fill in (0xCC, 0xDD))
    assert verify_enclave(mint.document(pcrs=mine), policy, nonce=NONCE, now=AT)
    refusal(mint, MeasurementMismatch, policy=policy, pcrs=theirs)
    refusal(mint, MeasurementMismatch, policy=policy, pcrs=PCRS)


# --- nonce and keys


@pytest.mark.parametrize(
    "nonce", [NONCE[:31], NONCE[1:], NONCE + b"\0", b"", NONCE[:16], NONCE[::-1], bytes(32)], ids=bytes.hex
)
def test_a_nonce_is_equal_or_refused(mint: Mint, nonce: bytes) -> None:
    with pytest.raises(BindingMismatch) as refused:
        verify_enclave(mint.document(nonce=nonce), mint.policy, nonce=NONCE, now=AT)
    assert refused.value.code == "NONCE_MISMATCH"


@pytest.mark.parametrize("absent", [None, ...], ids=["null", "left out"])
@pytest.mark.parametrize("field", ["nonce", "public_key", "user_data"])
def test_a_missing_binding_is_a_failure_not_a_check_to_skip(mint: Mint, field: str, absent: object) -> None:
    with pytest.raises(BindingMismatch) as refused:
        verify_enclave(mint.document(**{field: absent}), mint.policy, nonce=NONCE, now=AT)
    assert refused.value.code == f"MISSING_{field.upper()}"


KEYS = {
    "empty": b"",
    "31 bytes": RECEIPT_KEY.raw[:31],
    "33 bytes": RECEIPT_KEY.raw + b"\0",
    "in DER": spki(ed25519.Ed25519PrivateKey.generate()),
    "of low order": bytes(32),
    "not canonical": b"\xee" + b"\xff" * 30 + b"\x7f",
    "not a point": (2).to_bytes(32, "little"),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_receipt_key_that_cannot_be_trusted_is_refused(mint: Mint, key: bytes) -> None:
    assert refusal(mint, BindingMismatch, public_key=key).code == "KEY_REJECTED"


@pytest.mark.parametrize("key", [bytes(32), b"\xee" + b"\xff" * 30 + b"\x7f"], ids=["low order", "not canonical"])
def test_an_identity_key_that_cannot_be_trusted_is_refused(mint: Mint, key: bytes) -> None:
    user_data = BINDING.encode().replace(IDENTITY_KEY.raw, key)
    assert refusal(mint, BindingMismatch, user_data=user_data).code == "KEY_REJECTED"


# --- purpose


SESSION = cbor2.loads(BINDING.encode())
MALFORMED: dict[str, bytes] = {
    "a digest missing": cbor2.dumps({key: SESSION[key] for key in (0, 1, 2, 3)}),
    "one field more": cbor2.dumps({**SESSION, 5: b"\0" * 32}),
    "a digest of 31 bytes": cbor2.dumps({**SESSION, 4: b"\0" * 31}),
    "a digest as text": cbor2.dumps({**SESSION, 4: "0" * 32}),
    "null digest": cbor2.dumps({**SESSION, 4: None}),
    "not deterministic": cbor2.dumps(dict(reversed(SESSION.items()))),
    "trailing byte": BINDING.encode() + b"\0",
    "label true for 1": raw_map([(cbor2.dumps(key), cbor2.dumps(value)) for key, value in SESSION.items()]).replace(
        b"\x01\x58\x20" + IDENTITY_KEY.raw, b"\xf5\x58\x20" + IDENTITY_KEY.raw
    ),
    "not CBOR": b"\xff",
    "empty": b"",
}


@pytest.mark.parametrize("user_data", MALFORMED.values(), ids=MALFORMED)
def test_user_data_of_another_form_is_refused(mint: Mint, user_data: bytes) -> None:
    assert refusal(mint, BindingMismatch, user_data=user_data).code == "MALFORMED_BINDING"


@pytest.mark.parametrize(
    "user_data",
    [
        KMS.encode(),
        cbor2.dumps({**SESSION, 0: "ephemeralml/session/v2"}),
        cbor2.dumps({0: None}),
        cbor2.dumps([]),
        b"\0",
    ],
    ids=["KMS", "next version", "null", "array", "integer"],
)
def test_a_document_made_for_another_purpose_opens_no_session(mint: Mint, user_data: bytes) -> None:
    assert refusal(mint, BindingMismatch, user_data=user_data).code == "WRONG_PURPOSE"
    assert refusal(mint, BindingMismatch, user_data=user_data, public_key=RSA_SPKI).code == "WRONG_PURPOSE"


def test_bindings_survive_encoding() -> None:
    assert SessionBinding.parse(BINDING.encode()) == BINDING
    assert KmsBinding.parse(KMS.encode()) == KMS


def test_a_binding_of_wrong_sizes_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KmsBinding(b"short").encode()


# --- recipients of data keys


def test_a_recipient_for_kms_is_accepted(mint: Mint) -> None:
    raw = mint.document(public_key=RSA_SPKI, user_data=KMS.encode(), nonce=None)
    recipient = verify_recipient(raw, mint.policy.roots, now=AT, max_age=MAX_AGE)
    assert recipient.rsa_public_key_spki == RSA_SPKI
    assert recipient.binding == KMS
    assert [step.id for step in recipient.steps][-2:] == ["ATT-09", "ATT-11"]


def test_a_session_document_gets_no_data_key(mint: Mint) -> None:
    assert recipient_refusal(mint, BindingMismatch, user_data=BINDING.encode()) == "WRONG_PURPOSE"


@pytest.mark.parametrize("field", ["public_key", "user_data"])
def test_a_recipient_without_key_or_purpose_gets_no_data_key(mint: Mint, field: str) -> None:
    assert recipient_refusal(mint, BindingMismatch, **{field: None}) == f"MISSING_{field.upper()}"


def test_a_stale_recipient_gets_no_data_key(mint: Mint) -> None:
    assert recipient_refusal(mint, StaleDocument, timestamp=made(AT - MAX_AGE - SECOND)) == "STALE_DOCUMENT"


RSA_KEYS = {
    "a raw Ed25519 key": RECEIPT_KEY.raw,
    "a P-256 key": spki(ec.generate_private_key(ec.SECP256R1())),
    "RSA-1024": spki(rsa.generate_private_key(65537, 1024)),
    "exponent 3": spki(rsa.generate_private_key(3, 2048)),
    "a trailing byte": RSA_SPKI + b"\0",
    "PKCS#1": rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "PEM": rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "empty": b"",
}


@pytest.mark.parametrize("key", RSA_KEYS.values(), ids=RSA_KEYS)
def test_only_an_rsa_2048_key_in_der_receives_data_keys(mint: Mint, key: bytes) -> None:
    assert recipient_refusal(mint, BindingMismatch, public_key=key) == "KEY_REJECTED"


# --- whatever else a host may send


def test_no_damaged_byte_of_a_document_is_accepted(mint: Mint) -> None:
    raw = mint.document()
    for index in range(0, len(raw), 3):
        damaged = raw[:index] + bytes([raw[index] ^ 0x40]) + raw[index + 1 :]
        with pytest.raises(AttestationError):
            verify_enclave(damaged, mint.policy, nonce=NONCE, now=AT)


def test_no_cut_document_is_accepted(mint: Mint) -> None:
    raw = mint.document()
    with tally("INV-10") as tried:
        for length in range(0, len(raw), 7):
            tried.case()
            with pytest.raises(MalformedDocument):
                verify_enclave(raw[:length], mint.policy, nonce=NONCE, now=AT)
