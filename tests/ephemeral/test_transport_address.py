"""Addresses parse to one value or fail with one typed error; sockets bind where they say."""

import socket
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from ephemeral.errors import AddressError, Unavailable
from ephemeral.transport import Address, Scheme, connect, listen

SOON = timedelta(seconds=20)


@pytest.mark.parametrize(
    "text",
    [
        "tcp://127.0.0.1:7443",
        "tcp://[::1]:7443",
        "tcp://localhost:0",
        "unix:///run/ephemeral/enclave.sock",
        "vsock://16:5000",
        "vsock://any:8082",
        "vsock://4294967294:4294967294",
    ],
)
def test_an_address_survives_printing_and_parsing(text: str) -> None:
    assert str(Address.parse(text)) == text
    assert Address.parse(str(Address.parse(text))) == Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7443",
        "localhost:7443",
        "http://localhost:7443",
        "tcp://localhost",
        "tcp://localhost:65536",
        "tcp://:7443",
        "tcp://localhost:7443/path",
        "tcp://local host:7443",
        "tcp://localhost:-1",
        "tcp://localhost:\u0661",
        "tcp://[::1:7443",
        "unix://relative.sock",
        "unix:///" + "a" * 107,
        "unix:///nul\0byte",
        "vsock://host:5000",
        "vsock://16:4294967295",
        "vsock://4294967295:5000",
        "tcp://" + "a" * 600 + ":1",
    ],
)
def test_what_is_no_address_is_one_typed_error(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


def test_grpc_gets_tcp_and_unix_names_but_never_a_vsock_one() -> None:
    assert Address.parse("tcp://[::1]:1").grpc_target == "[::1]:1"
    assert Address.parse("unix:///a b").grpc_target == "unix:/a b"
    with pytest.raises(RuntimeError):
        _ = Address.parse("vsock://16:5000").grpc_target


def test_a_vsock_listener_binds_every_cid_and_tells_its_port() -> None:
    with listen(Address.parse("vsock://any:0")) as sock:
        bound = Address.of(sock)
        assert (bound.scheme, bound.host) == (Scheme.VSOCK, "any")
        assert bound.port > 1023


def test_a_taken_port_is_refused_with_its_own_code() -> None:
    with listen(Address.parse("tcp://127.0.0.1:0")) as sock, pytest.raises(AddressError) as caught:
        listen(Address.of(sock))
    assert caught.value.code == "ADDRESS_IN_USE"


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(AddressError) as caught:
        listen(Address.parse("tcp://192.0.2.1:0"))
    assert caught.value.code == "ADDRESS_UNAVAILABLE"


def test_other_users_cannot_connect_to_a_unix_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(Address.parse(f"unix://{path}")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_unix_listener_replaces_a_dead_one_but_not_a_live_one(tmp_path: Path) -> None:
    address = Address.parse(f"unix://{tmp_path / 's'}")
    listen(address).close()  # leaves its file behind
    with listen(address), pytest.raises(AddressError):
        listen(address)


def test_a_unix_listener_never_removes_a_file_that_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AddressError):
        listen(Address.parse(f"unix://{path}"))
    assert path.read_text() == "data"


async def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as bound:  # bound and not listening: the port is ours, and refuses
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable):
            await connect(Address.of(bound), SOON)


async def test_a_connection_that_is_never_accepted_times_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # fills the queue: the kernel drops further SYNs
            with pytest.raises(Unavailable) as caught:
                await connect(Address.of(full), timedelta(milliseconds=300))
            assert caught.value.code == "CONNECT_TIMEOUT"


async def test_any_cid_is_for_listening_only() -> None:
    with pytest.raises(AddressError):
        await connect(Address.parse("vsock://any:5000"), SOON)


async def test_small_pieces_are_sent_without_waiting_for_acknowledgements() -> None:
    with listen(Address.parse("tcp://127.0.0.1:0")) as listening:
        connected = await connect(Address.of(listening), SOON)
        accepted, _ = listening.accept()
        with connected, accepted:
            for sock in (connected, accepted):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
