"""One table maps errors to statuses and back; a peer cannot use it to say more than the table knows."""

from collections.abc import Iterator

import grpc
import pytest

from ephemeral import errors, rpc
from ephemeral.errors import EphemeralError
from ephemeral.rpc.status import CODE_KEY, RETRY_AFTER_KEY
from tests.support.rpc_server import SERVICE, sync_server


def tree(kind: type[EphemeralError]) -> Iterator[type[EphemeralError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


TREE = sorted(set(tree(EphemeralError)), key=lambda kind: kind.__name__)


class Raises:
    """Raises the error it is told to, or aborts as a peer that is not ours would."""

    def __init__(self) -> None:
        self.error: EphemeralError | None = None
        self.foreign: tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]] | None = None

    @rpc.serving
    def unary(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        if self.error is not None:
            raise self.error
        return request

    def stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        assert self.foreign is not None
        status, text, trailers = self.foreign
        context.set_trailing_metadata(trailers)
        context.abort(status, text)
        yield request


@pytest.fixture(scope="module")
def servicer() -> Raises:
    return Raises()


@pytest.fixture(scope="module")
def channel(servicer: Raises) -> Iterator[grpc.Channel]:
    with sync_server(servicer) as address, rpc.open_channel(address) as channel:
        yield channel


def failure_of(channel: grpc.Channel, servicer: Raises, error: EphemeralError) -> EphemeralError:
    servicer.error = error
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/unary")(b"", timeout=20)
    return rpc.error_from(caught.value)


def foreign_failure(
    channel: grpc.Channel, servicer: Raises, status: grpc.StatusCode, text: str, *trailers: tuple[str, str]
) -> EphemeralError:
    servicer.foreign = (status, text, trailers)
    with pytest.raises(grpc.RpcError) as caught:
        next(channel.unary_stream(f"/{SERVICE}/stream")(b"", timeout=20))
    return rpc.error_from(caught.value)


def test_every_error_of_the_tree_has_its_own_row() -> None:
    assert set(rpc.STATUS_OF) == set(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_survives_a_real_call(channel: grpc.Channel, servicer: Raises, kind: type[EphemeralError]) -> None:
    got = failure_of(channel, servicer, kind("what to do"))
    assert (type(got), got.code, got.detail) == (kind, kind.default_code, "what to do")


@pytest.mark.parametrize("code", sorted(rpc.KIND_OF_CODE))
def test_every_code_of_the_table_survives_a_real_call(channel: grpc.Channel, servicer: Raises, code: str) -> None:
    got = failure_of(channel, servicer, rpc.KIND_OF_CODE[code]("what to do", code=code))
    assert (type(got), got.code) == (rpc.KIND_OF_CODE[code], code)


def test_an_overloaded_server_says_when_to_come_back(channel: grpc.Channel, servicer: Raises) -> None:
    error = errors.Overloaded("full")
    error.retry_after = 2.5
    got = failure_of(channel, servicer, error)
    assert isinstance(got, errors.Overloaded)
    assert got.retry_after == 2.5


@pytest.mark.parametrize(("sent", "kept"), [("99999", 60.0), ("9" * 30, 1.0), ("-5", 1.0), ("soon", 1.0)])
def test_a_peer_cannot_send_a_client_away_for_ever(
    channel: grpc.Channel, servicer: Raises, sent: str, kept: float
) -> None:
    got = foreign_failure(channel, servicer, grpc.StatusCode.RESOURCE_EXHAUSTED, "", (RETRY_AFTER_KEY, sent))
    assert isinstance(got, errors.Overloaded)
    assert got.retry_after == kept


def test_a_code_the_table_does_not_know_is_not_repeated(channel: grpc.Channel, servicer: Raises) -> None:
    got = foreign_failure(channel, servicer, grpc.StatusCode.UNAVAILABLE, "x", (CODE_KEY, "UNHEARD_OF"))
    assert (type(got), got.code) == (errors.Unavailable, "UNAVAILABLE")


def test_a_code_that_does_not_fit_its_status_is_ignored(channel: grpc.Channel, servicer: Raises) -> None:
    """A host must not dress a dropped connection up as a proof against the enclave."""
    got = foreign_failure(channel, servicer, grpc.StatusCode.UNAVAILABLE, "x", (CODE_KEY, "FORGED_DOCUMENT"))
    assert type(got) is errors.Unavailable


def test_a_peers_text_reaches_a_terminal_as_one_short_harmless_line(channel: grpc.Channel, servicer: Raises) -> None:
    got = foreign_failure(channel, servicer, grpc.StatusCode.UNKNOWN, "a\n\x1b[31m\u202eb" + "c" * 1000)
    assert got.detail.isprintable()
    assert len(got.detail) <= 240


def test_statuses_without_a_code_still_become_typed_errors(channel: grpc.Channel, servicer: Raises) -> None:
    expected = {
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
        grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
        grpc.StatusCode.UNAUTHENTICATED: errors.SessionUnknown,
        grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
        grpc.StatusCode.UNIMPLEMENTED: errors.ServiceError,
    }
    got = {status: type(foreign_failure(channel, servicer, status, "")) for status in expected}
    assert got == expected


def test_a_failure_without_a_status_is_unavailable() -> None:
    assert isinstance(rpc.error_from(grpc.RpcError()), errors.Unavailable)
