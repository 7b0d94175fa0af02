"""What leaves a handler: a status of the table, or INTERNAL that says nothing."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import grpc.aio
import pytest

from ephemeral import rpc
from ephemeral.errors import EphemeralError, Overloaded
from ephemeral.transport import Address, LocalBridge, listen
from tests.support.rpc_server import SERVICE, aio_server, sync_server

SECRET = "patient 4711"
MINUTE = timedelta(minutes=1)
Fault = type[Exception]


class Sync:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    @rpc.serving
    def unary(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        raise self.fault(SECRET)

    @rpc.serving
    def stream(self, request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield request
        raise self.fault(SECRET)


class Aio:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    @rpc.serving
    async def unary(self, _request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        raise self.fault(SECRET)

    @rpc.serving
    async def stream(self, request: bytes, _context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield request
        raise self.fault(SECRET)


async def failures(address: Address) -> list[grpc.aio.AioRpcError]:
    """Call both methods; the stream must deliver what came before its failure."""
    async with rpc.open_aio_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await channel.unary_unary(f"/{SERVICE}/unary")(b"", timeout=20)
        answers = channel.unary_stream(f"/{SERVICE}/stream")(b"x", timeout=20)
        assert await answers.read() == b"x"
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await answers.read()
    return [unary.value, stream.value]


async def outcomes(kind: str, fault: Fault) -> list[grpc.aio.AioRpcError]:
    if kind == "aio":
        async with aio_server(Aio(fault)) as address:
            return await failures(address)
    with sync_server(Sync(fault)) as address:
        return await failures(address)


@pytest.mark.parametrize("kind", ["sync", "aio"])
async def test_a_typed_error_becomes_its_status_in_every_shape_of_handler(kind: str) -> None:
    for failure in await outcomes(kind, Overloaded):
        got = rpc.error_from(failure)
        assert (type(got), got.code, got.detail) == (Overloaded, "OVERLOADED", SECRET)


@pytest.mark.parametrize("kind", ["sync", "aio"])
async def test_any_other_error_says_nothing_to_the_peer_or_the_log(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An exception's text may quote the content that was being worked on."""
    with caplog.at_level(logging.DEBUG):
        for failure in await outcomes(kind, ZeroDivisionError):
            assert failure.code() is grpc.StatusCode.INTERNAL
            assert failure.details() == ""
    assert SECRET not in caplog.text
    assert caplog.text.count("ZeroDivisionError in a handler, at ") == 2


class Closing:
    """Notes that its stream was closed when the client left."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    @rpc.serving
    async def stream(self, request: bytes, _context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        try:
            while True:
                yield request
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()


async def test_a_client_that_leaves_a_stream_ends_its_handler() -> None:
    servicer = Closing()
    async with aio_server(servicer) as address, rpc.open_aio_channel(address) as channel:
        call = channel.unary_stream(f"/{SERVICE}/stream")(b"x", timeout=20)
        assert await call.read() == b"x"
        call.cancel()
        async with asyncio.timeout(20):
            await servicer.closed.wait()


class Clock:
    """Answers with the time a handler believes it has, in seconds."""

    def unary(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        return str(rpc.deadline(context, MINUTE).total_seconds()).encode()


class AioClock:
    async def unary(self, _request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return str(rpc.deadline(context, MINUTE).total_seconds()).encode()


async def test_a_handler_never_gets_more_time_than_the_server_allows() -> None:
    """A sync context without a deadline says 9.2e18 s, and an asyncio one None."""

    async def times(address: Address) -> list[float]:
        async with rpc.open_aio_channel(address) as channel:
            call = channel.unary_unary(f"/{SERVICE}/unary")
            return [float(await call(b"", timeout=limit)) for limit in (None, 3600, 20)]

    with sync_server(Clock()) as address:
        measured = [await times(address)]
    async with aio_server(AioClock()) as address:
        measured.append(await times(address))
    for unlimited, generous, short in measured:
        assert (unlimited, generous) == (60, 60)
        assert 0 < short < 60


class Echo:
    def unary(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        return request


class AioEcho:
    async def unary(self, request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return request


def test_a_call_reaches_a_server_through_a_bridge_in_a_thread() -> None:
    with sync_server(Echo()) as address, LocalBridge(address) as local, rpc.open_channel(local) as channel:
        assert channel.unary_unary(f"/{SERVICE}/unary")(b"hi", timeout=20) == b"hi"


def test_two_channels_are_two_connections() -> None:
    """gRPC shares one connection between like channels of a process, and a session would leave its enclave."""
    peers: set[str] = set()

    class Peer:
        def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
            peers.add(context.peer())
            return request

    with sync_server(Peer()) as address, rpc.open_channel(address) as one, rpc.open_channel(address) as other:
        for channel in (one, other):
            channel.unary_unary(f"/{SERVICE}/unary")(b"", timeout=20)
    assert len(peers) == 2


class Count:
    def unary(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        return str(len(request)).encode()


def test_a_message_above_the_cap_is_refused_by_the_server() -> None:
    with sync_server(Count()) as address, rpc.open_channel(address, max_message_bytes=-1) as channel:
        call = channel.unary_unary(f"/{SERVICE}/unary")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(rpc.MAX_MESSAGE_BYTES + 1), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(call(bytes(rpc.MAX_MESSAGE_BYTES), timeout=20)) == rpc.MAX_MESSAGE_BYTES


def test_a_proxy_of_the_environment_gets_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(Address.parse("tcp://127.0.0.1:0")) as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{Address.of(proxy).port}")
        monkeypatch.delenv("no_proxy", raising=False)
        with sync_server(Echo()) as address, rpc.open_channel(address) as channel:
            assert channel.unary_unary(f"/{SERVICE}/unary")(b"hi", timeout=20) == b"hi"
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_nobody_else_can_bind_a_servers_port() -> None:
    """With SO_REUSEPORT, gRPC's default, a second process would take half of the connections."""
    with sync_server(Echo()) as address:
        second = grpc.server(None, options=rpc.server_options())  # type: ignore[arg-type]
        with pytest.raises(RuntimeError):
            second.add_insecure_port(address.grpc_target)


