"""S3 that is slow, short, throttling, denying or answering something else."""

from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import EphemeralError, ObjectMissing, StorageError, StorageUnavailable
from ephemeral.wire import ObjectRef, RangeRequest, StorageServiceStub, add_StorageServiceServicer_to_server
from ephemeral_host.aws import s3_client
from ephemeral_host.config import load
from ephemeral_host.resilience import Backend, CircuitBreaker, RetryPolicy
from ephemeral_host.storage import StorageService
from tests.support.aws_environment import aws_environment, set_environment
from tests.support.host_service import served
from tests.support.planned_http import PlannedServer, Reply, s3_error

QUICK = RetryPolicy(attempts=3, first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=2))
CONTENT = bytes(range(256)) * 12_000  # three chunks


@pytest.fixture(scope="module")
def s3() -> Iterator[PlannedServer]:
    with PlannedServer().running() as server:
        yield server


@pytest.fixture(scope="module")
def stub(s3: PlannedServer) -> Iterator[StorageServiceStub]:
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, aws_environment(s3=s3.url))
        settings = {"S3_BUCKET": "models", "MODELS": "a=b", "AWS_TIMEOUT_SECONDS": "0.3"}
        set_environment(patch, {f"EPHEMERALML_{name}": value for name, value in settings.items()})
        backend = Backend("STORAGE", StorageUnavailable, policy=QUICK, breaker=CircuitBreaker(failures=1000))
        service = StorageService(s3_client(load()), "models", backend)
    with served(service, add_StorageServiceServicer_to_server) as channel:
        yield StorageServiceStub(channel)


def part(start: int, missing: int = 0, etag: str = '"e1"') -> Reply:
    headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": etag}
    return Reply(206, CONTENT[start:], headers, missing=missing)


def read(stub: StorageServiceStub) -> bytes:
    request = RangeRequest(key="k", length=len(CONTENT))
    return b"".join(chunk.data for chunk in stub.Get(request, timeout=30))


def failure(stub: StorageServiceStub) -> EphemeralError:
    with pytest.raises(grpc.RpcError) as caught:
        read(stub)
    return rpc.error_from(caught.value)


@pytest.mark.parametrize(
    "fault",
    [Reply(500), s3_error("SlowDown", 503), Reply(stalled=True), part(0, missing=len(CONTENT))],
    ids=["500", "throttle", "stall", "cut at once"],
)
def test_a_passing_failure_is_survived(s3: PlannedServer, stub: StorageServiceStub, fault: Reply) -> None:
    s3.plan(fault, fault, part(0))
    assert read(stub) == CONTENT


def test_a_cut_body_goes_on_where_it_ended_and_pins_the_same_object(
    s3: PlannedServer, stub: StorageServiceStub
) -> None:
    got = 2 * 2**20  # the whole chunks that arrive before the cut
    s3.plan(part(0, missing=len(CONTENT) - got), part(got))
    assert read(stub) == CONTENT
    first, second = s3.asked
    assert "If-Match" not in first.headers
    assert second.headers["If-Match"] == '"e1"'
    assert second.headers["Range"] == f"bytes={got}-{len(CONTENT) - 1}"


def test_an_object_that_changes_between_two_reads_ends_the_stream(s3: PlannedServer, stub: StorageServiceStub) -> None:
    s3.plan(part(0, missing=2**20), s3_error("PreconditionFailed", 412))
    assert failure(stub).code == "STORAGE_CHANGED"


def test_a_store_that_ignores_the_range_is_not_believed(s3: PlannedServer, stub: StorageServiceStub) -> None:
    s3.plan(*[Reply(200, CONTENT, {"ETag": '"e1"'})] * 3)
    error = failure(stub)
    assert isinstance(error, StorageUnavailable)
    assert "another range" in error.detail


def test_a_store_that_answers_more_than_asked_is_cut_off(s3: PlannedServer, stub: StorageServiceStub) -> None:
    s3.plan(part(0))
    request = RangeRequest(key="k", length=1000)
    assert b"".join(chunk.data for chunk in stub.Get(request, timeout=30)) == CONTENT[:1000]


def test_a_store_that_keeps_answering_short_is_unavailable(s3: PlannedServer, stub: StorageServiceStub) -> None:
    short = Reply(206, b"", {"Content-Range": f"bytes 0-0/{len(CONTENT)}", "ETag": '"e1"'})
    s3.plan(*[short] * 3)
    error = failure(stub)
    assert isinstance(error, StorageUnavailable)
    assert len(s3.asked) == QUICK.attempts


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (s3_error("AccessDenied", 403), StorageError, "STORAGE_DENIED"),
        (s3_error("SignatureDoesNotMatch", 403), StorageError, "STORAGE_DENIED"),
        (s3_error("ExpiredToken", 400), StorageError, "STORAGE_DENIED"),
        (s3_error("NoSuchBucket", 404), ObjectMissing, "OBJECT_MISSING"),
        (s3_error("InvalidObjectState", 400), StorageError, "STORAGE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_typed_and_not_asked_again(
    s3: PlannedServer, stub: StorageServiceStub, refusal: Reply, kind: type[EphemeralError], code: str
) -> None:
    s3.plan(refusal, part(0))
    error = failure(stub)
    assert (type(error), error.code) == (kind, code)
    assert len(s3.asked) == 1


@pytest.mark.parametrize(("status", "kind"), [(403, StorageError), (404, ObjectMissing), (503, StorageUnavailable)])
def test_head_reads_the_status_since_it_gets_no_body(
    s3: PlannedServer, stub: StorageServiceStub, status: int, kind: type[EphemeralError]
) -> None:
    s3.plan(*[Reply(status)] * 3)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Head(ObjectRef(key="k"), timeout=30)
    assert type(rpc.error_from(caught.value)) is kind
