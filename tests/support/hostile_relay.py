"""A host that parses, alters, swaps and replays what it should only carry: a gRPC proxy under a test's control."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from ephemeral import rpc, wire
from ephemeral.transport import Address

M = TypeVar("M")


def _same(message: M) -> M:
    return message


@dataclass
class HostileRelay:
    """Each hook sees one message on its way and returns what is passed on in its place."""

    address: str = ""
    on_hello: Callable[[wire.HelloRequest], wire.HelloRequest] = _same
    on_hello_answer: Callable[[wire.HelloResponse], wire.HelloResponse] = _same
    on_open: Callable[[wire.OpenRequest], wire.OpenRequest] = _same
    on_open_answer: Callable[[wire.OpenResponse], wire.OpenResponse] = _same
    on_request: Callable[[wire.SealedFrame], wire.SealedFrame] = _same
    on_answer: Callable[[wire.SealedFrame], wire.SealedFrame] = _same
    requests: list[wire.SealedFrame] = field(default_factory=list)
    answers: list[wire.SealedFrame] = field(default_factory=list)
    opens: list[wire.OpenRequest] = field(default_factory=list)


class _Sessions(wire.SessionServiceServicer):
    def __init__(self, relay: HostileRelay, upstream: wire.SessionServiceStub) -> None:
        self._relay, self._upstream = relay, upstream

    @rpc.serving
    def Hello(self, request: wire.HelloRequest, context: grpc.ServicerContext) -> wire.HelloResponse:  # noqa: N802
        with rpc.translated():
            return self._relay.on_hello_answer(self._upstream.Hello(self._relay.on_hello(request), timeout=30))

    @rpc.serving
    def Open(self, request: wire.OpenRequest, context: grpc.ServicerContext) -> wire.OpenResponse:  # noqa: N802
        self._relay.opens.append(request)
        with rpc.translated():
            return self._relay.on_open_answer(self._upstream.Open(self._relay.on_open(request), timeout=30))

    @rpc.serving
    def Close(self, request: wire.CloseRequest, context: grpc.ServicerContext) -> wire.CloseResponse:  # noqa: N802
        with rpc.translated():
            return self._upstream.Close(request, timeout=30)


class _Inference(wire.InferenceServiceServicer):
    def __init__(self, relay: HostileRelay, upstream: wire.InferenceServiceStub) -> None:
        self._relay, self._upstream = relay, upstream

    @rpc.serving
    def Infer(self, request: wire.SealedFrame, context: grpc.ServicerContext) -> wire.SealedFrame:  # noqa: N802
        self._relay.requests.append(request)
        with rpc.translated():
            answer = self._upstream.Infer(self._relay.on_request(request), timeout=30)
        self._relay.answers.append(answer)
        return self._relay.on_answer(answer)


@contextmanager
def hostile_relay(upstream: str) -> Iterator[HostileRelay]:
    """Run the relay in front of an honest address."""
    relay = HostileRelay()
    server = grpc.server(ThreadPoolExecutor(16), options=rpc.server_options())
    with rpc.open_channel(Address.parse(upstream)) as channel:
        sessions, inference = wire.SessionServiceStub(channel), wire.InferenceServiceStub(channel)
        wire.add_SessionServiceServicer_to_server(_Sessions(relay, sessions), server)
        wire.add_InferenceServiceServicer_to_server(_Inference(relay, inference), server)
        relay.address = f"tcp://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield relay
        finally:
            server.stop(None).wait()
