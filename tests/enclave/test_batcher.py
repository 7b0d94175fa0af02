"""The queue: bounded, in order, and one bad job harms only itself."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from ephemeral.errors import Overloaded, RequestRefused
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.engine import Embedded


class GatedEngine:
    """An engine that waits to be let go, and fails on request."""

    dimension = 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.done: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embedded:
        self.gate.wait(30)
        if texts[0] == "poison":
            raise RequestRefused("poison", code="ENGINE")
        self.done.append(texts[0])
        return Embedded(np.ones((len(texts), 1), np.float32), len(texts))


async def test_jobs_run_in_order_of_admission() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    jobs = [asyncio.create_task(batcher.submit(engine, [str(n)])) for n in range(8)]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*jobs)
    assert engine.done == [str(n) for n in range(8)]
    batcher.close()


async def test_full_queue_refuses_at_once_and_recovers() -> None:
    engine, batcher = GatedEngine(), Batcher(2)
    jobs = [asyncio.create_task(batcher.submit(engine, ["x"])) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(engine, ["x"])
    engine.gate.set()
    await asyncio.gather(*jobs)
    await batcher.submit(engine, ["x"])
    batcher.close()


async def test_poison_fails_alone() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    engine.gate.set()
    results = await asyncio.gather(
        *(batcher.submit(engine, [text]) for text in ("a", "poison", "b")), return_exceptions=True
    )
    assert [isinstance(result, RequestRefused) for result in results] == [False, True, False]
    batcher.close()


async def test_cancelled_caller_frees_its_place_and_is_not_computed() -> None:
    engine, batcher = GatedEngine(), Batcher(2)
    running = asyncio.create_task(batcher.submit(engine, ["running"]))
    waiting = asyncio.create_task(batcher.submit(engine, ["waiting"]))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.sleep(0)
    third = asyncio.create_task(batcher.submit(engine, ["third"]))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(running, third)
    assert engine.done == ["running", "third"]
    batcher.close()
