"""Whatever one request does to engine or tokenizer, it alone is refused, and nothing of it stays."""

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from ephemeral.errors import RequestRefused
from ephemeral_enclave.batcher import Batcher, Computed
from ephemeral_enclave.engine import Tokens
from tests.support.gated_engine import NAN, POISON, GatedEngine, Text, behind_the_first, submitted
from tests.support.invariants import tally


async def test_poison_at_every_place_fails_alone_and_its_batch_mates_get_their_solo_answers() -> None:
    with tally("INV-12") as tried:
        for place in range(8):
            for poison in (chr(POISON), chr(NAN), "\ud800"):
                engine, batcher = GatedEngine(), Batcher(8, cores=1 + place % 2)
                engine.gate.set()
                texts = [poison if at == place else f"sound {at}" for at in range(8)]
                tried.case()
                jobs = (batcher.submit(engine, [text], text) for text in texts)
                results = await asyncio.gather(*jobs, return_exceptions=True)
                assert isinstance(results.pop(place), RequestRefused)
                del texts[place]
                assert [result.result.vectors[0, 0] for result in results] == [sum(map(ord, text)) for text in texts]
                batcher.close()


class Panic(BaseException):
    """What pyo3 makes of a Rust panic: no Exception."""


class BrokenEngine(GatedEngine):
    """An engine that does on request what none should."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        if "tokenizer" in texts:
            raise StopIteration
        return super().tokenize(texts)

    def compute(self, rows: Sequence[Tokens], _cores: int | None = None) -> npt.NDArray[np.float32]:
        self.begun.set()
        self.gate.wait(60)
        texts = {"".join(map(chr, row)) for row in rows}
        if "panic" in texts:
            raise Panic("broken")
        if "exit" in texts:
            raise SystemExit(1)
        if "stop" in texts:
            raise StopIteration
        if "too few" in texts:
            return np.zeros((0, 1), np.float32)
        if "too wide" in texts:
            return np.zeros((len(rows), 2), np.float32)
        return np.zeros((len(rows), 1), np.float32)


@pytest.mark.parametrize("fault", ["panic", "exit", "stop", "too few", "too wide", "tokenizer"])
async def test_whatever_an_engine_does_its_batch_mates_and_the_next_caller_are_served(fault: str) -> None:
    engine, batcher = BrokenEngine(), Batcher(8)
    first = asyncio.create_task(submitted(batcher, engine, "first"))
    await behind_the_first(batcher, engine)
    mate = asyncio.create_task(submitted(batcher, engine, "mate"))
    await behind_the_first(batcher, engine, waiting=1)
    failing = asyncio.create_task(submitted(batcher, engine, fault))
    if fault != "tokenizer":
        await behind_the_first(batcher, engine, waiting=2)
    engine.gate.set()
    refused = await failing
    assert isinstance(refused, RequestRefused)
    assert refused.code == "ENGINE"
    sound = [await first, await mate, await submitted(batcher, engine, "next")]
    assert [type(answer) for answer in sound] == [Computed] * 3
    batcher.close()


async def test_fault_of_the_core_itself_is_told_to_those_who_wait_and_the_next_are_served() -> None:
    engine, batcher = BrokenEngine(), Batcher(8)
    engine.gate.set()
    batcher._turns._queues["nobody"] = deque()  # there must be none, and no turn can be taken
    outcomes = await asyncio.gather(submitted(batcher, engine, "a"), submitted(batcher, engine, "b"))
    assert RequestRefused in map(type, outcomes)
    assert isinstance(await submitted(batcher, engine, "sound"), Computed)
    batcher.close()


async def test_request_without_texts_harms_nobody() -> None:
    engine, batcher = BrokenEngine(), Batcher(8)
    engine.gate.set()
    assert isinstance(await submitted(batcher, engine), ValueError)
    assert isinstance(await submitted(batcher, engine, "sound"), Computed)
    batcher.close()


async def test_one_poison_among_many_costs_a_few_batches_more() -> None:
    class Counting(GatedEngine):
        calls = 0

        def compute(self, rows: Sequence[Tokens], _cores: int | None = None) -> npt.NDArray[np.float32]:
            self.calls += 1
            return super().compute(rows)

    engine, batcher = Counting(), Batcher(128)
    engine.gate.set()
    poisoned = submitted(batcher, engine, *"a" * 63, chr(POISON), *"a" * 64)
    assert isinstance(await poisoned, RequestRefused)
    assert engine.calls == 1 + 2 * 7  # 128 rows are cut in half seven times
    batcher.close()


@pytest.mark.parametrize("poison", [chr(POISON), chr(NAN), "\ud800"], ids=["raises", "not finite", "not unicode"])
async def test_refused_request_leaves_nothing_behind_in_memory(poison: str) -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    engine.gate.set()
    kept: list[weakref.ref[Text]] = []

    async def ask() -> None:
        text = Text(poison)
        kept.append(weakref.ref(text))
        await batcher.submit(engine, [text], "session")

    gc.collect()
    gc.disable()  # what only a collection finds stays for minutes
    try:
        with pytest.raises(RequestRefused):
            await asyncio.create_task(ask())
        for handoff in (batcher._tokenizing._handoff, batcher._inference):
            await asyncio.wrap_future(handoff._pool.submit(int))  # it has let go of what it did before
        assert kept[0]() is None
    finally:
        gc.enable()
    batcher.close()
