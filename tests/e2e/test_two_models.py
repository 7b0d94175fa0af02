"""Bring your own model, as docs/models.md tells it: its commands, run literally, and two models in one enclave."""

import json
import re
import signal
import socket
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

OWN = "my-org/my-model"
TEXTS = ["The patient reports chest pain.", "Invoice 4711 is unpaid.", "word " * 300]
ROOT = Path(__file__).parents[2]
WALK_THROUGH = ROOT / "docs" / "models.md"


@dataclass(frozen=True)
class RunningStack:
    """A folder in which a new user follows the walk-through, and the stack that its second command started."""

    place: Path
    port: int

    @property
    def folder(self) -> Path:
        return self.place / "my-model"

    @property
    def state(self) -> Path:
        return self.place / ".devstack"

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def options(self) -> list[str]:
        return ["--address", self.address, "--trust", str(self.state / "trust.toml")]

    def follow(self, *commands: str) -> str:
        """Run commands of the walk-through in one shell, stopping at the first failure; return what they print."""
        script = "\n".join(commands).replace(":7443", f":{self.port}")
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.place, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def quoted(section: int, tag: str = "sh") -> list[str]:
    """The code blocks of one section of the walk-through."""
    _, found, rest = WALK_THROUGH.read_text().partition(f"\n## {section}. ")
    assert found
    return re.findall(rf"^```{tag}\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    place = tmp_path_factory.mktemp("user")
    (place / ".venv").symlink_to(Path(sys.executable).parents[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        running = RunningStack(place, free.getsockname()[1])
    (program,) = quoted(1, "python")
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=place, check=True)
    (start, *_) = quoted(3)
    command = [*start.split(), "--listen", running.address]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until_ready(process)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if "clients connect to" in line:
            return
    raise AssertionError(printed)


def test_readme_shows_commands_of_the_walk_through() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = [line for line in readme.splitlines() if "my-model" in line and line.startswith((".venv/bin/", "make "))]
    walked = {line for section in (2, 3) for block in quoted(section) for line in block.splitlines()}
    served = re.sub(
        r'^make devstack ARGS="(.*)"$',
        r".venv/bin/python -m ephemeral_devstack \1",
        "\n".join(shown),
        flags=re.MULTILINE,
    )
    assert len(shown) == 3
    assert walked.issuperset(served.splitlines())


@pytest.mark.slow
def test_walk_through_inspects_and_embeds_and_describes(stack: RunningStack) -> None:
    assert "vectors: 64 values" in stack.follow(*quoted(2))
    printed = stack.follow(*quoted(3)[1:])
    assert f"receipt verified: {OWN} version 1" in printed
    for stage in ("attestation", "manifest", "kms", "fetch", "decrypt", "load"):
        assert re.search(rf"^ +{stage} +[0-9.,]+ ms", printed, re.MULTILINE), stage


@pytest.mark.slow
def test_walk_through_makes_a_publishers_key(stack: RunningStack) -> None:
    assert "public key" in stack.follow(*quoted(5))


@pytest.mark.slow
def test_description_is_of_the_model_asked_for_and_of_no_other(stack: RunningStack) -> None:
    done = run("model", "describe", *stack.options, "--model", MODEL_ID, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["model_id"], answer["version"], answer["publisher_verified"]) == (MODEL_ID, 1, True)
    assert {stage["model_id"] for stage in answer["startup"]} == {"", MODEL_ID}
    assert all(stage["milliseconds"] > 0 for stage in answer["startup"])
    fetched = {stage["stage"]: stage["bytes"] for stage in answer["startup"]}
    assert fetched["fetch"] == answer["container_bytes"]
    assert fetched["decrypt"] == sum(file["size"] for file in answer["files"])


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
def test_each_model_has_a_kms_key_a_data_key_and_an_encryption_context_of_its_own(stack: RunningStack) -> None:
    events = [json.loads(line) for line in (stack.state / "logs" / "kms-audit.jsonl").read_text().splitlines()]
    for operation in ("GenerateDataKey", "Decrypt"):
        calls = [event for event in events if event["operation"] == operation][:2]  # later ones are of other tests
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
def test_walk_through_publishes_more_versions_and_serves_one_without_a_restart(stack: RunningStack) -> None:
    printed = stack.follow(*quoted(4))
    assert f"uploaded {OWN} version 2" in printed
    assert f"signed {OWN} version 3" in printed
    assert f"uploaded {OWN} version 3" in printed
    assert "PASS  container" in printed
    assert "nothing uploaded" in stack.follow(quoted(4)[0])
    embedding = quoted(3)[1].splitlines()[0]
    while f"receipt verified: {OWN} version 2" not in (said := stack.follow(embedding)):
        assert f"receipt verified: {OWN} version 1" in said  # until the enclave has looked; no request fails


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


@pytest.mark.slow
def test_two_models_of_one_session_have_receipts_of_their_own(stack: RunningStack) -> None:
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.state / "trust.toml")) as client:
        for model_id in (MODEL_ID, OWN, MODEL_ID):
            assert client.embed(["text"], model=model_id).receipt.claims.model_id == model_id
