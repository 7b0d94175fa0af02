"""The commands as a user runs them, against the SIMULATED KMS over HTTP, and who gets a data key then."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from ephemeral_devstack.credentials import RoleCredentials, role_arn
from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeral_devstack.nsm import SimulatedAuthority, SimulatedNsm
from tests.support.key_policy_attacks import CONTEXT, HOST, MODELS, PUBLISHER, Breach, breaches
from tests.support.key_policy_corpus import KeyPolicyCase, corpus, parameters
from tests.support.simulated_kms import PCRS, AskingEnclave, SimulatedKms, code_of, running_kms

COMMAND: Final = [sys.executable, "-c", "from ephemeralml.cli import main; main()", "kms"]


@pytest.fixture(scope="module")
def nsm() -> SimulatedNsm:
    return SimulatedNsm(PCRS, root=SimulatedAuthority.new_root(datetime.now(UTC) - timedelta(days=1)))


@pytest.fixture(scope="module")
def kms(nsm: SimulatedNsm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedKms]:
    with running_kms(nsm, tmp_path_factory.mktemp("kms")) as running:
        yield running


def run(*arguments: str, role: RoleCredentials | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env = {**clean, "AWS_EC2_METADATA_DISABLED": "true", **(role.environment() if role else {})}
    done = subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def measurements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pcrs") / "pcrs.json"
    pcrs = {f"PCR{index}": value.hex() for index, value in PCRS.items()}
    path.write_text(json.dumps({"Measurements": {"HashAlgorithm": "Sha384 { ... }", **pcrs}}))
    return path


@pytest.fixture(scope="module")
def policy(measurements: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    roles = ("--host-role", HOST, "--publisher-role", PUBLISHER, "--admin-role", PUBLISHER)
    wanted = ("--model", MODELS[0], "--model", MODELS[1], "--out", str(path))
    done = run("policy", "--measurements", str(measurements), *roles, *wanted)
    assert done.returncode == 0, done.stderr
    return path


def open_key(kms: SimulatedKms) -> str:
    """Create a key that anybody may use, as AWS's default policy has it."""
    allow = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*"}
    document = {"Version": "2012-10-17", "Statement": [{**allow, "Resource": "*"}]}
    return kms.client("publisher").create_key(Policy=json.dumps(document))["KeyMetadata"]["Arn"]


def decrypt(kms: SimulatedKms, wrapped: bytes, role: str = "host", **call: Any) -> Any:
    return kms.client(role).decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT, **call)


def test_applied_policy_turns_an_open_key_into_one_for_attested_enclaves(
    kms: SimulatedKms, nsm: SimulatedNsm, policy: Path, measurements: Path
) -> None:
    key = open_key(kms)
    plaintext, wrapped = kms.data_key(key, CONTEXT)
    assert decrypt(kms, wrapped)["Plaintext"] == plaintext

    arguments = (str(policy), "--key", key, "--endpoint-url", kms.url, "--measurements", str(measurements), "--yes")
    done = run("apply", *arguments, role=kms.roles["publisher"])
    assert done.returncode == 0, done.stderr
    assert "+++ wanted" in done.stdout
    assert "in place" in done.stdout

    enclave = AskingEnclave(nsm)
    answer = decrypt(kms, wrapped, Recipient=enclave.recipient())
    assert enclave.key.open(answer["CiphertextForRecipient"]).reveal() == plaintext
    other = AskingEnclave(nsm).recipient(pcrs={**PCRS, 1: b"\x99" * 48})
    for role, recipient in (("host", {}), ("publisher", {}), ("host", {"Recipient": other})):
        with pytest.raises(ClientError) as caught:
            decrypt(kms, wrapped, role, **recipient)
        assert code_of(caught.value) == ("AccessDeniedException", 400)

    again = run("apply", *arguments, role=kms.roles["publisher"])
    assert again.returncode == 0
    assert "wanted" not in again.stdout
    assert kms.data_key(key, CONTEXT)[1]


