"""The serving core: admission first, tokens off the event loop, batches across sessions, one on each core.

A request is admitted or refused before any work. Its texts become tokens in a thread of their own, a session's at a
time; its rows wait for their turn; whoever leaves takes his rows along. Batches run beside each other, since threads
that share one wait for the slowest at every product: docs/adr/0020-a-batch-on-each-core.md.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ephemeral.errors import EphemeralError, RequestRefused, Unavailable
from ephemeral_enclave.admission import MOST_CHARACTERS, MOST_TOKENS, Admission
from ephemeral_enclave.engine import Embedded, Engine, Tokens
from ephemeral_enclave.handoff import Handoff
from ephemeral_enclave.outcomes import Outcome, Vectors, failed, outcomes, report
from ephemeral_enclave.tokenizing import Tokenizing
from ephemeral_enclave.turns import Batch, Turns

_SPECIAL_TOKENS: Final = 2  # [CLS] and [SEP]


@dataclass(frozen=True, slots=True)
class Computed:
    """A result and where its time went, in microseconds."""

    result: Embedded
    tokenize_us: int
    queue_us: int
    compute_us: int

    def __repr__(self) -> str:
        return f"Computed(<redacted>, queue_us={self.queue_us}, compute_us={self.compute_us})"


@dataclass(slots=True, eq=False, repr=False)  # it holds tokens and vectors: it does not print
class _Job:
    engine: Engine
    session: Hashable
    vectors: Vectors
    rows: deque[tuple[int, Tokens]]
    done: "asyncio.Future[None]"
    missing: int
    compute_ns: int = 0
    computed_until: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """A batch, and how many cores are its own."""

    batch: Batch[_Job]
    cores: int


@dataclass(frozen=True, slots=True)
class _Ran:
    """What came of a batch's rows, and when, in nanoseconds of the monotonic clock."""

    outcomes: Sequence[Outcome]
    begun: int
    ended: int


class Batcher:
    """Computes what is admitted, in turns, and refuses what would queue without bound."""

    def __init__(
        self,
        most_jobs: int,
        *,
        most_characters: int = MOST_CHARACTERS,
        most_tokens: int = MOST_TOKENS,
        cores: int = 1,
    ) -> None:
        """Admit at most `most_jobs` jobs of `most_characters` and `most_tokens` together, the running ones included.

        As many batches as there are `cores` are computed at a time, each on one; one that is alone gets all.
        """
        self._admission = Admission(most_jobs, most_characters, most_tokens)
        self._turns: Turns[_Job] = Turns()
        self._jobs: set[_Job] = set()
        self._closed = False
        self._tokenizing = Tokenizing(_closing)
        self._cores = cores
        self._inference = Handoff("inference", self._take, _run, self._deliver_batch, self._fault, threads=cores)

    def require_room(self, session: Hashable) -> None:
        """Return if a session may submit one more job; to be asked before anything is done for it.

        Raises:
            Overloaded: the queue, or the session's share of it, is full.
        """
        self._admission.require_room(session)

    async def submit(self, engine: Engine, texts: Sequence[str], session: Hashable) -> Computed:
        """Compute embeddings; a caller that is cancelled costs at most the batch that is running.

        Raises:
            Overloaded: the queue, or the session's share of it, is full; nothing was executed.
            RequestRefused: the engine cannot take this input, or failed on it.
            Unavailable: the batcher was closed before the answer.
        """
        self._require_open()
        most_tokens = sum(min(len(text) + _SPECIAL_TOKENS, engine.longest) for text in texts)
        place = self._admission.admit(session, sum(map(len, texts)), most_tokens)
        try:
            begun = time.monotonic_ns()
            rows = await self._tokenizing.tokens(engine, texts, session)
            del texts  # a cancellation's traceback keeps this frame for a while
            tokens = sum(len(row) for _, row in rows)
            self._admission.correct(place, tokens)
            queued = time.monotonic_ns()
            job = await self._compute(engine, rows, session)
            waited = max(0, time.monotonic_ns() - queued - job.compute_ns)
            result = Embedded(job.vectors, tokens)
            return Computed(result, (queued - begun) // 1000, waited // 1000, job.compute_ns // 1000)
        finally:
            self._admission.release(place)

    async def _compute(self, engine: Engine, rows: deque[tuple[int, Tokens]], session: Hashable) -> _Job:
        self._require_open()
        vectors = np.empty((len(rows), engine.dimension), np.float32)
        job = _Job(engine, session, vectors, rows, asyncio.get_running_loop().create_future(), len(rows))
        with self._inference.lock:
            self._turns.add(job)
        self._jobs.add(job)
        self._inference.wake(job.missing)
        try:
            await job.done
            return job
        finally:
            self._drop(job)
            self._jobs.discard(job)
            del job  # it has the error, whose traceback has this frame, and the caller's with the texts

    def _take(self) -> _Run | None:
        """Take what is computed next, with its part of the cores: all of them, while nothing else runs or waits."""
        if self._closed or not self._turns:
            return None
        batch = self._turns.take()
        alone = not self._inference.working and not self._turns
        return _Run(batch, self._cores if alone else 1)

    def _deliver_batch(self, run: _Run, ran: _Ran) -> None:
        batch = run.batch
        self._admission.computed(batch.tokens, (ran.ended - ran.begun) * run.cores / self._cores / 1e9)
        for job in {job for job, _ in batch.owners}:
            job.compute_ns += max(0, ran.ended - max(ran.begun, job.computed_until))  # its batches may overlap
            job.computed_until = max(ran.ended, job.computed_until)
        for (job, place), outcome in zip(batch.owners, ran.outcomes, strict=True):
            self._deliver(job, place, outcome)

    def _deliver(self, job: _Job, place: int, outcome: Outcome) -> None:
        if isinstance(outcome, RequestRefused):
            self._fail(job, outcome)
        elif not job.done.done():
            job.vectors[place] = outcome
            job.missing -= 1
            if not job.missing:
                job.done.set_result(None)

    def _fault(self, _run: _Run | None, error: BaseException) -> None:
        """Tell those who wait of a fault of this core; whoever comes next is served."""
        report(error)
        with self._inference.lock:
            self._turns = Turns()
        self._fail_all(failed)

    def _drop(self, job: _Job) -> None:
        with self._inference.lock:
            self._turns.drop(job)

    def _fail(self, job: _Job, error: EphemeralError) -> None:
        self._drop(job)
        if not job.done.done():
            job.done.set_exception(error)

    def _fail_all(self, error: Callable[[], EphemeralError]) -> None:
        for job in self._jobs:
            self._fail(job, error())

    def _require_open(self) -> None:
        if self._closed:
            raise _closing()

    def close(self) -> None:
        """Take no more, tell those who wait, and return when all threads are done with what they were at."""
        self._closed = True
        self._fail_all(_closing)
        self._inference.close()
        self._tokenizing.close()


def _run(run: _Run) -> _Ran:
    begun = time.monotonic_ns()
    computed = outcomes(run.batch.engine, run.batch.rows, run.cores)
    return _Ran(computed, begun, time.monotonic_ns())


def _closing() -> Unavailable:
    return Unavailable("the enclave is stopping")
