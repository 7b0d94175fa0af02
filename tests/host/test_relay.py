"""gRPC through the relay is gRPC without it, and the relay would not notice if it were something else."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import grpc
import grpc.aio
import pytest

from ephemeral import rpc
from ephemeral.errors import DeadlineExceeded, SessionUnknown, Unavailable
from ephemeral.transport import Address, EventKind, Splice, SpliceEvent, SpliceLimits, connect, listen
from ephemeral_host.relay import EnclavePool, relay
from tests.support.echo_server import echo, read_to_end, serving
from tests.support.rpc_server import SERVICE, aio_server

SOON = timedelta(seconds=20)
ONE, TWO, THREE = (Address.parse(f"vsock://{cid}:5000") for cid in (16, 17, 18))


@asynccontextmanager
async def relaying(*enclaves: Address) -> AsyncIterator[tuple[Splice, Address]]:
    listening = listen(Address.parse("tcp://127.0.0.1:0"))
    address = Address.of(listening)
    async with relay(listening, enclaves, SpliceLimits()) as splice:
        yield splice, address


class Enclave:
    """Echoes, counts, waits and fails on request."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()

    @rpc.serving
    async def unary(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.started.set()
        if request == b"who":
            return self.name
        if request == b"fail":
            raise SessionUnknown("open another")
        if request == b"wait":
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        context.set_trailing_metadata((("trailer-bin", request[:64]),))
        return request

    @rpc.serving
    async def stream(self, request: bytes, _context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()


@asynccontextmanager
async def one_enclave() -> AsyncIterator[tuple[Enclave, grpc.aio.Channel]]:
    enclave = Enclave()
    async with (
        aio_server(enclave) as address,
        relaying(address) as (_, front),
        rpc.open_aio_channel(front) as channel,
    ):
        yield enclave, channel


async def test_a_unary_call_keeps_its_bytes_and_its_trailers() -> None:
    async with one_enclave() as (_, channel):
        sent = os.urandom(4 * 2**20)
        call = channel.unary_unary(f"/{SERVICE}/unary")(sent, timeout=60)
        assert await call == sent
        assert dict(await call.trailing_metadata())["trailer-bin"] == sent[:64]


async def test_a_stream_keeps_its_order_and_its_end() -> None:
    async with one_enclave() as (_, channel):
        call = channel.unary_stream(f"/{SERVICE}/stream")(b"2000", timeout=60)
        assert [int(answer) async for answer in call] == list(range(2000))


async def test_an_error_keeps_its_status_and_its_code() -> None:
    async with one_enclave() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/unary")(b"fail", timeout=60)
    assert type(rpc.error_from(caught.value)) is SessionUnknown


async def test_a_deadline_ends_the_call_at_both_ends() -> None:
    async with one_enclave() as (enclave, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/unary")(b"wait", timeout=1)
        assert type(rpc.error_from(caught.value)) is DeadlineExceeded
        await asyncio.wait_for(enclave.cancelled.wait(), 20)


async def test_a_cancelled_call_is_cancelled_in_the_enclave() -> None:
    async with one_enclave() as (enclave, channel):
        call = channel.unary_unary(f"/{SERVICE}/unary")(b"wait", timeout=60)
        waiting = asyncio.ensure_future(call)
        await asyncio.wait_for(enclave.started.wait(), 20)
        waiting.cancel()
        await asyncio.wait_for(enclave.cancelled.wait(), 20)


async def test_an_enclave_that_is_down_is_unavailable() -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with relaying(Address.of(dead)) as (_, front), rpc.open_aio_channel(front) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/{SERVICE}/unary")(b"", timeout=60)
    assert type(rpc.error_from(caught.value)) is Unavailable


async def test_random_bytes_pass_untouched() -> None:
    """A relay that parsed frames would refuse, change or wait for more of these."""
    async with serving(echo) as enclave, relaying(enclave) as (_, front):
        for size in (1, 9, 24, 1000, 70_000, 1_000_000):
            noise = os.urandom(size)
            with await connect(front, SOON) as sock:
                sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(sock, noise))
                sending.add_done_callback(lambda _, sock=sock: sock.shutdown(socket.SHUT_WR))
                assert await read_to_end(sock) == noise


async def test_connections_spread_over_the_enclaves_and_stay_where_they_are() -> None:
    async with AsyncExitStack() as stack:
        names = [b"a", b"b", b"c"]
        enclaves = [await stack.enter_async_context(aio_server(Enclave(name))) for name in names]
        _, front = await stack.enter_async_context(relaying(*enclaves))
        met: list[list[bytes]] = []
        for _ in range(6):
            channel = await stack.enter_async_context(rpc.open_aio_channel(front))
            met.append([await channel.unary_unary(f"/{SERVICE}/unary")(b"who", timeout=60) for _ in range(3)])
    assert all(len(set(answers)) == 1 for answers in met)
    assert Counter(answers[0] for answers in met) == dict.fromkeys(names, 2)


async def test_clients_reach_the_living_enclave_when_another_is_dead() -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with aio_server(Enclave(b"alive")) as alive, relaying(Address.of(dead), alive) as (_, front):
            for _ in range(3):
                async with rpc.open_aio_channel(front) as channel:
                    assert await channel.unary_unary(f"/{SERVICE}/unary")(b"who", timeout=60) == b"alive"


def happened(pool: EnclavePool, enclave: Address, *kinds: EventKind) -> None:
    for kind in kinds:
        pool.note(SpliceEvent(kind, enclave))


def test_the_least_connected_enclave_goes_first() -> None:
    pool = EnclavePool([ONE, TWO, THREE])
    assert list(pool.order()) == [ONE, TWO, THREE]
    happened(pool, ONE, EventKind.DIALLED, EventKind.OPENED, EventKind.DIALLED)
    happened(pool, TWO, EventKind.DIALLED)
    assert list(pool.order()) == [THREE, TWO, ONE]
    happened(pool, ONE, EventKind.CLOSED, EventKind.UNREACHABLE)
    assert pool.order()[-1] == ONE


def test_an_unreachable_enclave_does_not_attract_everyone_and_comes_back_when_it_answers() -> None:
    """It has no connections, so it would be first for ever."""
    pool = EnclavePool([ONE, TWO])
    happened(pool, ONE, EventKind.DIALLED, EventKind.UNREACHABLE)
    happened(pool, TWO, EventKind.DIALLED, EventKind.OPENED)
    assert list(pool.order()) == [TWO, ONE]
    happened(pool, ONE, EventKind.DIALLED, EventKind.OPENED, EventKind.CLOSED)
    assert list(pool.order()) == [ONE, TWO]


def test_a_relay_without_an_enclave_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="enclave"):
        EnclavePool([])
