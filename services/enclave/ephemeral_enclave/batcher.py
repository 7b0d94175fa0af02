"""The queue in front of the engine: admission first, one inference thread, turns between sessions, none for the dead.

A job is computed in slices. Between two slices the next session has its turn, and a job whose caller has left is
dropped with all it holds: nobody can occupy the engine longer than one slice takes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ephemeral.errors import Overloaded
from ephemeral_enclave.engine import Embedded, Engine

SLICE_TEXTS: Final = 32
SLICE_CHARACTERS: Final = 16_384
_SHARE: Final = 4  # one session may hold this part of the queue


@dataclass(frozen=True, slots=True)
class Computed:
    """A result and where its time went, in microseconds."""

    result: Embedded
    queue_us: int
    compute_us: int

    def __repr__(self) -> str:
        return f"Computed(<redacted>, queue_us={self.queue_us}, compute_us={self.compute_us})"


@dataclass(slots=True, eq=False)
class _Job:
    engine: Engine
    texts: deque[str]
    future: "asyncio.Future[Computed]"
    size: int
    admitted: int = field(default_factory=time.monotonic_ns)
    compute_ns: int = 0
    parts: list[Embedded] = field(default_factory=list)

    def slice(self) -> list[str]:
        """Take texts off the front: at least one, at most SLICE_TEXTS, about SLICE_CHARACTERS together."""
        taken = [self.texts.popleft()]
        characters = len(taken[0])
        while self.texts and len(taken) < SLICE_TEXTS and characters + len(self.texts[0]) <= SLICE_CHARACTERS:
            taken.append(self.texts.popleft())
            characters += len(taken[-1])
        return taken

    def computed(self) -> Computed:
        """Put the slices together."""
        vectors = np.concatenate([part.vectors for part in self.parts])
        total = Embedded(vectors, sum(part.tokens for part in self.parts))
        waited = time.monotonic_ns() - self.admitted - self.compute_ns
        return Computed(total, waited // 1000, self.compute_ns // 1000)


class Batcher:
    """Runs one slice at a time, session by session, and refuses what would queue without bound."""

    def __init__(self, capacity: int, *, most_characters: int = 16 * 1024 * 1024) -> None:
        """Admit at most `capacity` jobs of `most_characters` together, the running one included."""
        self._capacity = capacity
        self._most_characters = most_characters
        self._queues: dict[Hashable, deque[_Job]] = {}  # in the order of their turns
        self._jobs: dict[Hashable, int] = {}
        self._characters = 0
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        # One thread owns torch: two would share its cores and gain nothing.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    async def submit(self, engine: Engine, texts: Sequence[str], session: Hashable) -> Computed:
        """Compute embeddings; a caller that is cancelled costs at most the slice that is running.

        Raises:
            Overloaded: the queue, or the session's share of it, is full; nothing was executed.
            RequestRefused: the engine cannot take this input.
        """
        size = sum(map(len, texts))
        self._admit(session, size)
        job = _Job(engine, deque(texts), asyncio.get_running_loop().create_future(), size)
        del texts  # a cancellation's traceback keeps this frame for a while: the job alone holds the texts
        self._queues.setdefault(session, deque()).append(job)
        self._worker = self._worker or asyncio.create_task(self._work())
        self._wake.set()
        try:
            return await job.future
        finally:
            self._forget(session, job)

    def _admit(self, session: Hashable, size: int) -> None:
        mine, all_jobs = self._jobs.get(session, 0), sum(self._jobs.values())
        full = all_jobs >= self._capacity or self._characters + size > self._most_characters
        if full or mine >= max(1, self._capacity // _SHARE):
            raise Overloaded("the enclave is busy; try again", code="QUEUE_FULL")
        self._jobs[session] = mine + 1
        self._characters += size

    def _forget(self, session: Hashable, job: _Job) -> None:
        """Free what an ended or abandoned job holds: its place, its turn, and its texts at once."""
        job.texts.clear()
        self._characters -= job.size
        self._jobs[session] -= 1
        if not self._jobs[session]:
            del self._jobs[session]
        self._leave_queue(session, job)

    def _leave_queue(self, session: Hashable, job: _Job) -> None:
        queue = self._queues.get(session, deque())
        if job in queue:
            queue.remove(job)
        if not queue:
            self._queues.pop(session, None)

    async def _work(self) -> None:
        while True:
            while not self._queues:
                self._wake.clear()
                await self._wake.wait()
            session = next(iter(self._queues))
            job = self._queues[session][0]
            await self._run_slice(job)
            if job.future.done():
                self._leave_queue(session, job)
            if session in self._queues:  # to the back: the next slice is another session's
                self._queues[session] = self._queues.pop(session)

    async def _run_slice(self, job: _Job) -> None:
        texts = job.slice()
        begun = time.monotonic_ns()
        try:
            part = await asyncio.get_running_loop().run_in_executor(self._thread, job.engine.embed, texts)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this caller's alone
            _settle(job, error)
        else:
            job.parts.append(part)
            job.compute_ns += time.monotonic_ns() - begun
            if not job.texts:
                _settle(job, job.computed())

    def close(self) -> None:
        """Finish the running slice and take no more."""
        if self._worker is not None:
            self._worker.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)


def _settle(job: _Job, outcome: Computed | Exception) -> None:
    if job.future.done():
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)
