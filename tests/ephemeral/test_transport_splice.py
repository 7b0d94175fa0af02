"""What the splice promises about bytes, ends, resets and limits, over real sockets."""

import asyncio
import errno
import hashlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ephemeral.errors import Unavailable
from ephemeral.transport import (
    Address,
    EventKind,
    Splice,
    SpliceEvent,
    SpliceLimits,
    Traffic,
    connect,
    listen,
    serve_splice,
)
from ephemeral.transport.connection import reset
from tests.support.echo_server import Talk, echo, read_to_end, serving

SOON = timedelta(seconds=20)
NO_WAIT = timedelta(0)
MIB = 1024 * 1024


@asynccontextmanager
async def splicing(
    *upstreams: Address,
    limits: SpliceLimits | None = None,
    observe: Callable[[SpliceEvent], object] | None = None,
    at: str = "tcp://127.0.0.1:0",
) -> AsyncIterator[tuple[Splice, Address]]:
    listening = listen(Address.parse(at))
    address = Address.of(listening)
    async with Splice(listening, lambda: upstreams, limits or SpliceLimits(), observe=observe) as splice:
        yield splice, address


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - asks about kernel and task state, which no event announces
            await asyncio.sleep(0.01)


def highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def refused(address: Address) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address.sockaddr) == errno.ECONNREFUSED


async def assert_reset(sock: socket.socket) -> None:
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        async with asyncio.timeout(20):
            await read_to_end(sock)


async def assert_turned_away(address: Address) -> None:
    """The RST may come while connect() is still looking, or at the first read."""
    with pytest.raises((Unavailable, ConnectionResetError)), await connect(address, SOON) as sock:
        await read_to_end(sock)


def waiting(record: list[socket.socket]) -> Talk:
    """Return a server's half that records its socket and does nothing until cancelled."""

    async def talk(sock: socket.socket) -> None:
        record.append(sock)
        await asyncio.get_running_loop().create_future()

    return talk


@pytest.mark.parametrize("front", ["tcp", "unix"])
@pytest.mark.parametrize("back", ["tcp", "unix"])
async def test_twenty_megabytes_come_back_unchanged(front: str, back: str, tmp_path: Path) -> None:
    names = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{tmp_path}/"}
    here, there = (names[kind] + ("" if kind == "tcp" else side) for kind, side in ((front, "f"), (back, "b")))
    sent = os.urandom(20 * MIB)
    async with serving(echo, there) as server, splicing(server, at=here) as (splice, address):
        with await connect(address, SOON) as sock:

            async def send() -> None:
                await asyncio.get_running_loop().sock_sendall(sock, sent)
                sock.shutdown(socket.SHUT_WR)

            got, _ = await asyncio.gather(read_to_end(sock), send())
        await until(lambda: splice.connections == 0)
        assert splice.traffic == Traffic(len(sent), len(sent))
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


async def test_a_server_that_speaks_first_is_heard() -> None:
    """A gRPC server sends its SETTINGS before the client says anything."""

    async def talk(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, b"settings")

    async with serving(talk) as server, splicing(server) as (_, address):
        with await connect(address, SOON) as sock:
            assert await read_to_end(sock) == b"settings"


async def test_half_close_lets_the_answer_come_after_the_end_of_the_question() -> None:
    async def talk(sock: socket.socket) -> None:
        question = await read_to_end(sock)
        await asyncio.get_running_loop().sock_sendall(sock, question[::-1])

    async with serving(talk) as server, splicing(server) as (splice, address):
        with await connect(address, SOON) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"abc")
            sock.shutdown(socket.SHUT_WR)
            assert await read_to_end(sock) == b"cba"
        await until(lambda: splice.connections == 0)


