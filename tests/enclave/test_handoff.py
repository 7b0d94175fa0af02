"""Threads that take what waits: nothing lost, nothing kept, and no fault that stops them."""

import asyncio
import gc
import threading
import weakref
from collections import deque

import pytest

from ephemeral_enclave.handoff import Handoff


class Thing:
    """Something that waits, and tells when it is gone."""

    def __init__(self, number: int) -> None:
        self.number = number


class Line:
    """Things that wait, and what became of them."""

    def __init__(self, threads: int = 1) -> None:
        self.waiting: deque[Thing] = deque()
        self.finished: list[int] = []
        self.faults: list[tuple[int | None, str]] = []
        self.changed = asyncio.Event()
        self.gate = threading.Barrier(threads)
        self.handoff = Handoff("things", self.take, self.work, self.deliver, self.failed, threads=threads)

    def take(self) -> Thing | None:
        if self.waiting and self.waiting[0].number < 0:
            self.waiting.popleft()
            raise KeyError("taking")
        return self.waiting.popleft() if self.waiting else None

    def work(self, thing: Thing) -> int:
        if thing.number == 13:
            raise SystemExit("working")
        if thing.number == 1000:
            self.gate.wait(60)
        return thing.number

    def deliver(self, thing: Thing, number: int) -> None:
        assert thing.number == number
        if number == 14:
            raise ValueError("delivering")
        self.finished.append(number)
        self.changed.set()

    def failed(self, thing: Thing | None, error: BaseException) -> None:
        self.faults.append((thing.number if thing else None, type(error).__name__))
        self.changed.set()

    def add(self, *numbers: int) -> None:
        with self.handoff.lock:
            self.waiting.extend(map(Thing, numbers))
        self.handoff.wake(len(numbers))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.finished) + len(self.faults) < count:
                self.changed.clear()
                await self.changed.wait()


@pytest.mark.parametrize("threads", [1, 3])
async def test_everything_that_was_added_is_delivered_once_whenever_it_came(threads: int) -> None:
    line = Line(threads)
    for first in range(2000, 6000, 4):
        line.add(*range(first, first + 4))
        if first % 100 == 0:
            await asyncio.sleep(0)
    await line.until(4000)
    assert sorted(line.finished) == list(range(2000, 6000))
    line.handoff.close()
    assert (line.handoff.working, line.handoff._awake) == (0, 0)


async def test_one_thread_works_in_the_order_of_the_line() -> None:
    line = Line()
    line.add(*range(2000, 2100))
    await line.until(100)
    assert line.finished == list(range(2000, 2100))
    line.handoff.close()


async def test_several_threads_work_at_the_same_time() -> None:
    line = Line(threads=3)
    line.add(1000, 1000, 1000)  # each waits for the others
    await line.until(3)
    assert (line.finished, line.faults) == ([1000] * 3, [])
    line.handoff.close()


@pytest.mark.parametrize(("fault", "told"), [(13, "SystemExit"), (14, "ValueError")], ids=["work", "deliver"])
async def test_fault_is_told_and_what_waits_behind_it_is_worked_on(fault: int, told: str) -> None:
    line = Line()
    line.add(5, fault, 6, 7)
    await line.until(4)
    assert (line.faults, line.finished) == ([(fault, told)], [5, 6, 7])
    line.handoff.close()
    assert (line.handoff.working, line.handoff._awake) == (0, 0)


async def test_fault_of_taking_is_told_and_the_next_to_come_wakes_the_thread_again() -> None:
    line = Line()
    line.add(-1)
    await line.until(1)
    line.add(7)
    await line.until(2)
    assert (line.faults, line.finished) == ([(None, "KeyError")], [7])
    line.handoff.close()


async def test_what_was_worked_on_is_let_go_of_while_nothing_else_comes() -> None:
    line = Line()
    thing = Thing(5)
    kept = weakref.ref(thing)
    with line.handoff.lock:
        line.waiting.append(thing)
    del thing
    line.handoff.wake()
    await line.until(1)
    await asyncio.wrap_future(line.handoff._pool.submit(int))
    gc.collect()
    assert kept() is None
    line.handoff.close()
