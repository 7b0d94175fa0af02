"""Clients of our own servers: one through the whole sealed protocol, one of the bare service beside it.

The sealed one is the SDK's session core (handshake, sealing, opening, every check of every receipt), awaited instead of
blocking: 64 of them in one thread cost less than 64 threads, and are of the same kind as the others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import grpc.aio
import numpy as np

from benchmarks.serving.load import Refused, Vector
from ephemeral import rpc, wire
from ephemeral.errors import Overloaded
from ephemeral.transport import Address
from ephemeral.trusted.handshake import ClientSession, Greeting
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import EmbedRequest, EmbedResult
from ephemeralml.patience import Pause
from ephemeralml.session import choose_model, seal_embed

UNSEALED_METHOD: Final = "/ephemeralml.benchmarks.Unsealed/Embed"


class SealedClient:
    """One session on one connection, through the relay; as strangers do, it may ask again before it was told to."""

    def __init__(self, channel: grpc.aio.Channel, session: ClientSession, policy: TrustPolicy, *, heeds: bool) -> None:
        self._channel = channel
        self._session = session
        self._model = choose_model(session, policy, None)
        self._pause = Pause()
        self._heeds = heeds
        self._inference: Any = wire.InferenceServiceStub(channel)  # the stub's types are those of a blocking channel

    @classmethod
    async def connect(cls, address: str, trust: Path, *, heeds: bool) -> Self:
        """Verify the enclave and open a session."""
        channel: Any = rpc.open_aio_channel(Address.parse(address))
        sessions: Any = wire.SessionServiceStub(channel)
        policy = TrustPolicy.load(trust)
        greeting = Greeting(policy)
        peer = greeting.verify(await sessions.Hello(greeting.request), datetime.now(UTC))
        pending = peer.open()
        return cls(channel, pending.confirm(await sessions.Open(pending.request)), policy, heeds=heeds)

    async def embed(self, text: str) -> Callable[[], Vector]:
        """Seal, send, open, verify the receipt; see Client.embed."""
        with _refused(), self._pause.heeded() if self._heeds else nullcontext():
            pending = seal_embed(self._session, self._model, [text])
            with rpc.claimed():
                frame = await self._inference.Infer(pending.frame)
        vectors = pending.open(frame, datetime.now(UTC)).vectors
        return lambda: vectors[0]

    async def close(self) -> None:
        """End the connection; the enclave forgets the session when it idles."""
        await self._channel.close(None)


class UnsealedClient:
    """One connection to the bare service."""

    def __init__(self, address: str) -> None:
        self._channel = rpc.open_aio_channel(Address.parse(address))
        self._embed = self._channel.unary_unary(UNSEALED_METHOD, EmbedRequest.SerializeToString, EmbedResult.FromString)

    async def embed(self, text: str) -> Callable[[], Vector]:
        """Send; see Client.embed."""
        with _refused(), rpc.claimed():
            result: EmbedResult = await self._embed(EmbedRequest(texts=[text]))
        return lambda: np.frombuffer(result.values, "<f4").reshape(result.count, result.dimension)[0]

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close(None)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except Overloaded as busy:
        raise Refused(busy.retry_after, by_client=not busy.claimed) from None
