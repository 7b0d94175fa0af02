"""A version exists whole or not at all, never changes, and an upload may be run again."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from ephemeral.errors import ConfigError, KmsDenied, KmsUnavailable, ManifestError, ModelFormatError, StorageUnavailable
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import verify_manifest
from ephemeralml.publishing.checks import check_model
from ephemeralml.publishing.release import PublishedModel
from ephemeralml.publishing.upload import publish
from tests.support.bert_folder import bert_files, write_files
from tests.support.publishing_account import BUCKET, Account


class FaultyS3:
    """boto3's S3 client, with some operations replaced."""

    def __init__(self, client: Any, **operations: Any) -> None:
        self._client = client
        self.__dict__.update(operations)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def refuse(*_arguments: Any, **_options: Any) -> None:
    raise EndpointConnectionError(endpoint_url="https://s3.example")


def test_the_same_model_again_is_a_success_that_uploads_nothing(account: Account) -> None:
    first = account.publish()
    before = account.objects()
    pieces: list[int] = []
    again = account.publish(progress=pieces.append)
    assert first.uploaded
    assert again == replace(first, uploaded=False)
    assert account.objects() == before == {first.manifest_key, first.container_key}
    assert pieces == []


def test_asking_again_costs_no_data_key(account: Account) -> None:
    account.publish()
    before = len(account.kms.audit())
    account.publish()
    assert len(account.kms.audit()) == before


def test_another_model_never_replaces_a_version(account: Account, tmp_path: Path) -> None:
    first = account.publish()
    other = replace(account, folder=write_files(tmp_path, bert_files(layer_norm_eps=1e-6)))
    with pytest.raises(ManifestError) as caught:
        other.publish()
    assert caught.value.code == "VERSION_TAKEN"
    assert "other content" in caught.value.detail
    assert account.s3.get_object(Bucket=BUCKET, Key=first.manifest_key)["Body"].read() == first.manifest


def test_another_publisher_never_replaces_a_version(account: Account) -> None:
    account.publish()
    with pytest.raises(ManifestError) as caught:
        account.publish(signing_key=SigningKey.generate())
    assert caught.value.code == "VERSION_TAKEN"


def test_the_same_model_under_another_kms_key_is_not_called_the_same(account: Account) -> None:
    account.publish()
    with pytest.raises(ManifestError, match="KMS key"):
        account.publish(key_arn=account.kms.create_key())


def test_whatever_lies_in_the_manifests_place_is_not_overwritten(account: Account) -> None:
    key = account.release.manifest_key
    account.s3.put_object(Bucket=BUCKET, Key=key, Body=b"not a manifest")
    with pytest.raises(ManifestError) as caught:
        account.publish()
    assert caught.value.code == "VERSION_TAKEN"
    assert account.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"not a manifest"


@pytest.mark.parametrize(
    "operation", ["create_multipart_upload", "upload_part", "complete_multipart_upload", "put_object"]
)
def test_interrupted_upload_leaves_no_manifest_and_may_be_run_again(account: Account, operation: str) -> None:
    with pytest.raises(StorageUnavailable):
        account.publish(s3=FaultyS3(account.s3, **{operation: refuse}))
    assert account.release.manifest_key not in account.objects()
    model = account.publish()
    assert model.uploaded
    container = account.s3.get_object(Bucket=BUCKET, Key=model.container_key)["Body"].read()
    manifest = verify_manifest(model.manifest, [account.publisher.verifying_key]).manifest
    assert len(container) == manifest.container.size == model.container_bytes


def test_upload_that_stored_nothing_leaves_no_manifest(account: Account) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        account.publish(s3=FaultyS3(account.s3, complete_multipart_upload=lambda **_: None))
    assert caught.value.code == "STORAGE_SIZE"
    assert account.objects() == set()


def test_manifest_whose_container_is_gone_is_not_called_published(account: Account) -> None:
    model = account.publish()
    account.s3.delete_object(Bucket=BUCKET, Key=model.container_key)
    with pytest.raises(StorageUnavailable, match="is missing"):
        account.publish()


def test_of_two_uploads_at_once_the_first_manifest_stays_with_its_own_container(account: Account) -> None:
    faster: list[PublishedModel] = []

    def put_object(**arguments: Any) -> Any:
        faster.append(account.publish())  # between this upload's look and its manifest
        return account.s3.put_object(**arguments)

    slower = account.publish(s3=FaultyS3(account.s3, put_object=put_object))
    assert slower == replace(faster[0], uploaded=False)
    container = account.s3.get_object(Bucket=BUCKET, Key=slower.container_key)["Body"].read()
    assert len(container) == slower.container_bytes


def test_file_that_changed_since_it_was_checked_is_not_signed(account: Account, tmp_path: Path) -> None:
    folder = write_files(tmp_path, bert_files())
    checked = check_model(folder)
    (folder / "config.json").write_text("{}")
    arguments: Any = {"key_arn": account.key_arn, "kms": account.kms.client("publisher"), "s3": account.s3}
    with pytest.raises(ModelFormatError, match="changed"):
        publish(checked, account.release, signing_key=account.publisher, bucket=BUCKET, **arguments)
    assert account.objects() == set()


def test_every_upload_has_a_data_key_of_its_own(account: Account) -> None:
    first = account.publish()
    second = account.fresh().publish()
    keys = [
        verify_manifest(model.manifest, [account.publisher.verifying_key]).manifest.kms for model in (first, second)
    ]
    assert keys[0].dek_commitment != keys[1].dek_commitment


def test_sealed_container_leaves_nothing_behind_on_this_machine(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    account.publish()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize(
    "key", ["alias/models", "1234abcd", "arn:aws:kms:us-east-1:111122223333:alias/models", "arn:aws:s3:::models"]
)
def test_key_that_somebody_could_move_is_refused(account: Account, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        account.publish(key_arn=key)
    assert caught.value.code == "KMS_KEY_ARN"


def test_a_refusal_of_kms_and_a_failure_that_may_pass_are_told_apart(account: Account) -> None:
    with pytest.raises(KmsDenied):
        account.publish(kms=account.kms.client("host"))
    account.kms.plan({"operation": "GenerateDataKey", "nth": 1, "fault": "throttle"})
    with pytest.raises(KmsUnavailable):
        account.publish()
    account.kms.plan()
    account.publish()
