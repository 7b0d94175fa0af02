"""The storage service against S3 over real HTTP, driven by pytest-grpc's fixtures."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import grpc
import pytest
from moto.server import ThreadedMotoServer

from ephemeral import rpc
from ephemeral.errors import EphemeralError, InvalidRequest, ObjectMissing, StorageError, StorageUnavailable
from ephemeral.wire import ObjectRef, RangeRequest, StorageServiceStub, add_StorageServiceServicer_to_server
from ephemeral_host.aws import s3_client
from ephemeral_host.config import load
from ephemeral_host.resilience import Backend
from ephemeral_host.storage import StorageService
from tests.support.aws_environment import aws_environment, set_environment

BUCKET = "models"
KEY = "minilm/container"
SIZE = 5 * 2**20 + 17
MIB = 2**20
CONTENT = os.urandom(SIZE)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def environment(s3_url: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, aws_environment(s3=s3_url))
        set_environment(patch, {"EPHEMERALML_S3_BUCKET": BUCKET, "EPHEMERALML_MODELS": "a=b"})
        yield


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Replace the plugin's own choice, which drops its port before the server binds it."""
    return f"unix:{tmp_path_factory.mktemp('storage') / 's'}"


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[..., None]:
    return add_StorageServiceServicer_to_server


@pytest.fixture(scope="module")
def grpc_servicer(environment: None) -> StorageService:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    return StorageService(s3_client(load()), BUCKET, Backend("STORAGE", StorageUnavailable))


@pytest.fixture(scope="module")
def grpc_stub_cls(grpc_channel: grpc.Channel) -> type[StorageServiceStub]:
    return StorageServiceStub


def read(stub: StorageServiceStub, offset: int, length: int, etag: str = "", key: str = KEY) -> list[bytes]:
    request = RangeRequest(key=key, offset=offset, length=length, etag=etag)
    return [chunk.data for chunk in stub.Get(request, timeout=60)]


def failure(call: Callable[[], object]) -> EphemeralError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return rpc.error_from(caught.value)


def test_head_tells_size_and_etag(grpc_stub: StorageServiceStub) -> None:
    info = grpc_stub.Head(ObjectRef(key=KEY), timeout=60)
    assert info.size == SIZE
    assert info.etag == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'


def test_a_whole_object_comes_in_chunks_of_at_most_one_mebibyte(grpc_stub: StorageServiceStub) -> None:
    chunks = read(grpc_stub, 0, SIZE)
    assert b"".join(chunks) == CONTENT
    assert max(map(len, chunks)) <= MIB


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (SIZE - 1, 1), (12345, 2 * MIB), (MIB, MIB)])
def test_a_range_is_exactly_the_bytes_asked_for(grpc_stub: StorageServiceStub, offset: int, length: int) -> None:
    assert b"".join(read(grpc_stub, offset, length)) == CONTENT[offset : offset + length]


def test_a_missing_object_is_missing_for_head_and_for_get(grpc_stub: StorageServiceStub) -> None:
    assert isinstance(failure(lambda: grpc_stub.Head(ObjectRef(key="none"), timeout=60)), ObjectMissing)
    assert isinstance(failure(lambda: read(grpc_stub, 0, 1, key="none")), ObjectMissing)


def test_a_pinned_object_that_changed_is_refused(grpc_stub: StorageServiceStub) -> None:
    """A container put together from two uploads would fail much later, and look like an attack."""
    info = grpc_stub.Head(ObjectRef(key=KEY), timeout=60)
    assert b"".join(read(grpc_stub, 0, 5, info.etag)) == CONTENT[:5]
    assert failure(lambda: read(grpc_stub, 0, 5, '"other"')).code == "STORAGE_CHANGED"


def test_a_range_outside_the_object_is_refused(grpc_stub: StorageServiceStub) -> None:
    error = failure(lambda: read(grpc_stub, SIZE, 1))
    assert (type(error), error.code) == (StorageError, "STORAGE_RANGE")


@pytest.mark.parametrize(
    "request_",
    [
        RangeRequest(key="", length=1),
        RangeRequest(key="k" * 1025, length=1),
        RangeRequest(key="line\nbreak", length=1),
        RangeRequest(key=KEY, length=0),
        RangeRequest(key=KEY, length=2**63),
        RangeRequest(key=KEY, length=1, offset=2**63),
        RangeRequest(key=KEY, length=1, etag='"e"\r\nX-Injected: 1'),
        RangeRequest(key=KEY, length=1, etag="e" * 257),
    ],
    ids=["empty", "long", "control", "nothing", "vast", "far", "header", "long etag"],
)
def test_a_malformed_request_never_reaches_s3(grpc_stub: StorageServiceStub, request_: RangeRequest) -> None:
    assert isinstance(failure(lambda: list(grpc_stub.Get(request_, timeout=60))), InvalidRequest)


def test_a_key_cannot_leave_the_configured_bucket(grpc_stub: StorageServiceStub) -> None:
    boto3.client("s3").create_bucket(Bucket="private")
    boto3.client("s3").put_object(Bucket="private", Key="payroll", Body=b"x")
    for key in ("../private/payroll", "/private/payroll", "..%2fprivate/payroll", str(Path("private", "payroll"))):
        assert isinstance(failure(lambda key=key: read(grpc_stub, 0, 1, key=key)), ObjectMissing)  # type: ignore[misc]
