"""A canary in the input, the output, the weights and the data key is found in the enclave's zone and nowhere else."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from safetensors.numpy import load_file

from ephemeral.errors import RequestRefused
from ephemeral.protocol import LABEL_CONTAINER
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack import publisher as publisher_module
from ephemeral_devstack.memory import find_in_memory
from ephemeral_devstack.stack import Stack, StackOptions
from ephemeral_devstack.wiretap import Wiretap
from ephemeralml import Client
from tests.support import minilm
from tests.support.invariants import tally

PROMPT = "canary-9f1c27d1 the patient's name is Wilhelmina Quackenbush"
BLIND = ("host", "s3")


class _RecordingKms:
    """boto3's KMS client, with the one plaintext data key of this run kept for the search."""

    def __init__(self, client: Any, kept: list[bytes]) -> None:
        self._client, self._kept = client, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def generate_data_key(self, **arguments: Any) -> Any:
        answer = self._client.generate_data_key(**arguments)
        self._kept.append(answer["Plaintext"])
        return answer


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, list[bytes]]]:
    """A stack of its own, whose data key the test knows."""
    kept: list[bytes] = []
    original = publisher_module.publish

    def publish(*arguments: Any, kms: Any, **options: Any) -> Any:
        return original(*arguments, kms=_RecordingKms(kms, kept), **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(publisher_module, "publish", publish)
    state = tmp_path_factory.mktemp("watched")
    with Stack.start(StackOptions(state=state, listen="tcp://127.0.0.1:0")) as running:
        yield running, kept
    patch.undo()


def spellings(secret: bytes) -> set[bytes]:
    """The ways a secret turns up in logs, dumps and messages."""
    text = {secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)[:-4]}
    try:
        word = secret.decode()
    except UnicodeDecodeError:
        return text
    return text | {word.encode("utf-16-le"), json.dumps(word)[1:-1].encode()}


@pytest.mark.slow
def test_canary_is_nowhere_outside_client_and_enclave(watched: tuple[Stack, list[bytes]]) -> None:
    stack, keys = watched
    weights = load_file(minilm.FOLDER / "model.safetensors")["embeddings.word_embeddings.weight"].tobytes()[4096:4128]
    with Wiretap(stack.address) as tap, Client.connect(tap.address, trust=TrustPolicy.load(stack.trust)) as client:
        vector = client.embed([PROMPT]).vectors.tobytes()[:32]
        with pytest.raises(RequestRefused):
            client.embed([PROMPT * 50_000])
        wire = b"".join(tap.captured())
        (data_key,) = keys
        secrets = {"input": PROMPT.encode(), "output": vector, "weights": weights, "data key": data_key}
        wanted = {spelling: name for name, secret in secrets.items() for spelling in spellings(secret)}

        # The search must be able to find: weights are in the enclave's memory.
        assert weights in find_in_memory(stack.zones["enclave"].process.pid, [weights])

        with tally("INV-8") as tried:
            for zone in BLIND:
                tried.case(len(wanted))
                found = find_in_memory(stack.zones[zone].process.pid, wanted)
                assert not {wanted[spelling] for spelling in found}, f"in the memory of {zone}"
    with tally("INV-8") as tried:
        tried.case(len(wanted))
        assert not {name for spelling, name in wanted.items() if spelling in wire}, "on the wire"
        for path in files_of(stack):
            tried.case(len(wanted))
            contents = path.read_bytes()
            assert not {name for spelling, name in wanted.items() if spelling in contents}, f"in {path.name}"


@pytest.mark.slow
def test_data_key_is_gone_from_the_enclave_once_it_serves(watched: tuple[Stack, list[bytes]]) -> None:
    stack, (data_key,) = watched
    with Client.connect(stack.address, trust=TrustPolicy.load(stack.trust)) as client:
        container = client.describe().manifest.manifest.container
    derived = HKDF(SHA256(), 32, container.container_id, LABEL_CONTAINER).derive(data_key)
    with tally("INV-9", 2):
        found = find_in_memory(stack.zones["enclave"].process.pid, [data_key, derived])
        assert not {"data key" if secret == data_key else "container key" for secret in found}


def files_of(stack: Stack) -> list[Path]:
    """Logs, configuration, credentials, trust: everything any zone wrote."""
    folders = (stack.options.state, stack._sockets)
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]
