"""Enclaves that shake hands, and answer as a test wants, behind the relay, which chooses where a connection leads."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc

from ephemeral import rpc, wire
from ephemeral.transport import Address, SpliceLimits, listen
from ephemeral.trusted.handshake import Offer
from ephemeral_host.relay import relay
from tests.support.peers import Enclave


class _Sessions(wire.SessionServiceServicer):
    def __init__(self, enclave: Enclave, seconds: float) -> None:
        self._enclave = enclave
        self._seconds = seconds
        self._offers: dict[bytes, Offer] = {}

    @rpc.serving
    def Hello(self, request: wire.HelloRequest, context: grpc.ServicerContext) -> wire.HelloResponse:  # noqa: N802
        time.sleep(self._seconds)
        nonce = wire.ClientHello.FromString(request.client_hello).nonce
        offer = Offer.answer(request.client_hello, self._enclave.document(nonce), self._enclave.identity)
        self._offers[wire.ServerHello.FromString(offer.response.server_hello).offer_id] = offer
        return offer.response

    @rpc.serving
    def Open(self, request: wire.OpenRequest, context: grpc.ServicerContext) -> wire.OpenResponse:  # noqa: N802
        time.sleep(self._seconds)
        return self._offers.pop(request.offer_id).open(request.encapsulated_key, None).response

    @rpc.serving
    def Close(self, request: wire.CloseRequest, context: grpc.ServicerContext) -> wire.CloseResponse:  # noqa: N802
        return wire.CloseResponse()


@contextmanager
def _enclave(enclave: Enclave, inference: wire.InferenceServiceServicer, seconds: float) -> Iterator[Address]:
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=rpc.server_options())
        wire.add_SessionServiceServicer_to_server(_Sessions(enclave, seconds), server)
        wire.add_InferenceServiceServicer_to_server(inference, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield Address.parse(f"tcp://127.0.0.1:{port}")
        finally:
            server.stop(None).wait()


@contextmanager
def relayed(
    *enclaves: Enclave, inference: wire.InferenceServiceServicer | None = None, seconds: float = 0.0
) -> Iterator[str]:
    """Run the enclaves, which take so many seconds for each step, and the relay before them; give its address."""
    served = inference or wire.InferenceServiceServicer()
    ready: threading.Event = threading.Event()
    loop = asyncio.new_event_loop()
    listening = listen(Address.parse("tcp://127.0.0.1:0"))
    stop = asyncio.Event()

    async def run(addresses: list[Address]) -> None:
        async with relay(listening, addresses, SpliceLimits()):
            ready.set()
            await stop.wait()

    with ExitStack() as running:
        addresses = [running.enter_context(_enclave(enclave, served, seconds)) for enclave in enclaves]
        address = str(Address.of(listening))
        thread = threading.Thread(target=loop.run_until_complete, args=(run(addresses),))
        thread.start()
        try:
            assert ready.wait(30)
            yield address
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)
            loop.close()
