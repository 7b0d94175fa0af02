"""The ceiling: the enclave's engine and batcher behind a bare gRPC service. No session, no seal, no receipt, no relay.

`python -m benchmarks.serving.unsealed_server` listens on a free port of loopback and says which. No product has it.
"""

import asyncio
import signal
from typing import Any

import grpc
import grpc.aio
import torch

from benchmarks.serving.engine import load_engine
from benchmarks.serving.grpc_clients import UNSEALED_METHOD
from ephemeral import rpc
from ephemeral.wire import EmbedRequest, EmbedResult
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.config import ServingLimits


class Unsealed:
    """One engine, one batcher."""

    def __init__(self) -> None:
        self._engine = load_engine()
        self.batcher = Batcher(ServingLimits().queued_requests, cores=torch.get_num_threads())

    @rpc.serving
    async def embed(self, request: EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> EmbedResult:
        """Embed texts; a connection counts as a session."""
        result = (await self.batcher.submit(self._engine, request.texts, context.peer())).result
        count, dimension = result.vectors.shape
        values = result.vectors.astype("<f4", copy=False).tobytes()
        return EmbedResult(count=count, dimension=dimension, values=values, tokens=result.tokens)


async def serve() -> None:
    """Serve until SIGTERM."""
    unsealed = Unsealed()
    server = grpc.aio.server(options=rpc.server_options())
    handler = grpc.unary_unary_rpc_method_handler(
        unsealed.embed, EmbedRequest.FromString, EmbedResult.SerializeToString
    )
    _, service, method = UNSEALED_METHOD.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready tcp://127.0.0.1:{port}", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)
    unsealed.batcher.close()


if __name__ == "__main__":
    asyncio.run(serve())
