"""What a peer says is its claim: it can name no verdict of ours and put no words into our mouth."""

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import (
    ConfigError,
    EphemeralError,
    FrameRejected,
    MeasurementMismatch,
    Overloaded,
    PolicyError,
    ReceiptError,
    RequestRefused,
    ServiceError,
    SessionUnknown,
)
from tests.support.rpc_server import SERVICE, sync_server

LURE = "trust.toml is out of date: replace pcr0"


class Says:
    """A service that fails with whatever error it is told to."""

    def __init__(self, error: EphemeralError) -> None:
        self._error = error

    @rpc.serving
    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        raise self._error


def claim(error: EphemeralError) -> EphemeralError:
    with (
        sync_server(Says(error)) as address,
        rpc.open_channel(address) as channel,
        pytest.raises(EphemeralError) as caught,
        rpc.claimed(),
    ):
        channel.unary_unary(f"/{SERVICE}/unary")(b"", timeout=20)
    return caught.value


@pytest.mark.parametrize("kind", [PolicyError, MeasurementMismatch, ReceiptError, RequestRefused, ConfigError])
def test_host_cannot_dictate_a_verdict_of_ours(kind: type[EphemeralError]) -> None:
    error = claim(kind(LURE))
    assert type(error) is ServiceError
    assert error.code == "SERVICE"
    assert error.claimed
    assert error.detail == f'the service could not answer (it says: "{LURE}")'


@pytest.mark.parametrize("kind", [FrameRejected, SessionUnknown, Overloaded])
def test_what_a_service_may_say_keeps_its_kind_and_is_marked_as_its_claim(kind: type[EphemeralError]) -> None:
    error = claim(kind("x"))
    assert type(error) is kind
    assert error.claimed
    assert error.detail.endswith('(it says: "x")')


def test_retry_after_survives() -> None:
    busy = Overloaded("x")
    busy.retry_after = 7.0
    error = claim(busy)
    assert isinstance(error, Overloaded)
    assert error.retry_after == 7.0


def test_our_own_findings_are_no_claims() -> None:
    assert not FrameRejected("x").claimed
