"""The queue: bounded, in order, shared between sessions, and empty when its callers are gone."""

import asyncio
import gc
import random
import threading
import time
import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from ephemeral.errors import Overloaded, RequestRefused, Unavailable
from ephemeral_enclave.batcher import Batcher, Computed
from ephemeral_enclave.engine import Embedded, Tokens
from tests.support.gated_engine import NAN, POISON, GatedEngine, Text, behind_the_first, started, submitted


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


async def test_long_job_lets_others_have_their_turn() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    long = asyncio.create_task(batcher.submit(engine, ["l" * 256] * 32, "long"))
    await behind_the_first(batcher, engine)
    short = started(batcher, engine, "short")
    await behind_the_first(batcher, engine, waiting=2)
    engine.gate.set()
    computed, _ = await asyncio.gather(long, short)
    assert engine.batches[1] == ["short"]
    assert computed.result.vectors.shape == (32, 1)
    assert computed.result.tokens == 32 * 256
    batcher.close()


class CountingCores(GatedEngine):
    """An engine that notes how many cores each batch got."""

    def __init__(self) -> None:
        super().__init__()
        self.cores: list[int | None] = []

    def compute(self, rows: Sequence[Tokens], cores: int | None = None) -> npt.NDArray[np.float32]:
        self.cores.append(cores)
        return super().compute(rows)


async def test_batches_run_beside_each_other_on_a_core_each_and_one_that_is_alone_has_all() -> None:
    engine, batcher = CountingCores(), Batcher(16, cores=4)
    alone = asyncio.create_task(batcher.submit(engine, ["several", "short", "texts"], "alone"))
    await behind_the_first(batcher, engine)
    others = [started(batcher, engine, letter * 256) for letter in "abcd"]  # each fills a batch
    while len(engine.cores) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert engine.cores == [4, 1, 1, 1]
    engine.gate.set()
    await asyncio.gather(alone, *others)
    assert sorted(engine.done) == sorted(["several", "short", "texts", *(letter * 256 for letter in "abcd")])
    batcher.close()


async def test_batch_that_leaves_others_waiting_gets_no_more_than_its_core() -> None:
    engine, batcher = CountingCores(), Batcher(16, cores=2)
    engine.gate.set()
    await batcher.submit(engine, ["x" * 128] * 2, "session")
    assert engine.cores[0] == 1
    batcher.close()


async def test_batches_beside_each_other_count_once_in_a_jobs_time_and_all_in_the_enclaves_speed() -> None:
    class Steady(GatedEngine):
        def compute(self, rows: Sequence[Tokens], _cores: int | None = None) -> npt.NDArray[np.float32]:
            time.sleep(0.02)
            return super().compute(rows)

    engine, batcher = Steady(), Batcher(16, cores=4)
    engine.gate.set()
    begun = time.monotonic()
    computed = await batcher.submit(engine, ["x" * 128] * 40, "session")
    wall = time.monotonic() - begun
    assert 0.02 <= computed.compute_us / 1e6 <= wall
    speed = batcher._admission._computed / batcher._admission._seconds
    assert speed > 1.5 * 128 / 0.02  # more than one core can do
    batcher.close()


@pytest.mark.parametrize("cores", [1, 3])
async def test_vectors_come_back_to_their_texts_from_whichever_batch(cores: int) -> None:
    engine, batcher = GatedEngine(), Batcher(32, cores=cores)
    engine.gate.set()
    requests = [[chr(97 + (at * 7 + n) % 26) * (1 + (at * n) % 200) for n in range(20)] for at in range(12)]
    answers = await asyncio.gather(*(batcher.submit(engine, texts, at % 5) for at, texts in enumerate(requests)))
    for texts, answer in zip(requests, answers, strict=True):
        assert answer.result.vectors[:, 0].tolist() == [sum(map(ord, text)) for text in texts]
    assert len(engine.batches) < sum(map(len, requests)) / 2
    batcher.close()


async def test_cancelled_caller_frees_its_place_and_is_not_computed() -> None:
    engine, batcher = GatedEngine(), Batcher(2)
    running = started(batcher, engine, "running")
    await behind_the_first(batcher, engine)
    waiting = started(batcher, engine, "waiting")
    await behind_the_first(batcher, engine, waiting=1)
    waiting.cancel()
    await asyncio.sleep(0)
    third = started(batcher, engine, "third")
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(running, third)
    assert engine.done == ["running", "third"]
    batcher.close()


