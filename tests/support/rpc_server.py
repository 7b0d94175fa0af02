"""Real gRPC servers around one servicer class, for tests of what crosses a connection."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import grpc
import grpc.aio

from ephemeral import rpc
from ephemeral.transport import Address

SERVICE = "test.Service"


def handlers(servicer: object) -> grpc.GenericRpcHandler:
    """Offer the bytes-in, bytes-out methods `unary` and `stream` of a servicer, sync or asyncio."""
    methods = {}
    if hasattr(servicer, "unary"):
        methods["unary"] = grpc.unary_unary_rpc_method_handler(servicer.unary)
    if hasattr(servicer, "stream"):
        methods["stream"] = grpc.unary_stream_rpc_method_handler(servicer.stream)
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@contextmanager
def sync_server(servicer: object) -> Iterator[Address]:
    """Serve on a free TCP port of the loopback."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=(handlers(servicer),), options=rpc.server_options())
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield Address.parse(f"tcp://127.0.0.1:{port}")
        finally:
            server.stop(None).wait()


@asynccontextmanager
async def aio_server(servicer: object) -> AsyncIterator[Address]:
    """Serve on a free TCP port of the loopback."""
    server = grpc.aio.server(handlers=(handlers(servicer),), options=rpc.server_options())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Address.parse(f"tcp://127.0.0.1:{port}")
    finally:
        await server.stop(None)