def first_theft(case: KeyPolicyCase) -> Breach | None:
    attacks = (attack for attack in breaches(KeyPolicy.parse(case.text)) if attack.action == "Decrypt")
    return next((item for item in attacks if item.principal in (HOST, PUBLISHER) and item.context == CONTEXT), None)


THEFTS: Final = [
    pytest.param(case, theft, id=case.name)
    for case in corpus("bad")
    if case.stored and (theft := first_theft(case)) is not None
]


@pytest.mark.parametrize(("case", "theft"), THEFTS)
def test_bad_policy_gives_a_data_key_away_over_the_wire(
    case: KeyPolicyCase, theft: Breach, kms: SimulatedKms, nsm: SimulatedNsm
) -> None:
    key = open_key(kms)
    plaintext, wrapped = kms.data_key(key, CONTEXT)
    kms.client("publisher").put_key_policy(KeyId=key, Policy=case.text, BypassPolicyLockoutSafetyCheck=True)
    role = "host" if theft.principal == HOST else "publisher"
    if theft.pcrs is None:
        assert decrypt(kms, wrapped, role)["Plaintext"] == plaintext
        return
    enclave = AskingEnclave(nsm)
    answer = decrypt(kms, wrapped, role, Recipient=enclave.recipient(pcrs={**PCRS, **theft.pcrs}))
    assert enclave.key.open(answer["CiphertextForRecipient"]).reveal() == plaintext


def test_twenty_bad_policies_at_least_give_a_data_key_away() -> None:
    assert len(THEFTS) >= 20


class TestApplyRefuses:
    def bad(self, tmp_path: Path) -> Path:
        path = tmp_path / "bad.json"
        allow = {"Effect": "Allow", "Principal": {"AWS": PUBLISHER}, "Action": "kms:*", "Resource": "*"}
        path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
        return path

    def test_policy_with_findings(self, kms: SimulatedKms, tmp_path: Path) -> None:
        key = open_key(kms)
        before = kms.client("publisher").get_key_policy(KeyId=key)["Policy"]
        arguments = ("apply", str(self.bad(tmp_path)), "--key", key, "--endpoint-url", kms.url, "--yes")
        done = run(*arguments, role=kms.roles["publisher"])
        assert done.returncode == 1
        assert "KMS-001" in done.stdout
        assert kms.client("publisher").get_key_policy(KeyId=key)["Policy"] == before

    def test_findings_are_overridden_only_by_a_flag_that_says_unsafe(self, kms: SimulatedKms, tmp_path: Path) -> None:
        key, path = open_key(kms), self.bad(tmp_path)
        arguments = ("apply", str(path), "--key", key, "--endpoint-url", kms.url, "--yes", "--unsafe-accept-findings")
        done = run(*arguments, role=kms.roles["publisher"])
        assert done.returncode == 0, done.stderr
        assert "UNSAFE" in done.stderr
        assert kms.client("publisher").get_key_policy(KeyId=key)["Policy"] == path.read_text()

    def test_without_an_answer_nothing_changes(self, kms: SimulatedKms, policy: Path) -> None:
        key = open_key(kms)
        before = kms.client("publisher").get_key_policy(KeyId=key)["Policy"]
        arguments = ("apply", str(policy), "--key", key, "--endpoint-url", kms.url)
        for answer in ("", "n\n"):
            assert run(*arguments, role=kms.roles["publisher"], stdin=answer).returncode == 130
        assert kms.client("publisher").get_key_policy(KeyId=key)["Policy"] == before

    def test_role_that_may_not(self, kms: SimulatedKms, policy: Path) -> None:
        key = kms.create_key()
        done = run("apply", str(policy), "--key", key, "--endpoint-url", kms.url, "--yes", role=kms.roles["host"])
        assert done.returncode == 3
        assert "KMS_ACCESS_DENIED" in done.stderr

    def test_writer_that_would_lock_itself_out(self, kms: SimulatedKms, measurements: Path, tmp_path: Path) -> None:
        path = tmp_path / "policy.json"
        roles = ("--host-role", HOST, "--publisher-role", PUBLISHER, "--admin-role", role_arn("admin"))
        run("policy", "-m", str(measurements), *roles, "--model", "m", "--out", str(path))
        arguments = ("apply", str(path), "--key", kms.create_key(), "--endpoint-url", kms.url, "--yes")
        done = run(*arguments, role=kms.roles["publisher"])
        assert done.returncode == 3
        assert "will not allow you to update the key policy" in done.stderr

    def test_alias_in_place_of_a_key(self, policy: Path) -> None:
        done = run("apply", str(policy), "--key", "arn:aws:kms:us-east-1:111122223333:alias/models", "--yes")
        assert done.returncode == 2
        assert "KMS_KEY_ARN" in done.stderr

    def test_no_credentials(self, kms: SimulatedKms, policy: Path, tmp_path: Path) -> None:
        os_home = {"HOME": str(tmp_path)}
        arguments = ("apply", str(policy), "--key", kms.create_key(), "--endpoint-url", kms.url, "--yes")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**clean, **os_home, "AWS_EC2_METADATA_DISABLED": "true"},
        )
        assert done.returncode == 2
        assert "AWS_SETTINGS" in done.stderr

    def test_endpoint_that_is_no_url(self, kms: SimulatedKms, policy: Path) -> None:
        key = "arn:aws:kms:us-east-1:111122223333:key/x"
        arguments = ("apply", str(policy), "--key", key, "--endpoint-url", "kms", "--yes")
        done = run(*arguments, role=kms.roles["publisher"])
        assert done.returncode == 2
        assert "AWS_SETTINGS" in done.stderr

    def test_kms_that_does_not_answer(self, kms: SimulatedKms, policy: Path) -> None:
        key = "arn:aws:kms:us-east-1:111122223333:key/x"
        arguments = ("apply", str(policy), "--key", key, "--endpoint-url", "http://127.0.0.1:9", "--yes")
        done = run(*arguments, role=kms.roles["publisher"])
        assert done.returncode == 3
        assert "KMS_UNAVAILABLE" in done.stderr