async def test_caller_that_leaves_in_the_middle_costs_one_batch() -> None:
    engine, batcher = GatedEngine(), Batcher(4)
    leaving = asyncio.create_task(batcher.submit(engine, ["l" * 256] * 32, "leaving"))
    await behind_the_first(batcher, engine)
    leaving.cancel()
    await asyncio.sleep(0)
    engine.gate.set()
    await batcher.submit(engine, ["next"], "next")
    assert [len(batch) for batch in engine.batches] == [1, 1]
    batcher.close()


async def test_abandoned_jobs_hold_no_memory_behind_a_running_one() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    running = started(batcher, engine, "running")
    await behind_the_first(batcher, engine)
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
    await asyncio.wrap_future(batcher._tokenizing._handoff._pool.submit(int))  # whatever was in the thread is done
    gc.collect()  # once: in a process this large a hundred collections outlast the gate
    assert not engine.done
    assert [reference() for reference in kept] == [None] * 100
    engine.gate.set()
    await running
    batcher.close()


async def test_texts_of_callers_who_left_do_not_wait_for_the_tokenizer() -> None:
    engine, batcher, gate = GatedEngine(), Batcher(8), threading.Event()
    batcher._tokenizing._handoff._pool.submit(gate.wait, 60)
    for number in range(100):
        job = started(batcher, engine, f"abandoned {number}", "session")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(batcher._tokenizing._line) == 1
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    assert not batcher._tokenizing._line
    gate.set()
    batcher.close()


async def test_closing_tells_everybody_who_waits() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    jobs = [asyncio.create_task(submitted(batcher, engine, "running"))]
    await behind_the_first(batcher, engine)
    jobs.append(asyncio.create_task(submitted(batcher, engine, "waiting")))
    await behind_the_first(batcher, engine, waiting=1)
    slow = threading.Event()
    batcher._tokenizing._handoff._pool.submit(slow.wait, 60)
    jobs += [asyncio.create_task(submitted(batcher, engine, text)) for text in ("tokenizing", "tokenizing too")]
    jobs.append(asyncio.create_task(submitted(batcher, engine, "same", session="tokenizing")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    engine.gate.set()
    slow.set()
    batcher.close()
    jobs.append(asyncio.create_task(submitted(batcher, engine, "late")))
    outcomes = await asyncio.gather(*jobs)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 6


async def test_idle_batcher_keeps_neither_model_nor_vectors() -> None:
    engine, batcher = GatedEngine(), Batcher(8)
    engine.gate.set()
    model = weakref.ref(engine)
    answer = await batcher.submit(engine, ["text"], "session")
    vectors = weakref.ref(answer.result.vectors)
    del engine, answer
    await asyncio.wrap_future(batcher._inference._pool.submit(int))
    gc.collect()
    assert (model(), vectors()) == (None, None)
    batcher.close()


async def test_nothing_is_in_flight_after_a_thousand_callers_of_whom_many_left_or_failed() -> None:
    rng, engine, batcher = random.Random(5), GatedEngine(), Batcher(64, cores=2)
    engine.gate.set()

    async def call(number: int) -> Computed:
        texts = [rng.choice(["a", "b" * 200, chr(POISON), chr(NAN), "\ud800"] + ["c"] * 20) for _ in range(3)]
        return await batcher.submit(engine, texts, number % 20)

    async def impatient(number: int) -> Computed | BaseException:
        job = asyncio.create_task(call(number))
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        if rng.random() < 0.4:
            job.cancel()
        (outcome,) = await asyncio.gather(job, return_exceptions=True)
        return outcome

    outcomes: list[Computed | BaseException] = []
    for first in range(0, 1000, 40):
        outcomes += await asyncio.gather(*(impatient(first + n) for n in range(40)))
    kinds = {type(outcome) for outcome in outcomes}
    assert {Computed, RequestRefused, asyncio.CancelledError} <= kinds <= {
        Computed, RequestRefused, asyncio.CancelledError, Overloaded
    }  # fmt: skip
    admission = batcher._admission
    assert (admission._jobs, admission._tokens, admission._characters) == ({}, {}, 0)
    assert (batcher._turns._queues, batcher._jobs, dict(batcher._tokenizing._turns)) == ({}, set(), {})
    batcher.close()


def test_results_do_not_print() -> None:
    embedded = Embedded(np.ones((1, 1), np.float32), 1)
    assert "1." not in repr(embedded)
    assert "1." not in repr(Computed(embedded, 0, 0, 0))
