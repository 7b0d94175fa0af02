"""The splice: accept here, dial there, and move bytes both ways without looking at them.

Each connection is a pair of ends. What one end receives the other sends, and so are the ends of streams and resets:

======================  =====================================================================================
a reader is slow        its end's buffer fills, the other end stops reading: memory stays bounded
one side sends FIN      the other side gets FIN after the last byte; the way back stays open (half-close)
one side sends RST      the other side gets RST, so that a cut answer never looks like a complete one
nobody can be dialled   the client gets RST
a cap is reached        the client gets RST
nothing moves           both sides get RST after ``idle_timeout``; a reader that stalls for ever is idle, too
======================  =====================================================================================

Stdlib asyncio only: uvloop sets TCP_NODELAY on every stream socket, which AF_VSOCK refuses.
"""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from ephemeral.errors import AddressError, Unavailable
from ephemeral.transport.address import Address
from ephemeral.transport.connection import Connection, reset
from ephemeral.transport.sockets import connect

_ACCEPT_PAUSE: Final = 0.1  # seconds; out of descriptors: let some connections end before accepting again


@dataclass(frozen=True, slots=True)
class SpliceLimits:
    """What one splice may use."""

    max_connections: int = 1024
    max_connections_per_peer: int | None = None
    """Per IPv4 address, IPv6 /64 or CID; None where all connections come from one peer, as in an enclave."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """For each upstream address tried."""
    idle_timeout: timedelta = timedelta(minutes=15)
    bytes_per_second: int | None = None
    """Per connection and direction."""

    def __post_init__(self) -> None:
        caps = (self.max_connections, self.max_connections_per_peer, self.bytes_per_second)
        times = (self.connect_timeout, self.idle_timeout)
        if any(cap is not None and cap < 1 for cap in caps) or any(time <= timedelta(0) for time in times):
            raise ValueError("every limit of a splice is positive")


class EventKind(StrEnum):
    """What an observer of a splice hears."""

    DIALLED = "dialled"
    UNREACHABLE = "unreachable"
    OPENED = "opened"
    CLOSED = "closed"
    REFUSED_TOTAL = "refused_total"
    REFUSED_PEER = "refused_peer"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes moved each way."""

    to_upstream: int = 0
    to_client: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.to_upstream + other.to_upstream, self.to_client + other.to_client)


@dataclass(frozen=True, slots=True)
class SpliceEvent:
    """Something happened to a connection: never what was in it.

    DIALLED is followed by UNREACHABLE, or by OPENED and later CLOSED; CLOSED carries the connection's traffic.
    """

    kind: EventKind
    upstream: Address | None = None
    traffic: Traffic = Traffic()


class Splice:
    """Splices every connection a listening socket accepts, from ``async with`` until its end.

    `upstreams` is asked once per connection for the addresses to try, best first.
    """

    def __init__(
        self,
        listening: socket.socket,
        upstreams: Callable[[], Sequence[Address]],
        limits: SpliceLimits,
        *,
        observe: Callable[[SpliceEvent], object] | None = None,
    ) -> None:
        self._listening = listening
        self._upstreams = upstreams
        self._limits = limits
        self._observe: Callable[[SpliceEvent], object] = observe or (lambda _event: None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._peers: Counter[str] = Counter()
        self._finished = Traffic()
        self._started = False

    @property
    def connections(self) -> int:
        """Connections accepted and not yet ended."""
        return len(self._tasks)

    @property
    def traffic(self) -> Traffic:
        """Bytes moved so far, over all connections."""
        return sum((_traffic(connection) for connection in self._open), self._finished)

    async def __aenter__(self) -> Self:
        if self._started:
            raise RuntimeError("a splice runs once")
        self._started = True
        self._start_accepting()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(timedelta(0))

    async def drain(self, grace: timedelta) -> int:
        """Accept no more, give open connections `grace` to end, reset the others and return how many those were."""
        self._stop_accepting()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    def _start_accepting(self) -> None:
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _stop_accepting(self) -> None:
        if self._listening.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._listening.family == socket.AF_UNIX:
            Path(self._listening.getsockname()).unlink(missing_ok=True)
        self._listening.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # gone again before we looked
        except OSError:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listening)
            loop.call_later(_ACCEPT_PAUSE, self._start_accepting)
        else:
            client.settimeout(0)
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        peer = _peer(client)
        refusal = self._refusal(peer)
        if refusal is not None:
            self._observe(SpliceEvent(refusal))
            reset(client)
            return
        self._peers[peer] += 1
        task = asyncio.create_task(self._carry(client))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(done, client, peer))

    def _refusal(self, peer: str) -> EventKind | None:
        if len(self._tasks) >= self._limits.max_connections:
            return EventKind.REFUSED_TOTAL
        per_peer = self._limits.max_connections_per_peer
        return EventKind.REFUSED_PEER if peer and per_peer is not None and self._peers[peer] >= per_peer else None

    def _forget(self, task: asyncio.Task[None], client: socket.socket, peer: str) -> None:
        if client.fileno() >= 0:  # nobody could be dialled, or cancelled before that
            reset(client)
        self._tasks.discard(task)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    async def _carry(self, client: socket.socket) -> None:
        for upstream in self._upstreams():
            server = await self._dial(upstream)
            if server is not None:
                await self._join(client, server, upstream)
                return

    async def _dial(self, upstream: Address) -> socket.socket | None:
        self._observe(SpliceEvent(EventKind.DIALLED, upstream))
        try:
            return await connect(upstream, self._limits.connect_timeout)
        except BaseException as error:
            self._observe(SpliceEvent(EventKind.UNREACHABLE, upstream))
            if isinstance(error, Unavailable | AddressError):
                return None
            raise

    async def _join(self, client: socket.socket, server: socket.socket, upstream: Address) -> None:
        self._observe(SpliceEvent(EventKind.OPENED, upstream))
        connection = Connection(self._limits.idle_timeout, self._limits.bytes_per_second)
        self._open.add(connection)
        try:
            await connection.run(client, server)
        finally:
            self._open.discard(connection)
            traffic = _traffic(connection)
            self._finished += traffic
            self._observe(SpliceEvent(EventKind.CLOSED, upstream, traffic))


def _traffic(connection: Connection) -> Traffic:
    return Traffic(connection.client.received, connection.server.received)


def _peer(client: socket.socket) -> str:
    """Whom a connection counts against; empty for a UNIX peer, whom file permissions admit."""
    try:
        name = client.getpeername()
    except OSError:
        return ""  # gone already; reading from it will tell
    if client.family == socket.AF_INET6:
        return str(ipaddress.ip_network((name[0].partition("%")[0], 64), strict=False))
    return "" if client.family == socket.AF_UNIX else str(name[0])


async def serve_splice(
    listening: socket.socket,
    upstream: Address,
    limits: SpliceLimits,
    *,
    observe: Callable[[SpliceEvent], object] | None = None,
) -> NoReturn:
    """Splice every connection of `listening` to one address until cancelled; then reset what is open."""
    async with Splice(listening, lambda: (upstream,), limits, observe=observe):
        await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable: the future never completes")