class TestLintCommand:
    def test_good_policy(self, policy: Path, measurements: Path) -> None:
        done = run("lint", str(policy), "--measurements", str(measurements))
        assert done.returncode == 0
        assert "CLEAN" in done.stdout

    def test_without_measurements_it_says_what_was_not_compared(self, policy: Path) -> None:
        done = run("lint", str(policy))
        assert done.returncode == 0
        assert "SKIP" in done.stdout

    @pytest.mark.parametrize("case", parameters("bad", "string_like_star"))
    def test_bad_policy_as_json(self, case: KeyPolicyCase) -> None:
        done = run("lint", str(case.path), "--json")
        assert done.returncode == 1
        report = json.loads(done.stdout)
        assert report["verdict"] == "FINDINGS"
        (finding,) = report["findings"]
        assert finding["id"] == "KMS-004"
        assert finding["statement"].startswith("Release")
        assert all(finding[name] for name in ("title", "attack", "fix", "detail"))

    def test_file_that_is_no_policy(self, measurements: Path, tmp_path: Path) -> None:
        junk = tmp_path / "junk"
        junk.write_bytes(b"\xff")
        for arguments in (("lint", str(junk)), ("lint", "/nonexistent"), ("policy", "-m", str(junk))):
            assert run(*arguments).returncode == 2


def test_without_boto3_apply_says_what_to_install_and_lint_works(policy: Path) -> None:
    hide = "import sys; sys.modules['boto3'] = None; from ephemeralml.cli import main; main()"
    key = "arn:aws:kms:us-east-1:111122223333:key/x"
    command = [sys.executable, "-c", hide, "kms"]
    applied = subprocess.run(
        [*command, "apply", str(policy), "--key", key, "--yes"], capture_output=True, text=True, check=False
    )
    assert applied.returncode == 2
    assert "pip install 'ephemeralml[aws]'" in applied.stderr
    assert subprocess.run([*command, "lint", str(policy)], capture_output=True, check=False).returncode == 0
