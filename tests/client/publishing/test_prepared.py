"""`model encrypt`, `model sign` and `model upload --release`: three machines, and what each refuses."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ephemeral.errors import ManifestError
from ephemeral.trusted.manifest import verify_manifest
from ephemeralml import cli
from ephemeralml.key_file import create_signing_key, read_signing_key
from ephemeralml.publishing.draft import Draft
from ephemeralml.publishing.prepared import PreparedRelease
from tests.support.bert_folder import bert_files, write_files
from tests.support.publishing_account import BUCKET, Account
from tests.support.simulated_kms import MODEL_ID


@dataclass(frozen=True)
class Signed:
    """A release that went through encrypt and sign, and the commands that made it."""

    account: Account
    folder: Path
    key: Path
    public: str

    @property
    def upload(self) -> tuple[str, ...]:
        return "model", "upload", "--release", str(self.folder), "--publisher", self.public, "--bucket", BUCKET


@pytest.fixture(scope="module")
def made(services: Account, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """One release, made once; `signed` gives each test a copy."""
    account, directory = services.fresh(), tmp_path_factory.mktemp("made")
    key = directory / "publisher.pem"
    public = create_signing_key(key).raw.hex()
    release = directory / "release"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in account.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL_KMS")
        done = run(*encrypt(account, release), "--endpoint-url", account.kms.url)
        assert done.returncode == 0, done.stderr
        assert f"model sign {release}" in done.stdout
        for name in account.environment:  # signing needs no AWS
            patch.delenv(name, raising=False)
        done = run("model", "sign", str(release), "--publisher-key", str(key), "--model", str(account.folder))
        assert done.returncode == 0, done.stderr
        assert f"--publisher {public}" in done.stdout
    return Signed(account, release, key, public)


@pytest.fixture
def signed(made: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signed:
    for name, value in made.account.environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "release"
    shutil.copytree(made.folder, folder)
    return Signed(made.account, folder, made.key, made.public)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this process: a new one for each of these would take a second."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(code: int, *arguments: str, says: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def encrypt(account: Account, out: Path) -> list[str]:
    options = ["--id", MODEL_ID, "--version", str(account.version), "--kms-key", account.key_arn, "--out", str(out)]
    return ["model", "encrypt", "--model", str(account.folder), *options]


def test_what_each_step_made_is_what_the_next_one_publishes(signed: Signed) -> None:
    done = run(*signed.upload, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    publisher = read_signing_key(signed.key).verifying_key
    verified = verify_manifest(signed.account.stored(answer["manifest_key"]), [publisher])
    assert verified.raw == (signed.folder / "manifest.cose").read_bytes()
    assert signed.account.stored(answer["container_key"]) == (signed.folder / "container.bin").read_bytes()
    again = run(*signed.upload, "--json")
    assert json.loads(again.stdout) == answer | {"uploaded": False}


def test_nothing_in_the_folder_is_secret(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    client = account.kms.client("publisher")

    class Kms:
        def generate_data_key(self, **arguments: Any) -> Any:
            answer = client.generate_data_key(**arguments)
            kept.append(answer["Plaintext"])
            return answer

    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ephemeralml.publishing.upload.ContainerUpload.run", stop)
    with pytest.raises(KeyboardInterrupt):
        account.publish(kms=Kms(), work=tmp_path / "work")
    contents = b"".join(path.read_bytes() for path in (tmp_path / "work").iterdir())
    (data_key,) = kept
    weights = bert_files()["model.safetensors"][-64:]
    assert not [secret for secret in (data_key, data_key.hex().encode(), weights) if secret in contents]


class TestEncrypt:
    def test_folder_that_holds_a_release_is_not_touched(self, signed: Signed) -> None:
        before = (signed.folder / "draft.json").read_bytes()
        refused(2, *encrypt(signed.account, signed.folder), says="RELEASE_PRESENT")
        assert (signed.folder / "draft.json").read_bytes() == before

    def test_folder_that_cannot_be_made(self, signed: Signed) -> None:
        refused(2, *encrypt(signed.account, signed.key / "below"), says="FILE_UNWRITABLE")

    def test_alias_is_no_key(self, signed: Signed, tmp_path: Path) -> None:
        refused(2, *encrypt(signed.account, tmp_path / "new"), "--kms-key", "alias/models", says="KMS_KEY_ARN")


class TestSign:
    def sign(self, signed: Signed, *options: str) -> tuple[str, ...]:
        return "model", "sign", str(signed.folder), "--publisher-key", str(signed.key), *options

    def test_again_is_a_success_that_keeps_the_manifest(self, signed: Signed) -> None:
        before = (signed.folder / "manifest.cose").read_bytes()
        done = run(*self.sign(signed, "--json"))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["files_compared"] is False
        assert (signed.folder / "manifest.cose").read_bytes() == before

    def test_files_swapped_by_whoever_encrypted_are_not_signed(self, signed: Signed, tmp_path: Path) -> None:
        own = write_files(tmp_path / "own", bert_files(layer_norm_eps=1e-6))
        (signed.folder / "manifest.cose").unlink()
        refused(1, *self.sign(signed, "--model", str(own)), says="config.json")
        assert not (signed.folder / "manifest.cose").exists()

    def test_another_container_than_the_drafts_is_not_signed(self, signed: Signed) -> None:
        path = signed.folder / "container.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        refused(1, *self.sign(signed), says="CONTAINER_DIGEST")

    def test_manifest_of_another_publisher_is_not_replaced(self, signed: Signed, tmp_path: Path) -> None:
        create_signing_key(tmp_path / "other.pem")
        refused(1, *self.sign(signed, "--publisher-key", str(tmp_path / "other.pem")), says="MANIFEST_PRESENT")

    def test_folder_without_a_draft(self, signed: Signed, tmp_path: Path) -> None:
        refused(2, "model", "sign", str(tmp_path), "--publisher-key", str(signed.key), says="draft.json")


class TestUpload:
    def test_another_publisher_than_the_one_named(self, signed: Signed, tmp_path: Path) -> None:
        other = create_signing_key(tmp_path / "other.pem").raw.hex()
        refused(1, *signed.upload, "--publisher", other, says="MANIFEST_UNKNOWN_PUBLISHER")

    def test_release_that_nobody_signed(self, signed: Signed) -> None:
        (signed.folder / "manifest.cose").unlink()
        refused(2, *signed.upload, says="manifest.cose")

    def test_draft_that_changed_after_it_was_signed(self, signed: Signed) -> None:
        path = signed.folder / "draft.json"
        path.write_text(path.read_text().replace('"version": ', '"version": 9'))
        refused(1, *signed.upload, says="MANIFEST_OTHER_DRAFT")

    @pytest.mark.parametrize(
        "more", [("--model", "."), ("--version", "2"), ("--kms-key", "arn"), ("--publisher-key", "x")], ids=str
    )
    def test_options_of_both_ways_at_once(self, signed: Signed, more: tuple[str, str]) -> None:
        refused(2, *signed.upload, *more, says="not of both")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[:-2],
        lambda text: f"[{text}]",
        lambda text: text.replace('"format"', '"form"'),
        lambda text: text.replace("draft 1", "draft 2"),
        lambda text: text.replace('"model_id"', '"model_id": "twice", "model_id"', 1),
        lambda text: text.replace('"model.safetensors"', '"../model.safetensors"'),
        lambda text: text.replace('"version": 1', '"version": true'),
        lambda text: text.replace('"chunk_bytes": 1', '"chunk_bytes": -1'),
        lambda text: text.replace("arn:aws:kms", "arn:aws:s3"),
        lambda text: text.replace('"sha256": "', '"sha256": "zz', 1),
    ],
    ids=range(10),
)
def test_draft_that_is_none_is_refused(made: Signed, edit: Callable[[str], str]) -> None:
    text = (made.folder / "draft.json").read_text().replace(f'"version": {made.account.version}', '"version": 1')
    assert Draft.parse(text.encode())
    with pytest.raises(ManifestError) as caught:
        Draft.parse(edit(text).encode())
    assert caught.value.code == "DRAFT_MALFORMED"


def test_draft_survives_its_text(made: Signed) -> None:
    draft = PreparedRelease.open(made.folder).draft
    assert Draft.parse(draft.encode()) == draft


def test_keys_show_prints_the_public_half_and_nothing_else(made: Signed) -> None:
    done = run("keys", "show", str(made.key))
    assert done.returncode == 0, done.stderr
    seed = read_signing_key(made.key)._key.private_bytes_raw().hex()
    assert made.public in done.stdout
    assert seed not in done.stdout + done.stderr
    assert json.loads(run("keys", "show", str(made.key), "--json").stdout)["public_key"] == made.public
    assert run("keys", "show", str(made.key), "--hex").stdout == f"{made.public}\n"


def test_keys_show_refuses_what_is_open_to_others_and_what_is_no_key(made: Signed, tmp_path: Path) -> None:
    loose = tmp_path / "loose.pem"
    shutil.copy(made.key, loose)
    loose.chmod(0o640)
    refused(2, "keys", "show", str(loose), says="KEY_FILE_MODE")
    refused(2, "keys", "show", "/dev/null", says="KEY_FILE")
