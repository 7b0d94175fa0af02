"""The serving core: admission first, tokens off the event loop, one inference thread, batches across sessions.

A request is admitted or refused before any work. Its texts become tokens in a thread of their own, a session's at a
time; its rows wait for their turn; whoever leaves takes his rows along. What fails, fails for its own job alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from ephemeral.errors import RequestRefused
from ephemeral_enclave.admission import MOST_CHARACTERS, MOST_TOKENS, Admission
from ephemeral_enclave.engine import Embedded, Engine, Tokens
from ephemeral_enclave.turns import Turns

SLICE_TEXTS: Final = 32
SLICE_CHARACTERS: Final = 16_384
_SPECIAL_TOKENS: Final = 2  # [CLS] and [SEP]
_Vectors = npt.NDArray[np.float32]
_Outcome = _Vectors | Exception


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
    vectors: _Vectors
    rows: deque[tuple[int, Tokens]]
    done: "asyncio.Future[None]"
    missing: int
    compute_ns: int = 0


class Batcher:
    """Computes what is admitted, in turns, and refuses what would queue without bound."""

    def __init__(
        self, most_jobs: int, *, most_characters: int = MOST_CHARACTERS, most_tokens: int = MOST_TOKENS
    ) -> None:
        """Admit at most `most_jobs` jobs of `most_characters` and `most_tokens` together, the running ones included."""
        self._admission = Admission(most_jobs, most_characters, most_tokens)
        self._turns: Turns[_Job] = Turns()
        self._tokenizing: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        # One thread owns torch: two would share its cores and gain nothing. Tokenizing has another.
        self._inference = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._tokenizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    async def submit(self, engine: Engine, texts: Sequence[str], session: Hashable) -> Computed:
        """Compute embeddings; a caller that is cancelled costs at most the batch that is running.

        Raises:
            Overloaded: the queue, or the session's share of it, is full; nothing was executed.
            RequestRefused: the engine cannot take this input.
        """
        most_tokens = sum(min(len(text) + _SPECIAL_TOKENS, engine.longest) for text in texts)
        place = self._admission.admit(session, sum(map(len, texts)), most_tokens)
        try:
            begun = time.monotonic_ns()
            rows = await self._tokenize(engine, texts, session)
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

    async def _tokenize(self, engine: Engine, texts: Sequence[str], session: Hashable) -> deque[tuple[int, Tokens]]:
        """Tokenize slice by slice: a session has one slice in the thread, so that others are next after it."""
        rows: deque[tuple[int, Tokens]] = deque()
        async with self._tokenizing.setdefault(session, asyncio.Lock()):
            for part in _slices(texts):
                tokens = await asyncio.get_running_loop().run_in_executor(self._tokenizer, engine.tokenize, part)
                rows.extend(enumerate(tokens, len(rows)))
        return rows

    async def _compute(self, engine: Engine, rows: deque[tuple[int, Tokens]], session: Hashable) -> _Job:
        vectors = np.empty((len(rows), engine.dimension), np.float32)
        job = _Job(engine, session, vectors, rows, asyncio.get_running_loop().create_future(), len(rows))
        self._turns.add(job)
        self._worker = self._worker or asyncio.create_task(self._work())
        self._wake.set()
        try:
            await job.done
        finally:
            self._turns.drop(job)
        return job

    async def _work(self) -> None:
        while True:
            while not self._turns:
                self._wake.clear()
                await self._wake.wait()
            batch = self._turns.take()
            begun = time.monotonic_ns()
            run = asyncio.get_running_loop().run_in_executor
            outcomes = await run(self._inference, _outcomes, batch.engine, batch.rows)
            elapsed = time.monotonic_ns() - begun
            self._admission.computed(batch.tokens, elapsed / 1e9)
            for job in {job for job, _ in batch.owners}:
                job.compute_ns += elapsed
            for (job, place), outcome in zip(batch.owners, outcomes, strict=True):
                _deliver(job, place, outcome)

    def close(self) -> None:
        """Finish the running batch and take no more."""
        if self._worker is not None:
            self._worker.cancel()
        self._inference.shutdown(wait=True, cancel_futures=True)
        self._tokenizer.shutdown(wait=True, cancel_futures=True)


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into slices: at least one text, at most SLICE_TEXTS, about SLICE_CHARACTERS together."""
    part: list[str] = []
    for text in texts:
        if part and (len(part) == SLICE_TEXTS or sum(map(len, part)) + len(text) > SLICE_CHARACTERS):
            yield part
            part = []
        part.append(text)
    yield part


def _outcomes(engine: Engine, rows: Sequence[Tokens]) -> list[_Outcome]:
    """Compute rows together; when that fails, each by itself, so that only the one at fault pays."""
    try:
        vectors = engine.compute(rows)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is one caller's alone
        return [error] if len(rows) == 1 else [outcome for row in rows for outcome in _outcomes(engine, [row])]
    finite = [bool(np.isfinite(vector).all()) for vector in vectors]
    return [vector if sound else _not_finite() for vector, sound in zip(vectors, finite, strict=True)]


def _not_finite() -> RequestRefused:
    return RequestRefused("the model has no finite answer to this input", code="ENGINE")


def _deliver(job: _Job, place: int, outcome: _Outcome) -> None:
    if job.done.done():
        return
    if isinstance(outcome, Exception):
        job.done.set_exception(outcome)
        return
    job.vectors[place] = outcome
    job.missing -= 1
    if not job.missing:
        job.done.set_result(None)
