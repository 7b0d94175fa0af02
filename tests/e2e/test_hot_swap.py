"""New versions of a model under traffic: no failed answer, no mixed answer, the old version's memory freed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sentence_transformers import SentenceTransformer

from ephemeral.errors import ConfigError, MeasurementMismatch
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import BUCKET, MODEL_ID, Stack, StackOptions
from ephemeralml import Client
from ephemeralml.publishing.checks import check_model
from tests.support.tiny_model import save_tiny_model

OWN = "my-org/swapped"
SWAPS = 10
TEXTS = ["The patient reports chest pain.", "Invoice 4711 is unpaid.", "word " * 40, "x", "Ünïcode ✓", "two words"]
PATIENCE = 60.0
Vectors = npt.NDArray[np.float32]

pytestmark = pytest.mark.slow


@dataclass
class Versions:
    """Every version of the model: where its manifest lies, and what its vectors have to be."""

    stack: Stack
    folder: Path
    keys: dict[int, str] = field(default_factory=dict)
    expected: dict[int, Vectors] = field(default_factory=dict)

    def make(self, version: int) -> Path:
        """Save a model of random weights and remember its vectors."""
        folder = save_tiny_model(self.folder / f"v{version}", seed=version, hidden_size=256)
        self.expected[version] = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
        return folder

    def publish(self, version: int) -> None:
        self.keys[version] = self.stack.publisher.publish(OWN, version, check_model(self.make(version))).manifest_key

    def ask_for(self, key: str | None) -> None:
        """Have the host name the manifest at `key`, or the model no more."""
        self.stack.roll_out(MINILM | ({OWN: key} if key else {}))

    def swap(self, version: int) -> None:
        """Publish a version, have the host ask for it, and wait until the one before is out of memory."""
        unloaded = len(events(self.stack, "MODEL_UNLOADED"))
        self.publish(version)
        self.ask_for(self.keys[version])
        wait_for(lambda: len(events(self.stack, "MODEL_UNLOADED")) > unloaded)


MINILM = {MODEL_ID: f"models/{MODEL_ID}/1/manifest.cose"}


@dataclass
class Traffic:
    """Clients that never stop asking; every answer is held against the version that its receipt names."""

    versions: Versions
    answers: list[int] = field(default_factory=list)
    faults: list[object] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, number: int) -> None:
        stack, random = self.versions.stack, np.random.default_rng(number)
        try:
            with Client.connect(stack.address, trust=TrustPolicy.load(stack.trust)) as client:
                while not self._stop.is_set():
                    chosen = random.choice(len(TEXTS), size=random.integers(1, 4), replace=False)
                    answer = client.embed([TEXTS[place] for place in chosen], model=OWN)
                    version = int(answer.receipt.claims.model_version)
                    self.answers.append(version)
                    if not np.abs(answer.vectors - self.versions.expected[version][chosen]).max() <= 1e-5:
                        self.faults.append(f"an answer of version {version} is not version {version}'s")
        except Exception as error:  # noqa: BLE001  # the test's subject: nothing may be raised
            self.faults.append(error)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    folder = tmp_path_factory.mktemp("swap")
    first = save_tiny_model(folder / "v1", seed=1, hidden_size=256)
    options = StackOptions(state=folder / "state", listen="tcp://127.0.0.1:0", more_models={OWN: first})
    with Stack.start(options) as stack:
        made = Versions(stack, folder, {1: f"models/{OWN}/1/manifest.cose"})
        made.expected[1] = SentenceTransformer(str(first), device="cpu").encode(TEXTS)
        yield made


def test_versions_replaced_under_traffic_fail_no_answer_mix_no_answer_and_leave_no_memory_behind(
    versions: Versions,
) -> None:
    stack = versions.stack
    with Traffic(versions) as traffic:
        versions.swap(2)
        versions.swap(3)
        after_two = resident(stack)
        for version in range(4, SWAPS + 2):
            versions.swap(version)
        before = len(traffic.answers)
        wait_for(lambda: len(traffic.answers) > before + 20)
        grown = resident(stack) - after_two
    assert traffic.faults == []
    assert set(traffic.answers) == set(range(1, SWAPS + 2))
    assert traffic.answers[-1] == SWAPS + 1
    assert grown < 4 * model_bytes(versions.folder / "v1"), "eight more versions came and went"
    assert [event["model_version"] for event in events(stack, "MODEL_UNLOADED")] == list(range(1, SWAPS + 1))
    assert {event["model_id"] for event in events(stack, "MODEL_UNLOADED")} == {OWN}


@pytest.mark.parametrize(
    ("attack", "code"), [("older", "MODEL_DOWNGRADE"), ("forged", "MANIFEST_FORGED"), ("missing", "OBJECT_MISSING")]
)
def test_roll_out_that_fails_a_check_changes_nothing(versions: Versions, attack: str, code: str) -> None:
    stack, latest = versions.stack, max(versions.keys)
    signed = stack.publisher.s3.get_object(Bucket=BUCKET, Key=versions.keys[latest])["Body"].read()
    forged = signed[:-1] + bytes([signed[-1] ^ 1])
    stack.publisher.s3.put_object(Bucket=BUCKET, Key="attacks/forged.cose", Body=forged)
    keys = {"older": versions.keys[1], "forged": "attacks/forged.cose", "missing": "attacks/none.cose"}
    failed = len(events(stack, "ROLLOUT_FAILED"))
    with Traffic(versions) as traffic:
        versions.ask_for(keys[attack])
        wait_for(lambda: len(events(stack, "ROLLOUT_FAILED")) > failed)
        wait_for(lambda: health(stack, "rollout") == "NOT_SERVING")
    assert traffic.faults == []
    assert set(traffic.answers) == {latest}
    assert events(stack, "ROLLOUT_FAILED")[-1]["reason"] == code
    assert health(stack, f"models/{OWN}") == "SERVING"
    versions.swap(latest + 1)
    assert health(stack, "rollout") == "SERVING"


def test_policy_that_pins_a_version_outlives_a_swap(versions: Versions) -> None:
    stack, latest = versions.stack, max(versions.keys)
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.trust)) as client:
        served = {model.model_id: model for model in client.models}
    pinned = stack.options.state / "pinned.toml"
    pin = f'\n[[models]]\nmodel_id = "{OWN}"\nmanifest_sha256 = "{served[OWN].manifest_digest.hex()}"\n'
    pinned.write_text(stack.trust.read_text() + pin)
    with Client.connect(stack.address, trust=TrustPolicy.load(pinned)) as client:
        assert int(client.embed(["x"], model=OWN).receipt.claims.model_version) == latest
        versions.swap(latest + 1)
        with pytest.raises(MeasurementMismatch):
            client.embed(["x"], model=OWN)


def test_model_that_the_host_names_no_more_is_unloaded_and_its_memory_freed(versions: Versions) -> None:
    stack = versions.stack
    before, unloaded = resident(stack), len(events(stack, "MODEL_UNLOADED"))
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.trust)) as client:
        client.embed(["x"], model=OWN)
        versions.ask_for(None)
        wait_for(lambda: len(events(stack, "MODEL_UNLOADED")) > unloaded)
        with pytest.raises(ConfigError, match="does not serve"):
            client.embed(["x"], model=OWN)
        assert client.embed(["x"], model=MODEL_ID).vectors.shape == (1, 384)
    assert before - resident(stack) > 0.7 * model_bytes(versions.folder / "v1")
    assert health(stack, f"models/{OWN}") == "NOT_SERVING"


def events(stack: Stack, kind: str) -> list[dict[str, Any]]:
    lines = (stack.logs / "audit.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def resident(stack: Stack) -> int:
    return int(psutil.Process(stack.zones["enclave"].process.pid).memory_info().rss)


def model_bytes(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def health(stack: Stack, service: str) -> str:
    with grpc.insecure_channel(stack.address.removeprefix("tcp://")) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