async def test_a_slow_reader_stops_the_sender_and_memory_stays_flat() -> None:
    """Unbounded buffering would let one client take all of the host's memory."""
    sent = 0

    async def pour(sock: socket.socket) -> None:
        nonlocal sent
        block = bytes(MIB)
        for _ in range(200):
            await asyncio.get_running_loop().sock_sendall(sock, block)
            sent += len(block)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with serving(pour) as server, splicing(server) as (_, address):
        with await connect(address, SOON) as sock:
            settled = -1
            while settled != sent:  # no byte is read here: the sender must come to a stop on its own
                settled = sent
                await asyncio.sleep(0.3)
            assert sent < 64 * MIB
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
            total = 0
            while data := await asyncio.get_running_loop().sock_recv(sock, MIB):
                total += len(data)
            assert total == 200 * MIB


async def test_a_reset_by_the_server_never_looks_like_the_end_of_an_answer() -> None:
    async def talk(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(sock, 1)
        reset(sock)

    async with serving(talk) as server, splicing(server) as (splice, address):
        with await connect(address, SOON) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"x")
            await assert_reset(sock)
        await until(lambda: splice.connections == 0)


async def test_a_reset_by_the_client_reaches_the_server() -> None:
    outcome: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def talk(sock: socket.socket) -> None:
        try:
            await read_to_end(sock)
        except OSError as error:
            outcome.set_result(error)
        else:
            outcome.set_result(None)

    async with serving(talk) as server, splicing(server) as (splice, address):
        reset(await connect(address, SOON))
        assert isinstance(await asyncio.wait_for(outcome, 20), ConnectionResetError)
        await until(lambda: splice.connections == 0)


async def test_a_client_is_reset_when_nothing_can_be_dialled() -> None:
    events: list[EventKind] = []
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with splicing(Address.of(dead), observe=lambda event: events.append(event.kind)) as (_, address):
            await assert_turned_away(address)
    assert events == [EventKind.DIALLED, EventKind.UNREACHABLE]


async def test_the_next_upstream_is_tried_when_the_best_is_down() -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with serving(echo) as alive, splicing(Address.of(dead), alive) as (_, address):
            with await connect(address, SOON) as sock:
                sock.shutdown(socket.SHUT_WR)
                assert await read_to_end(sock) == b""


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (SpliceLimits(max_connections=2), EventKind.REFUSED_TOTAL),
        (SpliceLimits(max_connections_per_peer=2), EventKind.REFUSED_PEER),
    ],
    ids=["total", "per peer"],
)
async def test_a_connection_above_a_cap_is_reset_and_room_comes_back(limits: SpliceLimits, refusal: EventKind) -> None:
    events: list[EventKind] = []
    async with (
        serving(echo) as server,
        splicing(server, limits=limits, observe=lambda event: events.append(event.kind)) as (splice, address),
    ):
        first, second = await connect(address, SOON), await connect(address, SOON)
        with first, second:
            await until(lambda: splice.connections == 2)
            await assert_turned_away(address)
            assert events.count(refusal) == 1
            first.shutdown(socket.SHUT_WR)
            await read_to_end(first)
            await until(lambda: splice.connections == 1)
            with await connect(address, SOON) as fourth:
                await asyncio.get_running_loop().sock_sendall(fourth, b"hi")
                assert await asyncio.get_running_loop().sock_recv(fourth, 2) == b"hi"


async def test_one_peer_at_its_cap_does_not_shut_another_peer_out() -> None:
    async with (
        serving(echo) as server,
        splicing(server, limits=SpliceLimits(max_connections_per_peer=1)) as (_, address),
    ):
        with await connect(address, SOON) as noisy, socket.socket() as polite:
            polite.settimeout(0)
            polite.bind(("127.0.0.2", 0))
            await asyncio.get_running_loop().sock_connect(polite, address.sockaddr)
            for sock in (noisy, polite):
                await asyncio.get_running_loop().sock_sendall(sock, b"hi")
                assert await asyncio.get_running_loop().sock_recv(sock, 2) == b"hi"


async def test_a_silent_connection_is_reset_on_both_sides() -> None:
    """A slowloris client holds a slot only for the idle time."""
    record: list[socket.socket] = []
    limits = SpliceLimits(idle_timeout=timedelta(milliseconds=200))
    async with serving(waiting(record)) as server, splicing(server, limits=limits) as (splice, address):
        with await connect(address, SOON) as sock:
            await assert_reset(sock)
            await assert_reset(record[0])
            await until(lambda: splice.connections == 0)


