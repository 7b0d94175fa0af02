"""Key management, data keys and random bytes, as unmodified boto3 sees them."""

import base64
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ephemeral_devstack.nsm import SimulatedNsm
from tests.support.simulated_kms import CONTEXT, AskingEnclave, SimulatedKms, code_of

ALLOW_NOBODY = '{"Version": "2012-10-17", "Statement": []}'


def refused(call: Any, **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return code_of(caught.value)


def test_key_is_described_by_id_and_by_arn(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    by_arn = kms.client("publisher").describe_key(KeyId=arn)["KeyMetadata"]
    by_id = kms.client("publisher").describe_key(KeyId=arn.rpartition("/")[2])["KeyMetadata"]
    assert by_arn == by_id
    assert (by_arn["Arn"], by_arn["KeyState"], by_arn["KeySpec"]) == (arn, "Enabled", "SYMMETRIC_DEFAULT")


@pytest.mark.parametrize("name", ["alias/none", "00000000-0000-0000-0000-000000000000", "not-a-key"])
def test_key_that_is_not_there(kms: SimulatedKms, name: str) -> None:
    assert refused(kms.client("publisher").describe_key, KeyId=name) == ("NotFoundException", 400)


def test_host_may_neither_create_nor_manage_keys(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    policy = kms.client("publisher").get_key_policy(KeyId=arn)["Policy"]
    host = kms.client("host")
    denied = ("AccessDeniedException", 400)
    assert refused(host.create_key, Policy=policy) == denied
    assert refused(host.put_key_policy, KeyId=arn, Policy=policy) == denied
    assert refused(host.disable_key, KeyId=arn) == denied
    assert refused(host.schedule_key_deletion, KeyId=arn) == denied


def test_policy_that_locks_its_writer_out_is_refused(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    refusal = refused(kms.client("publisher").put_key_policy, KeyId=arn, Policy=ALLOW_NOBODY)
    assert refusal == ("MalformedPolicyDocumentException", 400)
    kms.client("publisher").put_key_policy(KeyId=arn, Policy=ALLOW_NOBODY, BypassPolicyLockoutSafetyCheck=True)
    assert refused(kms.client("publisher").describe_key, KeyId=arn) == ("AccessDeniedException", 400)


def test_key_without_a_policy_is_refused(kms: SimulatedKms) -> None:
    assert refused(kms.client("publisher").create_key) == ("ValidationException", 400)


def test_pending_deletion_cannot_be_enabled_away(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    answer = kms.client("publisher").schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert answer["KeyState"] == "PendingDeletion"
    assert refused(kms.client("publisher").enable_key, KeyId=arn) == ("KMSInvalidStateException", 409)


def test_every_data_key_is_another(kms: SimulatedKms) -> None:
    arn = kms.create_key()
    (first, first_wrapped), (second, second_wrapped) = kms.data_key(arn), kms.data_key(arn)
    assert len(first) == len(second) == 32
    assert first != second
    assert first_wrapped != second_wrapped


@pytest.mark.parametrize("size", [{}, {"KeySpec": "AES_256", "NumberOfBytes": 32}])
def test_data_key_needs_exactly_one_size(kms: SimulatedKms, size: dict[str, object]) -> None:
    call = kms.client("publisher").generate_data_key
    refusal = refused(call, KeyId=kms.create_key(), EncryptionContext=CONTEXT, **size)
    assert refusal == ("ValidationException", 400)


def test_encrypted_secret_is_released_like_a_data_key(kms: SimulatedKms, nsm: SimulatedNsm) -> None:
    arn = kms.create_key()
    kms.allow(arn, "publisher", "kms:Encrypt")
    blob = kms.client("publisher").encrypt(KeyId=arn, Plaintext=b"k" * 32, EncryptionContext=CONTEXT)
    enclave = AskingEnclave(nsm)
    answer = kms.client("host").decrypt(
        CiphertextBlob=blob["CiphertextBlob"], EncryptionContext=CONTEXT, Recipient=enclave.recipient()
    )
    assert enclave.key.open(answer["CiphertextForRecipient"]).reveal() == b"k" * 32


def test_dry_run_releases_nothing(kms: SimulatedKms, nsm: SimulatedNsm) -> None:
    _, wrapped = kms.data_key(kms.create_key())
    refusal = refused(
        kms.client("host").decrypt,
        CiphertextBlob=wrapped,
        EncryptionContext=CONTEXT,
        Recipient=AskingEnclave(nsm).recipient(),
        DryRun=True,
    )
    assert refusal == ("DryRunOperationException", 412)


def test_random_bytes_for_a_recipient_are_hidden_too(kms: SimulatedKms, nsm: SimulatedNsm) -> None:
    enclave = AskingEnclave(nsm)
    answer = kms.client("host").generate_random(NumberOfBytes=24, Recipient=enclave.recipient())
    assert "Plaintext" not in answer
    assert len(enclave.key.open(answer["CiphertextForRecipient"])) == 24


def test_operation_that_is_not_simulated_is_an_error(kms: SimulatedKms) -> None:
    assert refused(kms.client("publisher").list_keys) == ("UnknownOperationException", 400)


def test_everything_it_emits_says_simulated(kms: SimulatedKms) -> None:
    headers = kms.client("host").generate_random(NumberOfBytes=8)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["server"] == "EphemeralML-Simulated-KMS"
    assert headers["x-ephemeralml-simulated"] == "kms"
    assert "SIMULATED" in kms.ready_line
    assert {entry["simulated"] for entry in kms.audit()} == {"EphemeralML-Simulated-KMS"}


def test_audit_names_caller_key_and_recipient_but_holds_no_secret(kms: SimulatedKms, nsm: SimulatedNsm) -> None:
    plaintext, wrapped = kms.data_key(kms.create_key())
    recipient = AskingEnclave(nsm).recipient()
    kms.client("host").decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=recipient)
    entry = kms.audit()[-1]
    assert (entry["operation"], entry["outcome"], entry["principal"]) == (
        "Decrypt",
        "answered",
        kms.roles["host"].arn,
    )
    assert entry["encryption_context"] == CONTEXT
    assert entry["recipient"]["image_sha384"] == "10" * 48
    assert refused(kms.client("host").decrypt, CiphertextBlob=wrapped)[0] == kms.audit()[-1]["error"]
    log = kms.audit_path.read_text()
    assert plaintext.hex() not in log
    assert base64.b64encode(plaintext).decode() not in log
    assert all(role.secret_access_key not in log for role in kms.roles.values())


def test_credentials_are_readable_by_their_owner_only(kms: SimulatedKms) -> None:
    path = kms.audit_path.parent / "state" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(role.secret_access_key not in repr(role) for role in kms.roles.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root-sha256", "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"], "real enclaves"),
        (["--root-sha256", "zz"], "hexadecimal"),
        (["--root-sha256", "ab" * 32, "--listen", "0.0.0.0:0"], "loopback"),
        (["--root-sha256", "ab" * 32, "--role", "x=y"], "arn:aws:iam"),
        (["--root-sha256", "ab" * 32, "--fault-plan", "/nonexistent"], "fault plan"),
        ([], "--root-sha256"),
    ],
)
def test_bad_argument_stops_the_start_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "ephemeral_devstack.kms", "--state", str(tmp_path / "state"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
