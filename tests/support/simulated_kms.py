"""The SIMULATED KMS in its own process, the roles' unmodified boto3 clients, and an enclave that asks it for keys."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from ephemeral.trusted.cms import RecipientKey
from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.credentials import RoleCredentials, load_credentials
from ephemeral_devstack.key_policy import development_key_policy
from ephemeral_devstack.nsm import SimulatedNsm
from tests.support.simulated_service import running_service

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

MODEL_ID = "tiny-model"
CONTEXT = {"model_id": MODEL_ID, "version": "1", "content_sha256": "ab" * 32}
PCRS = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48}
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1}, read_timeout=30)


@dataclass(frozen=True, slots=True)
class SimulatedKms:
    """The running KMS and everything its tests touch."""

    url: str
    ready_line: str
    roles: Mapping[str, RoleCredentials]
    audit_path: Path
    plan_path: Path

    def client(self, role: str) -> "KMSClient":
        """Return boto3's KMS client as the role, without retries: a planned fault must be seen."""
        return self.client_as(self.roles[role])

    def client_as(self, credentials: RoleCredentials) -> "KMSClient":
        """Return boto3's KMS client with these credentials."""
        return credentials.session().client("kms", endpoint_url=self.url, config=ONE_ATTEMPT)

    def create_key(self, *builds: Measurements) -> str:
        """Create a key that is released to the builds, and return its ARN."""
        policy = development_key_policy(
            publisher_arn=self.roles["publisher"].arn,
            host_arn=self.roles["host"].arn,
            measurements=builds or [build(PCRS)],
            model_ids=[MODEL_ID],
        )
        return self.client("publisher").create_key(Policy=policy)["KeyMetadata"]["Arn"]

    def allow(self, key_arn: str, role: str, action: str) -> None:
        """Add to a key's policy what a release does not need."""
        publisher = self.client("publisher")
        policy = json.loads(publisher.get_key_policy(KeyId=key_arn)["Policy"])
        more = {"Effect": "Allow", "Principal": {"AWS": self.roles[role].arn}, "Action": action, "Resource": "*"}
        policy["Statement"].append(more)
        publisher.put_key_policy(KeyId=key_arn, Policy=json.dumps(policy))

    def data_key(self, key_arn: str, context: Mapping[str, str] = CONTEXT) -> tuple[bytes, bytes]:
        """Generate a data key as the publisher; return it plain and wrapped."""
        answer = self.client("publisher").generate_data_key(KeyId=key_arn, KeySpec="AES_256", EncryptionContext=context)
        return answer["Plaintext"], answer["CiphertextBlob"]

    def plan(self, *faults: Mapping[str, object]) -> None:
        """Replace the fault plan."""
        self.plan_path.write_text(json.dumps(faults))

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit log so far."""
        return [json.loads(line) for line in self.audit_path.read_text().splitlines()]


class AskingEnclave:
    """The enclave's half of one Decrypt: a fresh RSA key, attested, and the opening of the answer."""

    def __init__(self, nsm: SimulatedNsm) -> None:
        self.key = RecipientKey.generate()
        self._nsm = nsm

    def recipient(self, **document: Any) -> Any:
        """Return the Recipient parameter; `document` goes to the security module."""
        return self.recipient_of(self._nsm.attest(public_key=self.key.spki_der, **document))

    @staticmethod
    def recipient_of(document: bytes) -> Any:
        """Return the Recipient parameter for these bytes."""
        return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}


def build(pcrs: Mapping[int, bytes]) -> Measurements:
    """Return the measurements of the build with these PCRs."""
    return Measurements(pcrs[0], pcrs[1], pcrs[2])


def code_of(error: ClientError) -> tuple[str, int]:
    """Return AWS's error name and the HTTP status."""
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


@contextmanager
def running_kms(nsm: SimulatedNsm, directory: Path) -> Iterator[SimulatedKms]:
    """Run a KMS that trusts the security module's root."""
    state, audit, plan = directory / "state", directory / "audit.jsonl", directory / "plan.json"
    plan.write_text("[]")
    arguments = ["--listen", "127.0.0.1:0", "--root-sha256", nsm.root_sha256.hex(), "--state", str(state)]
    arguments += ["--audit", str(audit), "--fault-plan", str(plan)]
    with running_service("ephemeral_devstack.kms", arguments, directory / "kms.log") as service:
        roles = load_credentials(state / "credentials.json")
        yield SimulatedKms(service.url, service.ready_line, roles, audit, plan)
