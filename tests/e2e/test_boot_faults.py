"""Every fault of S3, of KMS and of a publisher ends in one typed error with its reason, and leaves nothing behind.

Real services and sockets: boto3 in the host, a network in front of S3 that fails, a KMS with a plan of faults, and
models that no publisher's tool would let pass, validly encrypted and signed.
"""

import asyncio
import gc
import json
import mmap
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ephemeral.errors import (
    ContainerError,
    EphemeralError,
    KmsDenied,
    KmsUnavailable,
    ManifestError,
    ModelFormatError,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
)
from ephemeral.trusted.artifact import ContainerOpener
from ephemeral.trusted.secrets import SecretBytes
from ephemeral.wire import ModelSource
from ephemeral_enclave import fetch
from ephemeral_enclave.model import load_model
from ephemeral_enclave.nsm import NitroSecurityModule
from ephemeral_enclave.report import StartupReport
from tests.support.cloud import Cloud, running_cloud
from tests.support.s3_front import Asked, Fault

GIB = 1024**3
SETTLED = 256 * 1024  # bytes that a failed load may leave in caches of libraries
OTHERS = tracemalloc.Filter(
    inclusive=False, filename_pattern="*/s3_front.py", all_frames=True
)  # the failing network lives in this process
_FRAMES = 10
Outcome = tuple[type[EphemeralError], str]


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    quick = {"EPHEMERALML_AWS_TIMEOUT_SECONDS": "1", "EPHEMERALML_AWS_ATTEMPTS": "1"}
    with running_cloud(tmp_path_factory.mktemp("cloud"), **quick) as cloud:
        yield cloud


