"""`ephemeralml model` as a person meets it: what it prints, what it refuses, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_enclave.config import EnclaveConfig
from ephemeralml.key_file import create_signing_key
from tests.client.test_cli import refused, run
from tests.support.bert_folder import bert_files, write_files
from tests.support.simulated_kms import MODEL_ID, PCRS, running_kms
from tests.support.simulated_service import running_service

BUCKET = "models"
ENCLAVE = 'version = 1\nlisten = "tcp://127.0.0.1:0"\nhost = "tcp://127.0.0.1:1"\n\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "model", bert_files())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One upload through the command, under the standard AWS_* variables, and everything around it."""
    directory = tmp_path_factory.mktemp("aws")
    key = directory / "publisher.pem"
    public = create_signing_key(key).raw.hex()
    with (
        running_kms(SimulatedNsm(PCRS), directory) as kms,
        running_service("ephemeral_devstack.s3", ["--bucket", BUCKET], directory / "s3.log") as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        environment = {**kms.roles["publisher"].environment(), "AWS_ENDPOINT_URL_S3": store.url}
        for name, value in environment.items():
            patch.setenv(name, value)
        options = ["--id", MODEL_ID, "--version", "1", "--kms-key", kms.create_key(), "--bucket", BUCKET]
        options += ["--publisher-key", str(key), "--endpoint-url-kms", kms.url]
        folder = write_files(directory / "model", bert_files())
        done = run("model", "upload", "--model", str(folder), *options, "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        s3 = kms.roles["publisher"].session().client("s3", endpoint_url=store.url)
        for name in ("manifest", "container"):
            s3.download_file(BUCKET, answer[f"{name}_key"], str(directory / name))
        yield {"answer": answer, "options": options, "folder": folder, "directory": directory, "public": public}


class TestInspect:
    def test_good_folder(self, folder: Path) -> None:
        done = run("model", "inspect", str(folder))
        assert done.returncode == 0
        for line in ("model.safetensors", "vectors: 16 values", "longest text: 16 tokens", "OK"):
            assert line in done.stdout

    def test_every_problem_is_a_line_and_the_exit_code_says_so(self, folder: Path) -> None:
        (folder / "modules.json").unlink()
        (folder / "tokenizer.json").write_text("[]")
        done = run("model", "inspect", str(folder))
        assert done.returncode == 1
        assert done.stdout.count("FAIL") == 2
        assert "JSON_MALFORMED" in done.stderr

    def test_json_carries_the_same(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
        done = run("model", "inspect", str(folder), "--json")
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["verdict"]) == (1, "REFUSED")
        assert answer["problems"][0]["code"] == "FILE_MISSING"
        assert "pytorch_model.bin" in answer["left_out"]

    def test_folder_that_is_not_there(self) -> None:
        refused(2, "model", "inspect", "/nonexistent", says="does not exist")


class TestUpload:
    def test_what_it_prints_configures_host_and_enclave(self, published: dict[str, Any]) -> None:
        answer = published["answer"]
        assert answer["uploaded"]
        assert answer["host_models"] == f"{MODEL_ID}={answer['manifest_key']}"
        config = EnclaveConfig.parse((ENCLAVE + answer["enclave_config"]).encode())
        assert config.minimum_versions == {MODEL_ID: 1}
        assert [key.raw.hex() for key in config.publishers] == [published["public"]]

    def test_again_is_a_success_that_says_so(self, published: dict[str, Any]) -> None:
        done = run("model", "upload", "--model", str(published["folder"]), *published["options"])
        assert done.returncode == 0, done.stderr
        assert "nothing uploaded" in done.stdout
        assert f"EPHEMERALML_MODELS={published['answer']['host_models']}" in done.stdout

    def test_another_model_in_its_place_is_refused(self, published: dict[str, Any], folder: Path) -> None:
        (folder / "sentence_bert_config.json").unlink()
        refused(1, "model", "upload", "--model", str(folder), *published["options"], says="VERSION_TAKEN")

    def test_bad_folder_is_refused_before_anything_is_asked(self, published: dict[str, Any], folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")
        refused(1, "model", "upload", "--model", str(folder), *published["options"], says="TOKENIZER")

    def test_services_that_do_not_answer_are_infrastructure(
        self, published: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        options = ("model", "upload", "--model", str(published["folder"]), *published["options"])
        refused(3, *options, says="STORAGE_UNAVAILABLE")

    def test_key_file_open_to_others_is_refused(self, published: dict[str, Any], tmp_path: Path) -> None:
        loose = tmp_path / "loose.pem"
        loose.write_bytes((published["directory"] / "publisher.pem").read_bytes())
        loose.chmod(0o644)
        options = ["model", "upload", "--model", str(published["folder"]), *published["options"]]
        refused(2, *options, "--publisher-key", str(loose), says="KEY_FILE_MODE")

    def test_without_the_extra_it_says_what_to_install(self, published: dict[str, Any], tmp_path: Path) -> None:
        for name in ("boto3", "rich"):
            (tmp_path / f"{name}.py").write_text("raise ImportError\n")
        options = ["model", "upload", "--model", str(published["folder"]), *published["options"]]
        command = [sys.executable, "-c", "from ephemeralml.cli import main; main()", *options]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 2
        assert "pip install 'ephemeralml[aws]'" in done.stderr


class TestVerify:
    def test_manifest_and_container(self, published: dict[str, Any]) -> None:
        directory = published["directory"]
        arguments = [str(directory / "manifest"), "--publisher", published["public"]]
        done = run("model", "verify", *arguments, "--container", str(directory / "container"))
        assert done.returncode == 0, done.stderr
        assert "PASS  container" in done.stdout

    @pytest.mark.parametrize(
        ("edit", "code"),
        [
            (lambda raw: raw[:-1], "CONTAINER_SIZE"),
            (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "CONTAINER_DIGEST"),
        ],
    )
    def test_another_container_is_refused(
        self, published: dict[str, Any], tmp_path: Path, edit: Any, code: str
    ) -> None:
        directory, other = published["directory"], tmp_path / "other"
        other.write_bytes(edit((directory / "container").read_bytes()))
        arguments = (str(directory / "manifest"), "--publisher", published["public"], "--container", str(other))
        done = run("model", "verify", *arguments)
        assert done.returncode == 1
        assert code in done.stderr

    def test_another_publisher_is_refused(self, published: dict[str, Any], tmp_path: Path) -> None:
        stranger = create_signing_key(tmp_path / "key").raw.hex()
        done = run("model", "verify", str(published["directory"] / "manifest"), "--publisher", stranger)
        assert done.returncode == 1
        assert "MANIFEST_UNKNOWN_PUBLISHER" in done.stderr

    def test_publisher_must_be_named(self, published: dict[str, Any]) -> None:
        refused(2, "model", "verify", str(published["directory"] / "manifest"), says="--publisher")

    @pytest.mark.parametrize("key", ["01" + "00" * 31, "xyz", "00"])
    def test_publisher_key_that_is_none_is_refused(self, published: dict[str, Any], key: str) -> None:
        manifest = str(published["directory"] / "manifest")
        refused(2, "model", "verify", manifest, "--publisher", key, says="--publisher")
