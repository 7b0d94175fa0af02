"""The stack's publisher: encrypts models, each under a KMS key of its own, and stores them with signed manifests."""

from pathlib import Path
from typing import Final

from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.credentials import load_credentials
from ephemeral_devstack.key_policy import development_key_policy
from ephemeralml.publishing.aws import kms_errors
from ephemeralml.publishing.checks import CheckedModel
from ephemeralml.publishing.release import PublishedModel, Release
from ephemeralml.publishing.upload import publish

BUCKET: Final = "simulated-models"


class Publisher:
    """Publishes to the running KMS and S3, in the publisher's role."""

    def __init__(self, state: Path, kms_url: str, s3_url: str, signer: SigningKey, measured: Measurements) -> None:
        """`measured` is the one build to which KMS will release the data keys."""
        self._roles = load_credentials(state / "credentials.json")
        session = self._roles["publisher"].session()
        self._kms = session.client("kms", endpoint_url=kms_url)
        self.s3 = session.client("s3", endpoint_url=s3_url)
        self._signer = signer
        self._measured = measured
        self._keys: dict[str, str] = {}

    def publish(self, model_id: str, version: int, model: CheckedModel) -> PublishedModel:
        """Publish one version of a model."""
        if model_id not in self._keys:
            self._keys[model_id] = self._new_key(model_id)
        return publish(
            model,
            Release(model_id, version),
            signing_key=self._signer,
            key_arn=self._keys[model_id],
            kms=self._kms,
            s3=self.s3,
            bucket=BUCKET,
        )

    def _new_key(self, model_id: str) -> str:
        policy = development_key_policy(
            publisher_arn=self._roles["publisher"].arn,
            host_arn=self._roles["host"].arn,
            measurements=[self._measured],
            model_ids=[model_id],
        )
        with kms_errors():
            made = self._kms.create_key(Policy=policy, Description=f"data keys of {model_id}")
        return made["KeyMetadata"]["Arn"]