def test_the_tree_of_errors_is_reached_by_any_error_of_ours() -> None:
    class Finer(Overloaded):
        """A class of another module gets the row of its base."""

    assert rpc.status_of(Finer("x")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc.status_of(EphemeralError("x")) is grpc.StatusCode.INTERNAL


def test_a_compressed_message_is_refused() -> None:
    """A bomb would be unpacked before its size is known, and compressed sizes speak of what was compressed."""
    with sync_server(Count()) as address, grpc.insecure_channel(address.grpc_target) as channel:
        call = channel.unary_unary(f"/{SERVICE}/unary")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(100_000), timeout=20, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING = 4, 6
INITIAL_WINDOW_SIZE = 4


@asynccontextmanager
async def tapped(address: Address) -> AsyncIterator[tuple[Address, list[bytes]]]:
    """Relay to a server, and keep what the client and the server sent."""
    sent = [b"", b""]

    async def pump(side: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            sent[side] += data
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(address.host, address.port)
        await asyncio.gather(pump(0, reader, there[1]), pump(1, there[0], writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as tap:
        yield Address.of(tap.sockets[0]), sent


def frames(sent: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the payload of every frame (RFC 9113 section 4.1)."""
    left = sent.removeprefix(PREFACE)
    while len(left) >= 9:
        size = int.from_bytes(left[:3], "big")
        yield left[3], left[9 : 9 + size]
        left = left[9 + size :]


async def test_calls_send_no_pings_and_a_stranger_can_pin_little_memory() -> None:
    """Pings beside requests would wake both ends and the relay, and find a window of hundreds of megabytes."""
    async with (
        aio_server(AioEcho()) as server,
        tapped(server) as (address, sent),
        rpc.open_aio_channel(address) as channel,
    ):
        for size in (1, rpc.MAX_MESSAGE_BYTES, *[1_000] * 20):
            assert len(await channel.unary_unary(f"/{SERVICE}/unary")(bytes(size), timeout=20)) == size
        both = [[*frames(side)] for side in sent]  # a server that stops says so with a ping
    windows = []
    for got in both:
        assert PING not in [kind for kind, _ in got]
        settings = next(payload for kind, payload in got if kind == SETTINGS)
        windows.append(dict(struct.iter_unpack(">HI", settings))[INITIAL_WINDOW_SIZE])
    client, server = windows
    assert client >= 2 * rpc.MAX_MESSAGE_BYTES  # a large answer comes without pauses
    assert 32 * server <= 32 << 20  # what 32 streams of one connection can have sent ahead
