"""Bridges join a UNIX socket that gRPC can open with an address that it cannot."""

import socket
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from ephemeral.transport import Address, LocalBridge, Scheme, ServerBridge, connect, listen
from tests.support.echo_server import echo, read_to_end, serving

SOON = timedelta(seconds=20)
TCP = Address.parse("tcp://127.0.0.1:0")


async def question(address: Address) -> bytes:
    with await connect(address, SOON) as sock:
        sock.send(b"hi")
        sock.shutdown(socket.SHUT_WR)
        return await read_to_end(sock)


async def test_a_client_reaches_an_address_through_a_private_unix_socket() -> None:
    async with serving(echo) as server, LocalBridge(server) as local:
        assert local.scheme is Scheme.UNIX
        assert stat.S_IMODE(Path(local.host).parent.stat().st_mode) == 0o700
        assert await question(local) == b"hi"
    assert not Path(local.host).parent.exists()


async def test_a_server_on_a_private_unix_socket_is_reached_at_a_public_address() -> None:
    listening = listen(TCP)
    public = Address.of(listening)
    async with ServerBridge(listening) as local, serving(echo, str(local)):
        assert await question(public) == b"hi"


async def test_a_vsock_address_can_be_served() -> None:
    """Bound only: nothing here may connect to another machine's CID."""
    listening = listen(Address.parse("vsock://any:0"))
    bridge = ServerBridge(listening)
    async with bridge as local, serving(echo, str(local)):
        assert Address.of(listening).scheme is Scheme.VSOCK
        assert await bridge.drain(timedelta(0)) == 0
    assert listening.fileno() == -1


async def test_threads_use_a_bridge_without_a_loop_of_their_own() -> None:
    async with serving(echo) as server:
        with LocalBridge(server) as local:
            assert await question(local) == b"hi"


def test_a_bridge_that_cannot_open_leaves_no_thread_behind() -> None:
    bridge = LocalBridge(TCP)
    with bridge:
        pass
    with pytest.raises(RuntimeError, match="once"), bridge:
        pass
