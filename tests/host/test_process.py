"""The host as a process: what it prints, how it fails, how it ends."""

import asyncio
import json
import socket
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ephemeral import rpc
from ephemeral.transport import Address, connect, listen
from ephemeral.wire import BootConfigServiceStub, BootContents, BootRequest
from tests.support.aws_environment import FAKE_KEY_ID, FAKE_SECRET
from tests.support.echo_server import echo, serving
from tests.support.host_process import Host, running, start

SOON = timedelta(seconds=20)


async def say(sock: socket.socket, words: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, words)
    return await asyncio.wait_for(loop.sock_recv(sock, 100), 60)


def test_the_host_prints_its_settings_serves_and_ends_with_its_counters() -> None:
    with running() as host:
        assert "EPHEMERALML_S3_BUCKET=models" in host.printed
        with rpc.open_channel(host.services) as channel:
            answer = BootConfigServiceStub(channel).GetBootConfig(BootRequest(version=1), timeout=60)
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        host.signal()
        code, out, err = host.rest()
    assert BootContents.FromString(answer.contents).models[0].manifest_key == "minilm/manifest"
    assert check.status == health_pb2.HealthCheckResponse.SERVING
    assert (code, err) == (0, "")
    counters = json.loads(out.removeprefix("counters "))
    assert counters["services.calls//ephemeralml.v1.BootConfigService/GetBootConfig"] == 1
    for secret in (FAKE_KEY_ID, FAKE_SECRET):
        assert secret not in "\n".join(host.printed) + out + err


async def test_sigterm_lets_an_open_connection_finish_and_refuses_new_ones() -> None:
    async with serving(echo) as enclave:
        with running(ENCLAVE=str(enclave)) as host:
            with await connect(host.clients, SOON) as sock:
                assert await say(sock, b"before") == b"before"
                host.signal()
                await asyncio.wait_for(asyncio.to_thread(wait_until_refused, host), 60)
                assert await say(sock, b"after") == b"after"
            code, out, _ = await asyncio.to_thread(host.rest)
    assert code == 0
    counters = json.loads(out.removeprefix("counters "))
    assert counters["relay.bytes/to_enclave"] == counters["relay.bytes/to_client"] == len(b"beforeafter")
    assert counters["relay.connections/closed"] == counters["relay.connections/opened"]


def wait_until_refused(host: Host) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(host.clients.sockaddr) != 0:
                return


async def test_a_connection_that_outlives_the_drain_is_reset() -> None:
    async with serving(echo) as enclave:
        with running(ENCLAVE=str(enclave), DRAIN_SECONDS="0.2") as host:
            with await connect(host.clients, SOON) as sock:
                assert await say(sock, b"hi") == b"hi"
                host.signal()
                with pytest.raises(ConnectionResetError):
                    await asyncio.get_running_loop().sock_recv(sock, 1)
            code, _, err = await asyncio.to_thread(host.rest)
    assert code == 0
    assert "1 connections outlived the drain" in err


async def test_a_second_sigterm_ends_at_once_with_another_code() -> None:
    async with serving(echo) as enclave:
        with (
            running(ENCLAVE=str(enclave), DRAIN_SECONDS="3600") as host,
            await connect(host.clients, SOON) as sock,
        ):
            assert await say(sock, b"hi") == b"hi"
            host.signal()
            await asyncio.wait_for(asyncio.to_thread(wait_until_refused, host), 60)
            host.signal()
            code, _, _ = await asyncio.to_thread(host.rest)
    assert code == 1


@pytest.mark.parametrize(
    ("name", "value"), [("S3_BUCKET", ""), ("LISTEN", "7443"), ("MAX_CONNECTIONS", "0"), ("AUDIT_LOG", "/nowhere/a")]
)
def test_a_wrong_setting_is_one_clear_line_and_exit_code_2(name: str, value: str) -> None:
    with start(**{name: value}) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert (f"EPHEMERALML_{name}" if name != "AUDIT_LOG" else "audit log") in err


@pytest.mark.parametrize("name", ["LISTEN", "SERVICES"])
def test_a_taken_address_is_one_clear_line_and_exit_code_3(name: str) -> None:
    with listen(Address.parse("tcp://127.0.0.1:0")) as taken:
        address = str(Address.of(taken))
        with start(**{name: address}) as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err == f"ephemeral_host: cannot listen on {address}: Address already in use\n"


def test_the_services_can_listen_on_vsock() -> None:
    """Bound only: nothing here may connect to another machine's CID."""
    with running(SERVICES="vsock://any:0") as host:
        assert str(host.services).startswith("vsock://any:")


def test_kms_and_s3_that_cannot_be_reached_do_not_keep_the_host_from_starting(tmp_path: Path) -> None:
    """The enclave learns it from its own call; a host that dies for it would serve nobody."""
    log = tmp_path / "audit.log"
    with running(AUDIT_LOG=str(log)) as host, rpc.open_channel(host.services) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        assert log.exists()
