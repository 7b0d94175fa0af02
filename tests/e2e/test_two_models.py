"""Bring your own model: another folder, the documented commands, and two models beside each other in one enclave."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import MODEL_ID
from ephemeralml import Client
from tests.client.test_cli import run
from tests.support import minilm
from tests.support.tiny_model import save_tiny_model

OWN = "my-org/tiny-bert"
TEXTS = ["The patient reports chest pain.", "Invoice 4711 is unpaid.", "word " * 300]


@dataclass(frozen=True)
class RunningStack:
    """`python -m ephemeral_devstack` as a user started it."""

    folder: Path
    state: Path
    address: str

    @property
    def options(self) -> list[str]:
        return ["--address", self.address, "--trust", str(self.state / "trust.toml")]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("own") / "tiny-bert")


@pytest.fixture(scope="module")
def stack(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    state = tmp_path_factory.mktemp("two") / "state"
    command = [sys.executable, "-m", "ephemeral_devstack", "--state", str(state), "--listen", "tcp://127.0.0.1:0"]
    with subprocess.Popen([*command, "--model", f"{OWN}={own}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield RunningStack(own, state, address_of(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def address_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if found := re.search(r"clients connect to (\S+)", line):
            return found[1]
    raise AssertionError(printed)


def embedded(
    stack: RunningStack, model_id: str
) -> "tuple[dict[str, object], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
    done = run("embed", *stack.options, "--model", model_id, "--json", stdin="\n".join(TEXTS).encode())
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer, np.array(answer["embeddings"], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("model_id", [MODEL_ID, OWN])
def test_each_model_embeds_by_its_id_as_sentence_transformers_does(stack: RunningStack, model_id: str) -> None:
    folder = minilm.FOLDER if model_id == MODEL_ID else stack.folder
    answer, vectors = embedded(stack, model_id)
    reference = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert answer["model"] == model_id
    assert np.abs(vectors - reference).max() <= 1e-5


@pytest.mark.slow
def test_the_folder_passes_the_inspection_that_the_walk_through_begins_with(stack: RunningStack) -> None:
    done = run("model", "inspect", str(stack.folder))
    assert done.returncode == 0
    assert "vectors: 32 values" in done.stdout


@pytest.mark.slow
def test_each_model_has_a_kms_key_a_data_key_and_an_encryption_context_of_its_own(stack: RunningStack) -> None:
    events = [json.loads(line) for line in (stack.state / "logs" / "kms-audit.jsonl").read_text().splitlines()]
    for operation in ("GenerateDataKey", "Decrypt"):
        calls = [event for event in events if event["operation"] == operation]
        assert [call["encryption_context"]["model_id"] for call in calls] == [MODEL_ID, OWN]
        assert len({call["key_arn"] for call in calls}) == 2
        assert len({call["encryption_context"]["content_sha256"] for call in calls}) == 2


@pytest.mark.slow
def test_a_model_must_be_named_when_several_are_served(stack: RunningStack) -> None:
    done = run("embed", *stack.options, "text")
    assert done.returncode == 2
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.state / "trust.toml")) as client:
        assert {model.model_id for model in client.models} == {MODEL_ID, OWN}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("x", "ID=FOLDER"),
        ("x=/nonexistent", "not a folder"),
        (f"{MODEL_ID}=/tmp", "already"),
        ("../x=/tmp", "ID=FOLDER"),
    ],
)
def test_model_argument_that_cannot_be_served_is_refused_at_once(argument: str, says: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ephemeral_devstack", "--state", str(tmp_path), "--model", argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.slow
def test_folder_that_no_enclave_would_load_is_refused_before_any_zone_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ephemeral_devstack", "--state", str(tmp_path / "state"), "--model"]
    done = subprocess.run([*command, f"empty={tmp_path}"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "FILE_MISSING" in done.stderr
    assert not (tmp_path / "state").exists()
