"""The serving core: admission first, tokens off the event loop, one inference thread, batches across sessions.

A request is admitted or refused before any work. Its texts become tokens in a thread of their own, a session's at a
time; its rows wait for their turn; whoever leaves takes his rows along. What fails, fails for its own job alone, and
says so in an error of its own: a traceback out of the engine would keep the tokens of everybody in the batch.
"""

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from ephemeral.errors import EphemeralError, RequestRefused, Unavailable
from ephemeral_enclave.admission import MOST_CHARACTERS, MOST_TOKENS, Admission
from ephemeral_enclave.engine import Embedded, Engine, Tokens
from ephemeral_enclave.turns import Turns

SLICE_TEXTS: Final = 32
SLICE_CHARACTERS: Final = 16_384
_SPECIAL_TOKENS: Final = 2  # [CLS] and [SEP]
_Vectors = npt.NDArray[np.float32]
_Outcome = _Vectors | RequestRefused
_log = logging.getLogger(__name__)


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
        self._jobs: set[_Job] = set()
        self._closed = False
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
            RequestRefused: the engine cannot take this input, or failed on it.
            Unavailable: the batcher was closed before the answer.
        """
        self._require_open()
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
                self._require_open()
                tokens = await asyncio.get_running_loop().run_in_executor(self._tokenizer, self._read, engine, part)
                rows.extend(enumerate(tokens, len(rows)))
        return rows

    def _read(self, engine: Engine, part: Sequence[str]) -> list[Tokens]:
        self._require_open()  # whoever is in line for the thread when it is closed
        try:
            return engine.tokenize(part)
        except RequestRefused:
            raise
        except BaseException as error:  # noqa: BLE001  # a future takes some as orders to itself, and is never done
            _report(error)
            raise _failed() from None

    async def _compute(self, engine: Engine, rows: deque[tuple[int, Tokens]], session: Hashable) -> _Job:
        self._require_open()
        vectors = np.empty((len(rows), engine.dimension), np.float32)
        job = _Job(engine, session, vectors, rows, asyncio.get_running_loop().create_future(), len(rows))
        self._turns.add(job)
        self._jobs.add(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        self._wake.set()
        try:
            await job.done
            return job
        finally:
            self._turns.drop(job)
            self._jobs.discard(job)
            del job  # it has the error, whose traceback has this frame, and the caller's with the texts

    async def _work(self) -> None:
        while True:
            while not self._turns:
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001  # a fault of this core: those who wait are told, others served
                _report(error)
                self._turns = Turns()
                self._fail_all(_failed)

    async def _turn(self) -> None:
        """Compute one batch; tokens, vectors and the model are let go of with this frame, whoever comes next."""
        batch = self._turns.take()
        begun = time.monotonic_ns()
        run = asyncio.get_running_loop().run_in_executor
        outcomes = await run(self._inference, _outcomes, batch.engine, batch.rows)
        elapsed = time.monotonic_ns() - begun
        self._admission.computed(batch.tokens, elapsed / 1e9)
        for job in {job for job, _ in batch.owners}:
            job.compute_ns += elapsed
        for (job, place), outcome in zip(batch.owners, outcomes, strict=True):
            self._deliver(job, place, outcome)

    def _deliver(self, job: _Job, place: int, outcome: _Outcome) -> None:
        if isinstance(outcome, RequestRefused):
            self._fail(job, outcome)
        elif not job.done.done():
            job.vectors[place] = outcome
            job.missing -= 1
            if not job.missing:
                job.done.set_result(None)

    def _fail(self, job: _Job, error: EphemeralError) -> None:
        self._turns.drop(job)
        if not job.done.done():
            job.done.set_exception(error)

    def _fail_all(self, error: Callable[[], EphemeralError]) -> None:
        for job in self._jobs:
            self._fail(job, error())

    def _require_open(self) -> None:
        if self._closed:
            raise _closing()

    def close(self) -> None:
        """Take no more, tell those who wait, and return when both threads are done with what they were at."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        self._fail_all(_closing)
        self._inference.shutdown(wait=True, cancel_futures=True)
        self._tokenizer.shutdown(wait=True)


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
    """Compute rows together; when that fails, each half by itself, so that only the rows at fault pay."""
    computed = _attempt(engine, rows)
    if not isinstance(computed, RequestRefused):
        return [vector if np.isfinite(vector).all() else _not_finite() for vector in computed]
    if len(rows) == 1:
        return [computed]
    half = len(rows) // 2
    return _outcomes(engine, rows[:half]) + _outcomes(engine, rows[half:])


def _attempt(engine: Engine, rows: Sequence[Tokens]) -> _Vectors | RequestRefused:
    try:
        vectors = engine.compute(rows)
        if vectors.shape != (len(rows), engine.dimension):
            raise ValueError("the engine gives vectors of another shape")
    except RequestRefused as refusal:
        return RequestRefused(refusal.detail, code=refusal.code)
    except BaseException as error:  # noqa: BLE001  # a Rust panic is no Exception, and must not end the worker
        _report(error)
        return _failed()
    return vectors


def _report(error: BaseException) -> None:
    """Say for the log what failed and where, without its text, which may quote the input."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    _log.error("%s in the engine at %s", type(error).__name__, *(f"{at.name}:{at.lineno}" for at in place))


def _failed() -> RequestRefused:
    return RequestRefused("the engine failed on this input", code="ENGINE")


def _not_finite() -> RequestRefused:
    return RequestRefused("the model has no finite answer to this input", code="ENGINE")


def _closing() -> Unavailable:
    return Unavailable("the enclave is stopping")
