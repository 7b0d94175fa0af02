"""A published model comes back from S3 verified and whole, and only for an enclave that KMS releases its key to."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ephemeral.errors import ConfigError, ContainerError, KmsDenied, ManifestError, ModelFormatError, StorageUnavailable
from ephemeral.trusted.artifact import ContainerOpener, split_files
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import VerifiedManifest, dek_commitment, verify_manifest
from ephemeral.trusted.secrets import SecretBytes
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeralml.publishing.checks import check_model
from ephemeralml.publishing.folder import pack_folder, read_packed
from ephemeralml.publishing.release import PublishedModel, Release
from ephemeralml.publishing.upload import publish
from tests.support.bert_folder import bert_files, write_files
from tests.support.simulated_kms import MODEL_ID, AskingEnclave, SimulatedKms
from tests.support.simulated_service import SimulatedService, running_service

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "models"
FILES = bert_files(vocab_size=10_000, hidden_size=64)  # three chunks, the last one shorter
WEIGHTS = FILES["model.safetensors"]
VERSIONS = itertools.count(1)  # one bucket for all tests, and no version is published twice
LEFT_OUT = ["README.md", "pytorch_model.bin", "model.onnx", "data_config.json", "3_Other/config.json", ".gitattributes"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedService]:
    log = tmp_path_factory.mktemp("s3") / "s3.log"
    with running_service("ephemeral_devstack.s3", ["--bucket", BUCKET], log) as service:
        yield service


@pytest.fixture
def s3(store: SimulatedService, kms: SimulatedKms) -> "S3Client":
    return kms.roles["publisher"].session().client("s3", endpoint_url=store.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "model", {**FILES, **dict.fromkeys(LEFT_OUT, b"left out")})


@pytest.fixture(scope="module")
def publisher_key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def published(folder: Path, kms: SimulatedKms, s3: "S3Client", publisher_key: SigningKey) -> PublishedModel:
    return publish_from(folder, kms, s3, publisher_key)


def publish_from(
    folder: Path, kms: SimulatedKms, s3: "S3Client", key: SigningKey, *, role: str = "publisher", **changes: object
) -> PublishedModel:
    release = Release(MODEL_ID, next(VERSIONS))
    arguments = {"key_arn": kms.create_key(), "kms": kms.client(role), "s3": s3, "bucket": BUCKET, **changes}
    return publish(check_model(folder), release, signing_key=key, **arguments)  # type: ignore[arg-type]


def fetched(s3: "S3Client", key: str) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def released(kms: SimulatedKms, nsm: SimulatedNsm, verified: VerifiedManifest) -> SecretBytes:
    enclave = AskingEnclave(nsm)
    answer = kms.client("host").decrypt(
        CiphertextBlob=verified.manifest.kms.wrapped_data_key,
        EncryptionContext=verified.manifest.encryption_context,
        Recipient=enclave.recipient(),
    )
    return enclave.key.open(answer["CiphertextForRecipient"])


def opened(verified: VerifiedManifest, container: bytes, dek: SecretBytes) -> dict[str, bytes]:
    manifest = verified.manifest
    opener = ContainerOpener(manifest.container, manifest.plaintext_size, dek)
    opener.push(container)
    return {name: bytes(content) for name, content in split_files(opener.finish(), manifest.files).items()}


def test_published_model_comes_back_whole_through_kms_and_s3(
    published: PublishedModel, kms: SimulatedKms, s3: "S3Client", nsm: SimulatedNsm, publisher_key: SigningKey
) -> None:
    verified = verify_manifest(fetched(s3, published.manifest_key), [publisher_key.verifying_key])
    dek = released(kms, nsm, verified)
    assert dek_commitment(dek) == verified.manifest.kms.dek_commitment
    assert opened(verified, fetched(s3, verified.manifest.container.key), dek) == FILES


def test_what_lies_in_the_bucket_shows_no_plaintext(published: PublishedModel, s3: "S3Client") -> None:
    container = fetched(s3, published.container_key)
    assert len(container) == published.container_bytes
    assert WEIGHTS[-64:] not in container
    assert b"max_seq_length" not in container


def test_manifest_of_another_publisher_is_not_believed(published: PublishedModel) -> None:
    with pytest.raises(ManifestError):
        verify_manifest(published.manifest, [SigningKey.generate().verifying_key])


def test_model_released_under_a_forged_key_is_caught_by_the_commitment(
    published: PublishedModel, kms: SimulatedKms, s3: "S3Client", nsm: SimulatedNsm, publisher_key: SigningKey
) -> None:
    verified = verify_manifest(published.manifest, [publisher_key.verifying_key])
    kms.plan({"operation": "Decrypt", "nth": 1, "fault": "forge_cms"})
    forged = released(kms, nsm, verified)
    assert dek_commitment(forged) != verified.manifest.kms.dek_commitment
    with pytest.raises(ContainerError):
        opened(verified, fetched(s3, published.container_key), forged)


def test_progress_tells_every_uploaded_byte(
    folder: Path, kms: SimulatedKms, s3: "S3Client", publisher_key: SigningKey
) -> None:
    write_files(folder, bert_files(vocab_size=17_000, hidden_size=256))  # 17 MiB: three parts of a multipart upload
    pieces: list[int] = []
    model = publish_from(folder, kms, s3, publisher_key, progress=pieces.append)
    assert sum(pieces) == model.container_bytes == len(fetched(s3, model.container_key))
    assert s3.head_object(Bucket=BUCKET, Key=model.container_key)["ETag"].strip('"').endswith("-3")


def test_only_what_the_model_needs_is_packed(folder: Path) -> None:
    assert {file.name for file in pack_folder(folder)} == FILES.keys()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folder_without_a_needed_file_is_refused_even_beside_a_pickle(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=name):
        pack_folder(folder)


@pytest.mark.parametrize(
    "modules", ['[{"path": ".."}]', '[{"path": "/etc"}]', '[{"path": "a/../.."}]', "{", "[1]", '[{"path": 1}]']
)
def test_modules_listing_cannot_reach_outside_the_folder(folder: Path, modules: str) -> None:
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ModelFormatError):
        pack_folder(folder)


def test_file_that_changes_while_it_is_packed_is_refused(folder: Path) -> None:
    packed = pack_folder(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelFormatError, match="changed"):
        list(read_packed(packed))


def test_publishing_as_the_host_is_denied(
    folder: Path, kms: SimulatedKms, s3: "S3Client", publisher_key: SigningKey
) -> None:
    with pytest.raises(KmsDenied):
        publish_from(folder, kms, s3, publisher_key, role="host")


def test_missing_bucket_is_a_typed_error(
    folder: Path, kms: SimulatedKms, s3: "S3Client", publisher_key: SigningKey
) -> None:
    with pytest.raises(StorageUnavailable):
        publish_from(folder, kms, s3, publisher_key, bucket="no-such-bucket")


@pytest.mark.parametrize("model_id", ["a/../b", "/a", "a//b", "a/."])
def test_model_id_that_another_object_could_answer_for_is_refused(model_id: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Release(model_id, 1)
    assert caught.value.code == "MODEL_ID"


def test_simulated_s3_serves_no_kms_that_would_ignore_the_recipient(
    store: SimulatedService, kms: SimulatedKms, nsm: SimulatedNsm
) -> None:
    assert "SIMULATED" in store.ready_line
    client = kms.roles["host"].session().client("kms", endpoint_url=store.url)
    answer = client.generate_random(NumberOfBytes=8, Recipient=AskingEnclave(nsm).recipient())
    assert answer.keys() == {"ResponseMetadata"}  # a bucket listing, which is no answer of KMS
