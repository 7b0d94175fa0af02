"""Listening and dialling: an Address becomes a non-blocking stream socket, or one typed error."""

import asyncio
import errno
import os
import socket
import stat
from datetime import timedelta
from pathlib import Path
from typing import Final

from ephemeral.errors import AddressError, Unavailable
from ephemeral.transport.address import Address, Scheme

_BACKLOG: Final = 256


def listen(address: Address) -> socket.socket:
    """Return a listening socket; ``Address.of`` tells the port that the kernel chose for port 0.

    A UNIX socket is reachable for the owner alone, and replaces the file of a listener that died.

    Raises:
        AddressError: the address is taken (code ``ADDRESS_IN_USE``), not ours to bind, or not of this machine.
    """
    sock = _stream_socket(address)
    try:
        _bind(sock, address)
        sock.listen(_BACKLOG)
        sock.settimeout(0)
    except OSError as error:
        sock.close()
        code = "ADDRESS_IN_USE" if error.errno == errno.EADDRINUSE else "ADDRESS_UNAVAILABLE"
        raise AddressError(f"cannot listen on {address}: {_reason(error)}", code=code) from None
    return sock


def _stream_socket(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    if address.scheme is Scheme.TCP:
        # Else what is passed on in small pieces waits up to 40 ms for the last piece to be acknowledged. Accepted
        # sockets inherit it. asyncio sets it only on sockets that were made with a protocol number.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _bind(sock: socket.socket, address: Address) -> None:
    if address.scheme is Scheme.TCP:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address.scheme is Scheme.UNIX:
        _remove_stale(Path(address.host))
    if address.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # else all of IPv4 would look like one /64
    sock.bind(address.sockaddr)
    if address.scheme is Scheme.UNIX:
        os.chmod(address.host, stat.S_IRUSR | stat.S_IWUSR)  # noqa: PTH101 - before listen(): nobody can be connected yet


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)


async def connect(address: Address, within: timedelta) -> socket.socket:
    """Return a connected socket.

    Raises:
        AddressError: the address is one to listen on only.
        Unavailable: nothing accepted there within the time (code ``CONNECT_TIMEOUT``), or the connection was refused.
    """
    if address.scheme is Scheme.VSOCK and address.host == "any":
        raise AddressError(f"{address} is for listening: name the CID to connect to")
    sock = _stream_socket(address)
    try:
        sock.settimeout(0)
        async with asyncio.timeout(within.total_seconds()):
            await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException as error:
        sock.close()
        if isinstance(error, TimeoutError):
            raise Unavailable(f"{address} did not accept a connection in time", code="CONNECT_TIMEOUT") from None
        if isinstance(error, OSError):
            raise Unavailable(f"cannot connect to {address}: {_reason(error)}") from None
        raise
    return sock


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
