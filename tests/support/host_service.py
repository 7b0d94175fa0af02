"""One synchronous servicer of the host behind a real gRPC server and channel."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from ephemeral import rpc
from ephemeral.transport import Address


@contextmanager
def served(servicer: object, add_to_server: Callable[[Any, Any], object]) -> Iterator[grpc.Channel]:
    """Serve on a free TCP port of the loopback and give a channel to it."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=rpc.server_options())
        add_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with rpc.open_channel(Address.parse(f"tcp://127.0.0.1:{port}")) as channel:
                yield channel
        finally:
            server.stop(None).wait()