@pytest.fixture
def cloud(module_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(fetch, "_PAUSE_SECONDS", 0.01)
    module_cloud.kms.plan()
    module_cloud.front.fault = lambda _asked: None
    return module_cloud


class WatchedModule(NitroSecurityModule):
    """The simulated module, and which keys it attested."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud.module()._exchange)
        self.keys: list[bytes | None] = []

    def attest(self, *, public_key: bytes | None, user_data: bytes | None, nonce: bytes | None) -> bytes:
        self.keys.append(public_key)
        return super().attest(public_key=public_key, user_data=user_data, nonce=nonce)


async def load(cloud: Cloud, source: ModelSource | None = None, module: NitroSecurityModule | None = None) -> None:
    async with cloud.host() as host:
        await load_model(source or cloud.source, cloud.config(), module or cloud.module(), host, StartupReport())


def refused(cloud: Cloud, source: ModelSource | None = None, module: NitroSecurityModule | None = None) -> Outcome:
    """Load in vain; return the error, after making sure that nothing of the model or its key is held any more."""
    gc.collect()
    before = secret_things()  # of other tests in this process
    tracemalloc.start(_FRAMES)
    try:
        asyncio.run(load(cloud, source, module))
    except EphemeralError as error:
        outcome = type(error), error.code
    else:
        pytest.fail("it loaded")
    gc.collect()
    traces = tracemalloc.take_snapshot().filter_traces([OTHERS]).traces
    tracemalloc.stop()
    assert not [thing for thing in secret_things() if not any(thing is known for known in before)]
    assert sum(trace.size for trace in traces) < SETTLED
    return outcome


def secret_things() -> list[object]:
    return [thing for thing in gc.get_objects() if type(thing) in (ContainerOpener, SecretBytes, mmap.mmap)]


def on_container(cloud: Cloud, fault: Fault, method: str = "GET") -> None:
    key = cloud.manifest.container.key
    cloud.front.fault = lambda asked: fault if asked.command == method and key in asked.path else None


class TestS3:
    @pytest.mark.parametrize(
        ("fault", "outcome"),
        [
            (Fault(status=404, code="NoSuchKey"), (ObjectMissing, "OBJECT_MISSING")),
            (Fault(status=403, code="AccessDenied"), (StorageError, "STORAGE_DENIED")),
            (Fault(status=503, code="SlowDown"), (StorageUnavailable, "STORAGE_UNAVAILABLE")),
            (Fault(keeps=1_500_000), (StorageUnavailable, "STORAGE_UNAVAILABLE")),
            (Fault(hangs=True), (StorageUnavailable, "STORAGE_UNAVAILABLE")),
            (Fault(resets=True), (StorageUnavailable, "STORAGE_UNAVAILABLE")),
        ],
        ids=["404", "403", "503", "short read", "stall", "reset"],
    )
    def test_container_that_does_not_come(self, cloud: Cloud, fault: Fault, outcome: Outcome) -> None:
        on_container(cloud, fault)
        assert refused(cloud) == outcome
        cloud.front.fault = lambda _asked: None
        asyncio.run(load(cloud))  # the fault has passed, and nothing of it is left

    @pytest.mark.parametrize("status", [404, 403, 503])
    def test_container_that_is_not_even_named(self, cloud: Cloud, status: int) -> None:
        on_container(cloud, Fault(status=status), "HEAD")
        error, _ = refused(cloud)
        assert issubclass(error, StorageError)

    def test_corrupt_byte_in_each_chunk(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch, "RANGE_BYTES", 1_500_000)  # chunks and ranges do not fall together
        container = cloud.manifest.container
        sealed = container.chunk_bytes + 16
        places = [7, *range(34 + 1000, container.size, sealed), container.size - 1]
        assert len(places) >= 6
        for place in places:
            cloud.front.fault = lambda asked, place=place: flipped(asked, container.key, place)
            assert refused(cloud) == (ContainerError, "CONTAINER_CORRUPT"), place

    def test_object_swapped_between_two_ranges(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch, "RANGE_BYTES", 1_000_000)
        monkeypatch.setattr(fetch, "RANGES_AHEAD", 0)
        key = cloud.manifest.container.key
        original = cloud.get(key)

        def swap(asked: Asked) -> None:
            if key in asked.path and asked.headers.get("Range", "").startswith("bytes=1000000-"):
                cloud.put(key, original[::-1])

        cloud.front.fault = swap
        try:
            assert refused(cloud) == (StorageError, "STORAGE_CHANGED")
        finally:
            cloud.put(key, original)


def flipped(asked: Asked, key: str, place: int) -> Fault | None:
    if asked.command != "GET" or key not in asked.path:
        return None
    first, last = (int(end) for end in asked.headers["Range"].removeprefix("bytes=").split("-"))
    if not first <= place <= last:
        return None
    at = place - first
    return Fault(changes=lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


class TestKms:
    def test_refusal_is_asked_for_once(self, cloud: Cloud) -> None:
        cloud.kms.plan({"operation": "Decrypt", "nth": 0, "fault": "deny"})
        module = WatchedModule(cloud)
        assert refused(cloud, module=module) == (KmsDenied, "KMS_ACCESS_DENIED")
        assert len(module.keys) == 1

    @pytest.mark.parametrize(
        "fault",
        [{"fault": "throttle"}, {"fault": "error500"}, {"fault": "delay", "seconds": 2}],
        ids=["throttle", "5xx", "timeout"],
    )
    def test_failure_is_retried_with_another_rsa_key_each_time(self, cloud: Cloud, fault: dict[str, Any]) -> None:
        code = "KMS_THROTTLED" if fault["fault"] == "throttle" else "KMS_UNAVAILABLE"
        cloud.kms.plan({"operation": "Decrypt", "nth": 0, **fault})
        module = WatchedModule(cloud)
        assert refused(cloud, module=module) == (KmsUnavailable, code)
        assert len(set(module.keys)) == fetch.ATTEMPTS
        cloud.kms.plan()
        asyncio.run(load(cloud))


def twice(name: str) -> Callable[[Path], None]:
    """Make a JSON file say its first member twice, which readers take differently."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_text().strip()
        first = next(iter(json.loads(text)))
        (folder / name).write_text(f'{{"{first}": null, {text[1:]}')

    return edit


def tokenizer(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def header(raw: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw) and None


MANY = b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(300_000))
HUGE = {"t": {"dtype": "F32", "shape": [10 * GIB // 4], "data_offsets": [0, 10 * GIB]}}
ONCE = b'"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "300,000 tensors": (header(b"{" + MANY + b"}"), "SAFETENSORS_MALFORMED"),
    "a tensor of 10 GB": (header(json.dumps(HUGE).encode()), "SAFETENSORS_MALFORMED"),
    "a tensor twice": (header(b"{" + ONCE + b"," + ONCE + b"}"), "JSON_MALFORMED"),
    "a setting twice": (twice("config.json"), "JSON_MALFORMED"),
    "a tokenizer's part twice": (twice("tokenizer.json"), "JSON_MALFORMED"),
    "a tokenizer that never ends": (
        tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}),
        "TOKENIZER_UNSUPPORTED",
    ),
}


class TestPublisher:
    @pytest.mark.parametrize("name", BOMBS)
    def test_bomb(self, cloud: Cloud, tmp_path: Path, name: str) -> None:
        edit, code = BOMBS[name]
        folder = tmp_path / "model"
        shutil.copytree(cloud.folder, folder)
        edit(folder)
        source = cloud.published_unchecked(folder, 100 + list(BOMBS).index(name))
        assert refused(cloud, source) == (ModelFormatError, code)

    def test_ten_gigabytes_that_the_store_does_not_have(self, cloud: Cloud) -> None:
        assert refused(cloud, cloud.claimed("huge", 10 * GIB)) == (StorageError, "STORAGE_SIZE")

    def test_ten_gigabytes_that_a_lying_store_claims_to_have(self, cloud: Cloud) -> None:
        source = cloud.claimed("huge", 10 * GIB)
        on_container(cloud, Fault(states=10 * GIB + 34 + 16 * 10 * 1024), "HEAD")
        error, _ = refused(cloud, source)
        assert issubclass(error, StorageError | ContainerError)

    def test_more_than_any_enclave_loads(self, cloud: Cloud) -> None:
        assert refused(cloud, cloud.claimed("huger", 20 * GIB)) == (ModelFormatError, "MODEL_TOO_LARGE")

    @pytest.mark.parametrize("path", ["../config.json", "/etc/passwd", "a/../b", "a/b/c", ".hidden", "a\0b"])
    def test_file_name_that_leads_out(self, cloud: Cloud, path: str) -> None:
        def rename(values: dict[Any, Any]) -> None:
            values[1][4][0][1] = path

        assert refused(cloud, cloud.edited("path", rename)) == (ManifestError, "MANIFEST_MALFORMED")

    def test_container_key_that_leads_out(self, cloud: Cloud) -> None:
        def rename(values: dict[Any, Any]) -> None:
            values[2][1] = "../other-bucket/model.bin"

        assert refused(cloud, cloud.edited("key", rename)) == (ManifestError, "MANIFEST_MALFORMED")