async def test_a_reader_that_stalls_for_ever_counts_as_idle() -> None:
    async def pour(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, bytes(64 * MIB))

    limits = SpliceLimits(idle_timeout=timedelta(milliseconds=300))
    async with serving(pour) as server, splicing(server, limits=limits) as (splice, address):
        with await connect(address, SOON):
            await until(lambda: splice.connections == 1)
            await until(lambda: splice.connections == 0)


async def test_the_byte_rate_holds_a_connection_back() -> None:
    """At 1 MiB/s a mebibyte takes a second each way, less the burst."""
    limits = SpliceLimits(bytes_per_second=MIB)
    loop = asyncio.get_running_loop()
    async with serving(echo) as server, splicing(server, limits=limits) as (_, address):
        with await connect(address, SOON) as sock:
            begun = loop.time()

            async def send() -> None:
                await loop.sock_sendall(sock, bytes(MIB))
                sock.shutdown(socket.SHUT_WR)

            got, _ = await asyncio.gather(read_to_end(sock), send())
            # A lower bound of the loop's own clock: a slow machine only makes it later.
            assert loop.time() - begun > 0.4
    assert len(got) == MIB


async def test_drain_lets_an_open_exchange_finish_and_accepts_nothing_new() -> None:
    go = asyncio.Event()

    async def talk(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(sock, 1)
        await go.wait()
        await asyncio.get_running_loop().sock_sendall(sock, b"answer")

    async with serving(talk) as server, splicing(server) as (splice, address):
        with await connect(address, SOON) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"?")
            await until(lambda: splice.traffic.to_upstream == 1)
            draining = asyncio.create_task(splice.drain(SOON))
            await until(lambda: refused(address))
            go.set()
            sock.shutdown(socket.SHUT_WR)
            assert await read_to_end(sock) == b"answer"
        assert await draining == 0


async def test_drain_resets_what_outlives_the_grace() -> None:
    async with serving(waiting([])) as server, splicing(server) as (splice, address):
        with await connect(address, SOON) as sock:
            await until(lambda: splice.connections == 1)
            assert await splice.drain(NO_WAIT) == 1
            await assert_reset(sock)


async def test_out_of_descriptors_pauses_accepting_and_recovers() -> None:
    async with serving(echo) as server, splicing(server) as (_, address):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as sock:
            sock.settimeout(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor(), hard))
            try:
                await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
                await asyncio.sleep(0.05)  # the splice meets EMFILE
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await asyncio.get_running_loop().sock_sendall(sock, b"hi")
            assert await asyncio.get_running_loop().sock_recv(sock, 2) == b"hi"


async def test_every_dial_is_balanced_by_an_end() -> None:
    """Whoever counts connections per upstream by the events must come back to zero."""
    events: list[SpliceEvent] = []
    async with serving(echo) as server, splicing(server, observe=events.append) as (splice, address):
        for ending in (reset, socket.socket.close):
            ending(await connect(address, SOON))
            await until(lambda: splice.connections == 0)
    kinds = [event.kind for event in events]
    assert kinds == [EventKind.DIALLED, EventKind.OPENED, EventKind.CLOSED] * 2
    assert {event.upstream for event in events} == {server}


async def test_serve_splice_ends_with_its_task_and_frees_the_address() -> None:
    listening = listen(Address.parse("tcp://127.0.0.1:0"))
    address = Address.of(listening)
    async with serving(echo) as server:
        task = asyncio.create_task(serve_splice(listening, server, SpliceLimits()))
        with await connect(address, SOON) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"hi")
            assert await asyncio.get_running_loop().sock_recv(sock, 2) == b"hi"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await assert_reset(sock)
    listen(address).close()


def test_limits_that_allow_nothing_are_refused() -> None:
    for wrong in ({"max_connections": 0}, {"idle_timeout": NO_WAIT}, {"bytes_per_second": -1}):
        with pytest.raises(ValueError, match="positive"):
            SpliceLimits(**wrong)  # type: ignore[arg-type]
