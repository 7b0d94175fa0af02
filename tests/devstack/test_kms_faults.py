"""The fault plan: each fault once, at the planned call, and the attacks a dishonest host can make with KMS's answer."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from ephemeral.errors import ConfigError
from ephemeral_devstack.kms.faults import FaultKind, FaultPlan, parse_faults
from ephemeral_devstack.nsm import SimulatedNsm
from tests.support.simulated_kms import CONTEXT, AskingEnclave, SimulatedKms, code_of


def decrypted(kms: SimulatedKms, nsm: SimulatedNsm, wrapped: bytes) -> bytes:
    enclave = AskingEnclave(nsm)
    answer = kms.client("host").decrypt(
        CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=enclave.recipient()
    )
    return bytes(enclave.key.open(answer["CiphertextForRecipient"]).reveal())


@pytest.mark.parametrize(
    ("fault", "name", "status"),
    [
        ("throttle", "ThrottlingException", 400),
        ("error500", "KMSInternalException", 500),
        ("deny", "AccessDeniedException", 400),
    ],
)
def test_fault_strikes_the_planned_call_only(
    kms: SimulatedKms, nsm: SimulatedNsm, fault: str, name: str, status: int
) -> None:
    plaintext, wrapped = kms.data_key(kms.create_key())
    kms.plan({"operation": "Decrypt", "nth": 2, "fault": fault})
    assert decrypted(kms, nsm, wrapped) == plaintext
    with pytest.raises(ClientError) as caught:
        decrypted(kms, nsm, wrapped)
    assert code_of(caught.value) == (name, status)
    assert kms.audit()[-1]["fault"] == fault
    assert decrypted(kms, nsm, wrapped) == plaintext


def test_delayed_call_is_answered(kms: SimulatedKms, nsm: SimulatedNsm) -> None:
    plaintext, wrapped = kms.data_key(kms.create_key())
    kms.plan({"operation": "Decrypt", "nth": 0, "fault": "delay", "seconds": 0.01})
    assert decrypted(kms, nsm, wrapped) == plaintext


@pytest.mark.parametrize("fault", ["forge_cms", "swap_wrapped_key"])
def test_forged_or_swapped_answer_opens_to_a_wrong_key_as_a_real_attack_would(
    kms: SimulatedKms, nsm: SimulatedNsm, fault: str
) -> None:
    plaintext, wrapped = kms.data_key(kms.create_key())
    kms.plan({"operation": "Decrypt", "nth": 1, "fault": fault})
    wrong = decrypted(kms, nsm, wrapped)
    assert len(wrong) == len(plaintext)
    assert wrong != plaintext


def test_changed_plan_counts_anew_and_zero_means_every_call(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('[{"operation": "Decrypt", "nth": 2, "fault": "deny"}]')
    plan = FaultPlan(path)
    assert plan.next("Decrypt") is None
    path.write_text('[{"operation": "Decrypt", "nth": 0, "fault": "throttle"}]')
    struck = [plan.next("Decrypt") for _ in range(2)]
    assert [fault and fault.kind for fault in struck] == [FaultKind.THROTTLE] * 2
    assert plan.next("Encrypt") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[{"operation": "Decrypt", "nth": 1}]',
        '[{"operation": "Decrypt", "nth": 1, "fault": "meteor"}]',
        '[{"operation": "Decrypt", "nth": -1, "fault": "deny"}]',
        '[{"operation": "Decrypt", "nth": true, "fault": "deny"}]',
        '[{"operation": "Decrypt", "nth": 1, "fault": "delay", "seconds": 61}]',
        '[{"operation": "Decrypt", "nth": 1, "fault": "deny", "who": "host"}]',
    ],
)
def test_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_faults(text)
