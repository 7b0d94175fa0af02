"""The queue: bounded, in order, and one bad job harms only itself."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from ephemeral.errors import Overloaded, RequestRefused
from ephemeral_enclave.batcher import SLICE_CHARACTERS, SLICE_TEXTS, Batcher, Computed
from ephemeral_enclave.engine import Embedded
from tests.support.invariants import tally


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


def started(batcher: Batcher, engine: GatedEngine, text: str, session: object = None) -> "asyncio.Task[Computed]":
    return asyncio.create_task(batcher.submit(engine, [text], session or text))


async def test_jobs_run_in_order_of_admission() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    jobs = [started(batcher, engine, str(n)) for n in range(8)]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*jobs)
    assert engine.done == [str(n) for n in range(8)]
    batcher.close()


async def test_full_queue_refuses_at_once_and_recovers() -> None:
    engine, batcher = GatedEngine(), Batcher(2)
    jobs = [started(batcher, engine, text) for text in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(engine, ["x"], "c")
    engine.gate.set()
    await asyncio.gather(*jobs)
    await batcher.submit(engine, ["x"], "c")
    batcher.close()


async def test_queue_is_bounded_by_size_too() -> None:
    engine, batcher = GatedEngine(), Batcher(8, most_characters=10)
    job = started(batcher, engine, "123456")
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(engine, ["12345"], "other")
    engine.gate.set()
    await job
    await batcher.submit(engine, ["12345"], "other")
    batcher.close()


async def test_one_session_takes_only_its_share_of_the_queue() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    jobs = [started(batcher, engine, str(n), "flooder") for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batcher.submit(engine, ["x"], "flooder")
    polite = started(batcher, engine, "polite")
    engine.gate.set()
    await asyncio.gather(*jobs, polite)
    batcher.close()


async def test_long_job_lets_others_have_their_turn_between_its_slices() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    long = asyncio.create_task(batcher.submit(engine, ["long"] * (3 * SLICE_TEXTS), "long"))
    await asyncio.sleep(0.05)
    short = started(batcher, engine, "short")
    await asyncio.sleep(0)
    engine.gate.set()
    computed, _ = await asyncio.gather(long, short)
    assert engine.done == ["long", "short", "long", "long"]
    assert computed.result.vectors.shape == (3 * SLICE_TEXTS, 1)
    assert computed.result.tokens == 3 * SLICE_TEXTS
    batcher.close()


async def test_slices_are_bounded_by_characters() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    engine.gate.set()
    await batcher.submit(engine, ["x" * SLICE_CHARACTERS] * 3 + ["y"], "s")
    assert len(engine.done) == 3 + 1
    batcher.close()


async def test_poison_fails_alone() -> None:
    with tally("INV-12") as tried:
        for place in range(8):
            engine, batcher = GatedEngine(), Batcher(8)
            engine.gate.set()
            texts = ["poison" if at == place else f"sound {at}" for at in range(8)]
            tried.case()
            jobs = (batcher.submit(engine, [text], text) for text in texts)
            results = await asyncio.gather(*jobs, return_exceptions=True)
            assert [isinstance(result, RequestRefused) for result in results] == [at == place for at in range(8)]
            batcher.close()


async def test_cancelled_caller_frees_its_place_and_is_not_computed() -> None:
    engine, batcher = GatedEngine(), Batcher(2)
    running = started(batcher, engine, "running")
    waiting = started(batcher, engine, "waiting")
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.sleep(0)
    third = started(batcher, engine, "third")
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(running, third)
    assert engine.done == ["running", "third"]
    batcher.close()


async def test_caller_that_leaves_in_the_middle_costs_one_slice() -> None:
    engine, batcher = GatedEngine(), Batcher(4)
    leaving = asyncio.create_task(batcher.submit(engine, ["leaving"] * (10 * SLICE_TEXTS), "leaving"))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.sleep(0)
    engine.gate.set()
    await batcher.submit(engine, ["next"], "next")
    assert engine.done == ["leaving", "next"]
    batcher.close()


async def test_abandoned_jobs_hold_no_memory_behind_a_running_one() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    running = started(batcher, engine, "running")
    await asyncio.sleep(0.05)
    kept = []
    for number in range(100):
        text = Text(f"abandoned {number}")
        kept.append(weakref.ref(text))
        job = asyncio.create_task(batcher.submit(engine, [text], number))
        del text
        await asyncio.sleep(0)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        del job
    gc.collect()  # once: in a process this large a hundred collections outlast the gate
    assert not engine.done
    assert [reference() for reference in kept] == [None] * 100
    engine.gate.set()
    await running
    batcher.close()


class Text(str):
    """A text that tells when it is gone."""

    __slots__ = ("__weakref__",)


def test_results_do_not_print() -> None:
    embedded = Embedded(np.ones((1, 1), np.float32), 1)
    assert "1." not in repr(embedded)
    assert "1." not in repr(Computed(embedded, 0, 0))
