"""A publisher's AWS: a KMS with a key, an S3 with a bucket, a signing key and a small model, all real services."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ephemeral.trusted.ed25519 import SigningKey
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeralml.publishing.checks import check_model
from ephemeralml.publishing.release import PublishedModel, Release
from ephemeralml.publishing.upload import publish
from tests.support.bert_folder import bert_files, write_files
from tests.support.simulated_kms import MODEL_ID, ONE_ATTEMPT, PCRS, SimulatedKms, running_kms
from tests.support.simulated_service import running_service

BUCKET = "models"
_VERSIONS = itertools.count(1, 2)


@dataclass(frozen=True)
class Account:
    """Everything a publisher needs; each test takes a version of its own with `fresh`."""

    kms: SimulatedKms
    key_arn: str
    s3_url: str
    publisher: SigningKey
    folder: Path
    version: int = 0

    @property
    def s3(self) -> Any:
        """boto3's client, without retries: a planned fault must be seen."""
        return self.s3_at(self.s3_url)

    def s3_at(self, url: str) -> Any:
        return self.kms.roles["publisher"].session().client("s3", endpoint_url=url, config=ONE_ATTEMPT)

    def fresh(self) -> "Account":
        return replace(self, version=next(_VERSIONS))

    @property
    def release(self) -> Release:
        return Release(MODEL_ID, self.version)

    @property
    def environment(self) -> dict[str, str]:
        """What the command line reads."""
        urls = {"AWS_ENDPOINT_URL_KMS": self.kms.url, "AWS_ENDPOINT_URL_S3": self.s3_url}
        return {**self.kms.roles["publisher"].environment(), **urls}

    def publish(self, **changes: Any) -> PublishedModel:
        arguments = {
            "signing_key": self.publisher,
            "key_arn": self.key_arn,
            "kms": self.kms.client("publisher"),
            "s3": self.s3,
            "bucket": BUCKET,
            **changes,
        }
        return publish(check_model(self.folder), self.release, **arguments)

    def objects(self) -> set[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"models/{MODEL_ID}/{self.version}/")
        return {entry["Key"] for entry in listed.get("Contents", [])}

    def stored(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def data_keys(self) -> int:
        """How many data keys were asked for so far."""
        return sum(entry["operation"] == "GenerateDataKey" for entry in self.kms.audit())


@contextmanager
def running_account(directory: Path) -> Iterator[Account]:
    """Run KMS and S3."""
    folder = write_files(directory / "model", bert_files())
    with (
        running_kms(SimulatedNsm(PCRS), directory) as kms,
        running_service("ephemeral_devstack.s3", ["--bucket", BUCKET], directory / "s3.log") as store,
    ):
        yield Account(kms, kms.create_key(), store.url, SigningKey.generate(), folder)
