"""An enclave that has no room, seen by a live client: it is believed, and asked again when it said."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import grpc
import pytest

from ephemeral import rpc, wire
from ephemeral.errors import (
    ConfigError,
    DeadlineExceeded,
    EphemeralError,
    InvalidRequest,
    Overloaded,
    ServiceError,
    Unavailable,
)
from ephemeral.transport import Address
from ephemeralml import Client
from ephemeralml.deadline import Deadline
from tests.client.test_cli import run
from tests.support.handshake_server import relayed
from tests.support.kept_evidence import policy_toml
from tests.support.peers import Enclave


class Busy(wire.InferenceServiceServicer):
    """Refuses what comes as it was told to, and notes when which frame came."""

    def __init__(self) -> None:
        self.refusals: list[EphemeralError] = []
        self.frames: list[tuple[float, wire.SealedFrame]] = []
        self.left: list[float] = []

    @rpc.serving
    def Infer(self, request: wire.SealedFrame, context: grpc.ServicerContext) -> wire.SealedFrame:  # noqa: N802
        self.frames.append((time.monotonic(), request))
        self.left.append(context.time_remaining())
        raise self.refusals.pop(0)

    @property
    def sequences(self) -> list[int]:
        return [frame.sequence for _, frame in self.frames]


Connect = Callable[[float], Client]


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
def connect(busy: Busy) -> Iterator[Connect]:
    enclave, clients = Enclave(), []

    def connected(timeout: float) -> Client:
        clients.append(Client.connect(address, trust=enclave.policy(), timeout=timeout))
        return clients[-1]

    with relayed(enclave, inference=busy) as address:
        yield connected
        for client in clients:
            client.close()


def no_room(seconds: float) -> Overloaded:
    error = Overloaded("full", code="QUEUE_FULL")
    error.retry_after = seconds
    return error


def test_client_asks_again_when_it_was_told_to_and_seals_anew(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(0.3), no_room(0.2), InvalidRequest("other")]
    with pytest.raises(ServiceError, match="other"):
        connect(60).embed(["text"])
    (first, one), (second, two), (third, three) = busy.frames
    assert second - first >= 0.3
    assert third - second >= 0.2
    assert (one.sequence, two.sequence, three.sequence) == (1, 2, 3)
    assert len({frame.ciphertext for _, frame in busy.frames}) == 3


def test_command_line_says_what_it_waits_for(busy: Busy, tmp_path: Path) -> None:
    busy.refusals = [no_room(0.3), InvalidRequest("other")]
    enclave, policy = Enclave(), tmp_path / "trust.toml"
    policy.write_text(policy_toml(enclave.policy()))
    with relayed(enclave, inference=busy) as address:
        done = run("embed", "--address", address, "--trust", str(policy), "text")
    assert "the enclave has no room; asking again in 0." in done.stderr
    assert (done.returncode, len(busy.frames)) == (3, 2)


def test_caller_with_less_time_than_that_is_told_at_once(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(50)]
    client = connect(20)
    with pytest.raises(Overloaded) as refused:
        client.embed(["text"])
    assert refused.value.retry_after == 50
    assert len(busy.frames) == 1


def test_host_that_says_for_ever_that_there_is_no_room_does_not_hold_the_caller_for_ever(
    busy: Busy, connect: Connect
) -> None:
    busy.refusals = [no_room(0.05)] * 1000
    client = connect(1)
    with pytest.raises(Overloaded):
        client.embed(["text"])
    assert 1 < len(busy.frames) < 10


def test_host_that_says_at_once_does_not_make_the_client_seal_without_end(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(0)] * 1000
    with pytest.raises(Overloaded):
        connect(2).embed(["text"])
    assert 1 < len(busy.frames) < 10


def test_host_that_says_in_an_hour_is_not_believed(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(60)]
    client = connect(20)
    for _ in range(2):
        with pytest.raises(Overloaded) as refused:
            client.embed(["text"])
    assert refused.value.retry_after <= 30


def test_message_that_is_too_large_is_not_sent_again(busy: Busy, connect: Connect) -> None:
    busy.refusals = [Overloaded("larger than max"), ConfigError("other")]  # as gRPC says it, without our code
    client = connect(20)
    with pytest.raises(Overloaded):
        client.embed(["text"])
    with pytest.raises(ServiceError, match="other"):
        client.embed(["text"])
    assert len(busy.frames) == 2


def test_closing_wakes_who_waits(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(25)]
    client = connect(60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.embed, ["text"])
        while not busy.frames:
            time.sleep(0.01)
        client.close()
        with pytest.raises(Unavailable, match="closed"):
            waiting.result(20)
    with pytest.raises(Unavailable, match="closed"):
        client.embed(["text"])


def test_threads_do_not_wait_longer_for_each_others_handshake_than_they_may() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address.parse(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        client, begun = Client(address, Enclave().policy(), timeout=1), time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(client.embed, ["text"]) for _ in range(8)]
        assert {type(each.exception()) for each in waiting} <= {DeadlineExceeded, Unavailable}
        assert time.monotonic() - begun < 5  # and not 8
        client.close()


def test_threads_of_a_session_send_nothing_until_its_pause_is_over(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(30)]
    client = connect(20)
    with pytest.raises(Overloaded):
        client.embed(["text"])

    def refused(_: int) -> Overloaded:
        with pytest.raises(Overloaded, match="nothing was sent") as paused:
            client.embed(["text"])
        return paused.value

    with ThreadPoolExecutor(8) as pool:
        errors = [*pool.map(refused, range(64)), *pool.map(refused, range(64))]
    assert busy.sequences == [1]  # and no sequence number was used up
    assert {error.code for error in errors} == {"STILL_BUSY"}
    assert all(20 < error.retry_after <= 30 for error in errors)
    with pytest.raises(Overloaded, match="nothing was sent"):
        client.describe()


def test_pause_is_the_sessions_own(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(30), InvalidRequest("other")]
    with pytest.raises(Overloaded):
        connect(20).embed(["text"])
    with pytest.raises(ServiceError, match="other"):
        connect(20).embed(["text"])


def test_session_whose_requests_are_used_up_is_replaced(busy: Busy, connect: Connect) -> None:
    busy.refusals = [InvalidRequest("other")] * 2
    client = connect(20)
    client._current().channel.max_requests = 1
    for _ in range(2):
        with pytest.raises(ServiceError, match="other"):
            client.embed(["text"])
    assert busy.sequences == [1, 1]
    assert len({frame.session_id for _, frame in busy.frames}) == 2


def test_handshake_whose_steps_together_take_too_long_is_given_up() -> None:
    enclave = Enclave()
    with relayed(enclave, seconds=0.7) as address, pytest.raises(DeadlineExceeded):
        Client.connect(address, trust=enclave.policy(), timeout=1)


def test_what_is_asked_again_has_only_the_time_that_is_left(busy: Busy, connect: Connect) -> None:
    busy.refusals = [no_room(2), InvalidRequest("other")]
    with pytest.raises(ServiceError, match="other"):
        connect(30).embed(["text"])
    first, second = busy.left
    assert second <= first - 1.9


def test_lock_that_another_thread_keeps_is_waited_for_until_the_deadline() -> None:
    lock = Lock()
    with lock, pytest.raises(DeadlineExceeded), Deadline(0.05).holding(lock):
        pytest.fail("entered")
    with Deadline(0.05).holding(lock):
        assert lock.locked()
    assert not lock.locked()
