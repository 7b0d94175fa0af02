"""A host whose services lie: they forward to the honest ones, and a test says what they change."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from ephemeral import rpc, wire
from ephemeral.transport import Address

M = TypeVar("M")


def _same(message: M) -> M:
    return message


@dataclass
class HostileServices:
    """Each hook sees one message on its way and returns what is passed on in its place."""

    address: str = ""
    on_boot_config: Callable[[wire.BootConfig], wire.BootConfig] = _same
    on_decrypt: Callable[[wire.KmsDecryptRequest], wire.KmsDecryptRequest] = _same
    on_decrypt_answer: Callable[[wire.KmsDecryptResponse], wire.KmsDecryptResponse] = _same
    on_object: Callable[[str, bytes], bytes] = lambda _key, data: data
    last_document: bytes = b""


class _Boot(wire.BootConfigServiceServicer):
    def __init__(self, host: HostileServices, upstream: grpc.Channel) -> None:
        self._host, self._upstream = host, wire.BootConfigServiceStub(upstream)

    @rpc.serving
    def GetBootConfig(self, request: wire.BootRequest, context: grpc.ServicerContext) -> wire.BootConfig:  # noqa: N802
        with rpc.translated():
            return self._host.on_boot_config(self._upstream.GetBootConfig(request, timeout=30))


class _Kms(wire.KmsProxyServiceServicer):
    def __init__(self, host: HostileServices, upstream: grpc.Channel) -> None:
        self._host, self._upstream = host, wire.KmsProxyServiceStub(upstream)

    @rpc.serving
    def Decrypt(self, request: wire.KmsDecryptRequest, context: grpc.ServicerContext) -> wire.KmsDecryptResponse:  # noqa: N802
        self._host.last_document = request.attestation_document
        with rpc.translated():
            answer = self._upstream.Decrypt(self._host.on_decrypt(request), timeout=30)
        return self._host.on_decrypt_answer(answer)


class _Storage(wire.StorageServiceServicer):
    def __init__(self, host: HostileServices, upstream: grpc.Channel) -> None:
        self._host, self._upstream = host, wire.StorageServiceStub(upstream)

    @rpc.serving
    def Head(self, request: wire.ObjectRef, context: grpc.ServicerContext) -> wire.ObjectInfo:  # noqa: N802
        with rpc.translated():
            return self._upstream.Head(request, timeout=30)

    @rpc.serving
    def Get(self, request: wire.RangeRequest, context: grpc.ServicerContext) -> Iterator[wire.Chunk]:  # noqa: N802
        with rpc.translated():
            data = b"".join(chunk.data for chunk in self._upstream.Get(request, timeout=30))
        data = self._host.on_object(request.key, data)
        for start in range(0, len(data), 2**20):
            yield wire.Chunk(data=data[start : start + 2**20])


@contextmanager
def hostile_services(upstream: str) -> Iterator[HostileServices]:
    """Run lying services in front of honest ones."""
    host = HostileServices()
    server = grpc.server(ThreadPoolExecutor(8), options=rpc.server_options())
    with rpc.open_channel(Address.parse(upstream)) as channel:
        wire.add_BootConfigServiceServicer_to_server(_Boot(host, channel), server)
        wire.add_KmsProxyServiceServicer_to_server(_Kms(host, channel), server)
        wire.add_StorageServiceServicer_to_server(_Storage(host, channel), server)
        host.address = f"tcp://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield host
        finally:
            server.stop(None).wait()
