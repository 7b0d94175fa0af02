"""Who gets a data key out of KMS: the enclave that the key policy names, attested now, and nobody else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ephemeral.errors import ForgedRelease
from ephemeral_devstack.nsm import SimulatedAuthority, SimulatedNsm
from tests.support.simulated_kms import CONTEXT, PCRS, AskingEnclave, SimulatedKms, build, code_of

OTHER_BUILD = {0: b"\x20" * 48, 1: b"\x21" * 48, 2: b"\x22" * 48}


@pytest.fixture
def enclave(nsm: SimulatedNsm) -> AskingEnclave:
    return AskingEnclave(nsm)


@pytest.fixture
def wrapped(kms: SimulatedKms) -> bytes:
    return kms.data_key(kms.create_key())[1]


def refused(kms: SimulatedKms, blob: bytes, context: dict[str, str] | None = None, **call: Any) -> tuple[str, int]:
    """Decrypt as the host and return how it was refused."""
    with pytest.raises(ClientError) as caught:
        kms.client("host").decrypt(
            CiphertextBlob=blob, EncryptionContext=CONTEXT if context is None else context, **call
        )
    return code_of(caught.value)


def test_attested_enclave_gets_the_data_key_and_the_host_sees_only_ciphertext(
    kms: SimulatedKms, enclave: AskingEnclave
) -> None:
    plaintext, wrapped = kms.data_key(kms.create_key())
    answer = kms.client("host").decrypt(
        CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=enclave.recipient()
    )
    assert "Plaintext" not in answer
    assert plaintext not in answer["CiphertextForRecipient"]
    assert enclave.key.open(answer["CiphertextForRecipient"]).reveal() == plaintext


def test_replayed_document_yields_ciphertext_that_only_the_enclave_opens(
    kms: SimulatedKms, enclave: AskingEnclave, nsm: SimulatedNsm, wrapped: bytes
) -> None:
    answer = kms.client("host").decrypt(
        CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=enclave.recipient()
    )
    with pytest.raises(ForgedRelease):
        AskingEnclave(nsm).key.open(answer["CiphertextForRecipient"])


@pytest.mark.parametrize("role", ["host", "publisher"])
def test_nobody_decrypts_without_attestation(kms: SimulatedKms, wrapped: bytes, role: str) -> None:
    with pytest.raises(ClientError) as caught:
        kms.client(role).decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT)
    assert code_of(caught.value) == ("AccessDeniedException", 400)
    assert "explicit deny" in str(caught.value)


@pytest.mark.parametrize("register", [0, 1, 2])
def test_enclave_with_one_other_measurement_is_denied(
    kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes, register: int
) -> None:
    recipient = enclave.recipient(pcrs={**PCRS, register: b"\x99" * 48})
    assert refused(kms, wrapped, Recipient=recipient) == ("AccessDeniedException", 400)


def test_measurements_mixed_from_two_accepted_builds_are_denied(kms: SimulatedKms, enclave: AskingEnclave) -> None:
    _, wrapped = kms.data_key(kms.create_key(build(PCRS), build(OTHER_BUILD)))
    mixed = enclave.recipient(pcrs={**PCRS, 1: OTHER_BUILD[1]})
    assert refused(kms, wrapped, Recipient=mixed) == ("AccessDeniedException", 400)
    for accepted in (PCRS, OTHER_BUILD):
        kms.client("host").decrypt(
            CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=enclave.recipient(pcrs=accepted)
        )


def test_debug_enclave_with_zero_measurements_satisfies_no_condition(
    kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes
) -> None:
    debug = enclave.recipient(pcrs=dict.fromkeys(range(16), bytes(48)))
    assert refused(kms, wrapped, Recipient=debug) == ("AccessDeniedException", 400)


@pytest.mark.parametrize("key", ["ImageSha384", "PCR0"])
def test_policy_that_pins_zero_measurements_releases_to_nobody(
    kms: SimulatedKms, enclave: AskingEnclave, key: str
) -> None:
    arn = kms.create_key()
    _, wrapped = kms.data_key(arn)
    zero = {f"kms:RecipientAttestation:{key}": "00" * 48}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    statements = [{**allow, "Action": "kms:PutKeyPolicy"}, {**allow, "Condition": {"StringEquals": zero}}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    kms.client("publisher").put_key_policy(KeyId=arn, Policy=policy)
    debug = enclave.recipient(pcrs=dict.fromkeys(range(16), bytes(48)))
    assert refused(kms, wrapped, Recipient=debug) == ("AccessDeniedException", 400)


def test_same_measurements_under_a_foreign_root_are_refused(kms: SimulatedKms, wrapped: bytes) -> None:
    foreign = AskingEnclave(SimulatedNsm(PCRS))
    assert refused(kms, wrapped, Recipient=foreign.recipient()) == ("ValidationException", 400)


@pytest.mark.parametrize("minutes", [6, -6], ids=["old", "from the future"])
def test_document_not_made_now_is_refused(
    kms: SimulatedKms, root: SimulatedAuthority, wrapped: bytes, minutes: int
) -> None:
    now = datetime.now(UTC)
    module = SimulatedNsm(PCRS, now=now - timedelta(hours=1), root=root)  # so that its leaf covers both times
    recipient = AskingEnclave(module).recipient(timestamp=now - timedelta(minutes=minutes))
    assert refused(kms, wrapped, Recipient=recipient) == ("ValidationException", 400)
    fresh = AskingEnclave(module).recipient(timestamp=datetime.now(UTC))
    kms.client("host").decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=fresh)


@pytest.mark.parametrize("at", [0, 40, 900, -1])
def test_tampered_document_is_refused(kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes, at: int) -> None:
    document = bytearray(enclave.recipient()["AttestationDocument"])
    document[at] ^= 1
    assert refused(kms, wrapped, Recipient=enclave.recipient_of(bytes(document))) == ("ValidationException", 400)


def ec_key() -> bytes:
    return (
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def short_rsa_key() -> bytes:
    return (
        rsa.generate_private_key(65537, 1024).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


@pytest.mark.parametrize("key", [lambda: None, lambda: b"not a key", ec_key, short_rsa_key])
def test_document_without_an_rsa_2048_key_is_refused(
    kms: SimulatedKms, nsm: SimulatedNsm, wrapped: bytes, key: Callable[[], bytes | None]
) -> None:
    recipient = AskingEnclave.recipient_of(nsm.attest(public_key=key()))
    assert refused(kms, wrapped, Recipient=recipient) == ("ValidationException", 400)


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ({}, "AccessDeniedException"),
        ({"model_id": "another-model"}, "AccessDeniedException"),
        ({**CONTEXT, "extra": "x"}, "AccessDeniedException"),
        ({**CONTEXT, "version": "2"}, "InvalidCiphertextException"),
        ({**CONTEXT, "content_sha256": "cd" * 32}, "InvalidCiphertextException"),
        ({"model_id": CONTEXT["model_id"]}, "AccessDeniedException"),
        ({**CONTEXT, "MODEL_ID": "x"}, "ValidationException"),
        ({"Model_id": CONTEXT["model_id"], "version": "1", "content_sha256": "ab" * 32}, "AccessDeniedException"),
    ],
    ids=[
        "missing",
        "another model",
        "extra",
        "another version",
        "another content",
        "shortened",
        "ambiguous case",
        "another case",
    ],
)
def test_data_key_opens_only_under_its_own_encryption_context(
    kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes, context: dict[str, str], name: str
) -> None:
    assert refused(kms, wrapped, context, Recipient=enclave.recipient()) == (name, 400)


@pytest.mark.parametrize("at", [0, 1, 20, -1])
def test_damaged_blob_is_refused(kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes, at: int) -> None:
    damaged = bytearray(wrapped)
    damaged[at] ^= 1
    assert refused(kms, bytes(damaged), Recipient=enclave.recipient()) == ("InvalidCiphertextException", 400)


def test_blob_of_another_key_than_the_one_named_is_refused(
    kms: SimulatedKms, enclave: AskingEnclave, wrapped: bytes
) -> None:
    other = kms.create_key()
    assert refused(kms, wrapped, KeyId=other, Recipient=enclave.recipient()) == ("IncorrectKeyException", 400)


def test_disabled_key_releases_nothing_until_it_is_enabled(kms: SimulatedKms, enclave: AskingEnclave) -> None:
    arn = kms.create_key()
    _, wrapped = kms.data_key(arn)
    kms.client("publisher").disable_key(KeyId=arn)
    assert refused(kms, wrapped, Recipient=enclave.recipient()) == ("DisabledException", 409)
    kms.client("publisher").enable_key(KeyId=arn)
    kms.client("host").decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=enclave.recipient())


def test_key_pending_deletion_releases_nothing(kms: SimulatedKms, enclave: AskingEnclave) -> None:
    arn = kms.create_key()
    _, wrapped = kms.data_key(arn)
    kms.client("publisher").schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert refused(kms, wrapped, Recipient=enclave.recipient()) == ("KMSInvalidStateException", 409)


def test_host_that_makes_its_own_data_key_is_denied(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    with pytest.raises(ClientError) as caught:
        kms.client("host").generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert code_of(caught.value) == ("AccessDeniedException", 400)
