"""One client that floods: others are still served."""

import asyncio
from collections.abc import AsyncIterator

import grpc.aio

from ephemeral.errors import EphemeralError
from ephemeral.trusted.handshake import Greeting
from ephemeral.trusted.policy import TrustPolicy
from ephemeral.wire import OpenRequest, SessionServiceStub
from ephemeral_devstack.stack import Stack
from ephemeralml import Client
from tests.support.invariants import tally

OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


async def test_calls_whose_message_never_comes_lock_nobody_out(stack: Stack, trust: TrustPolicy) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    target = stack.address.removeprefix("tcp://")
    channels = [grpc.aio.insecure_channel(target, options=OPTIONS) for _ in range(10)]
    calls = [
        channel.stream_unary("/ephemeralml.v1.SessionService/Hello")(never()) for channel in channels for _ in range(40)
    ]
    try:
        await asyncio.sleep(1)
        with tally("INV-12", len(calls)):
            assert await asyncio.to_thread(embed_once, stack.address, trust) == (1, 384)
    finally:
        for call in calls:
            call.cancel()
        for channel in channels:
            await channel.close()


async def test_flood_of_hellos_and_empty_sessions_locks_nobody_out(stack: Stack, trust: TrustPolicy) -> None:
    with Client.connect(stack.address, trust=trust) as active:
        before = active.embed(["x"]).receipt.claims.sequence_number
        async with grpc.aio.insecure_channel(stack.address.removeprefix("tcp://"), options=OPTIONS) as channel:
            flood = [asyncio.create_task(empty_session(channel, trust)) for _ in range(1500)]
            await asyncio.sleep(1)
            assert await asyncio.to_thread(embed_once, stack.address, trust) == (1, 384)
            await asyncio.gather(*flood, return_exceptions=True)
        with tally("INV-12", len(flood)):
            assert await asyncio.to_thread(embed_once, stack.address, trust) == (1, 384)
            assert active.embed(["x"]).receipt.claims.sequence_number == before + 1


async def empty_session(channel: grpc.aio.Channel, trust: TrustPolicy) -> None:
    stub = SessionServiceStub(channel)
    greeting = Greeting(trust, fresh=False)
    answer = await stub.Hello(greeting.request, timeout=30)
    offer_id = answer.server_hello[answer.server_hello.index(b"\x1a\x10") + 2 :][:16]
    await stub.Open(OpenRequest(offer_id=offer_id, encapsulated_key=b"\x09" + bytes(31)), timeout=30)


def embed_once(address: str, trust: TrustPolicy) -> tuple[int, ...]:
    """Embed as an honest client, which tries again a few times when told that the service is busy."""
    for _ in range(5):
        try:
            with Client.connect(address, trust=trust) as client:
                return client.embed(["an honest text"]).vectors.shape
        except EphemeralError as error:
            last = error
    raise last
