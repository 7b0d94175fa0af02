"""One spliced connection: two ends, each sending what the other receives."""

import asyncio
import contextlib
import socket
import struct
from datetime import timedelta
from typing import Final

_BUFFER_BYTES: Final = 256 * 1024
_BURST_SECONDS: Final = 0.1
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s: close() sends RST and drops what is queued


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    _arm_reset(sock)
    sock.close()


def _arm_reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed or reset already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class End(asyncio.Protocol):
    """One socket of the pair."""

    def __init__(self, connection: "Connection", bytes_per_second: int | None) -> None:
        self.received = 0
        self._connection = connection
        self._rate = bytes_per_second
        self._other: End | None = None
        self._transport: asyncio.Transport | None = None
        self._ended = False  # FIN received
        self._blocked = False  # the other end's buffer is full
        self._throttled = False  # ahead of the byte rate
        self._paid_until = 0.0  # loop time by which the rate allows what was read so far

    def start(self, other: "End") -> None:
        """Begin to read: both sockets exist now."""
        self._other = other
        self._gate()

    def reset(self) -> None:
        """Close with RST."""
        if self._transport is not None:
            _arm_reset(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over, not reading yet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        transport.pause_reading()  # a gRPC server speaks first: its bytes wait in the kernel until start()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self.received += len(data)
        self._connection.touch()
        self._peer.send(data)
        if self._rate is not None:
            self._throttle(len(data), self._rate)

    def send(self, data: bytes) -> None:
        """Send what the other end received."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def send_end(self) -> None:
        """Send FIN after the last byte, because the other end received one; the way back stays open."""
        if self._ended:
            self.close()
            self._peer.close()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self, *, blocked: bool) -> None:
        """Stop or resume reading, because the other end's buffer is full or has room again."""
        self._blocked = blocked
        self._gate()

    def close(self) -> None:
        """Close after what is buffered went out."""
        if self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool:
        """Pass FIN on."""
        self._ended = True
        self._peer.send_end()
        return True  # this end still sends

    def pause_writing(self) -> None:
        """Pass back-pressure on: this end's buffer is full."""
        self._peer.hold(blocked=True)

    def resume_writing(self) -> None:
        """Pass on that this end's buffer has room."""
        self._peer.hold(blocked=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass a reset or a close on."""
        if self._other is not None:
            if exc is None:
                self._other.close()
            else:
                self._other.reset()
        self._connection.end_lost()

    @property
    def _peer(self) -> "End":
        assert self._other is not None, "reads before start()"
        return self._other

    def _throttle(self, count: int, rate: int) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._paid_until = max(self._paid_until, now) + count / rate
        if self._paid_until - now > _BURST_SECONDS:
            self._throttled = True
            self._gate()
            loop.call_at(self._paid_until, self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttled = False
        self._gate()

    def _gate(self) -> None:
        # After FIN there is nothing to read; resuming would deliver it again.
        if self._transport is None or self._ended or self._transport.is_closing():
            return
        if self._blocked or self._throttled:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class Connection:
    """A client's end and a server's end, and the clock that notices when nothing moves between them."""

    def __init__(self, idle_timeout: timedelta, bytes_per_second: int | None) -> None:
        self.client = End(self, bytes_per_second)
        self.server = End(self, bytes_per_second)
        self._idle_seconds = idle_timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._ends = 2

    async def run(self, client: socket.socket, server: socket.socket) -> None:
        """Take over both sockets and return when both are closed; when cancelled, reset both."""
        self._watch()
        try:
            await self._loop.connect_accepted_socket(lambda: self.client, client)
            await self._loop.connect_accepted_socket(lambda: self.server, server)
            self.server.start(self.client)
            self.client.start(self.server)
            await asyncio.shield(self._closed)
        finally:
            self._timer.cancel()
            self._reset()
            for sock in (client, server):
                if sock.fileno() >= 0:  # cancelled before, or just as, a transport took it over
                    reset(sock)

    def touch(self) -> None:
        """Note that bytes moved."""
        self._moved_at = self._loop.time()

    def end_lost(self) -> None:
        """Note that one end is closed."""
        self._ends -= 1
        if not self._ends and not self._closed.done():
            self._closed.set_result(None)

    def _watch(self) -> None:
        """Reset when nothing moved for the idle time, else look again when that could first be so."""
        idle_at = self._moved_at + self._idle_seconds
        if idle_at <= self._loop.time():
            self._reset()
        else:
            self._timer = self._loop.call_at(idle_at, self._watch)

    def _reset(self) -> None:
        self.client.reset()
        self.server.reset()
