"""An engine that waits to be let go, and callers of the batcher that it is under."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ephemeral.errors import RequestRefused
from ephemeral_enclave.batcher import Batcher, Computed
from ephemeral_enclave.engine import Engine, Tokens

POISON, NAN = 666, 777


class GatedEngine:
    """An engine that waits to be let go, and fails on request: a text's tokens are its characters."""

    dimension = 1
    longest = 256

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        if "\ud800" in texts:
            raise RequestRefused("not Unicode", code="ENGINE")
        return [[ord(letter) for letter in text[: self.longest]] for text in texts]

    def compute(self, rows: Sequence[Tokens], _cores: int | None = None) -> npt.NDArray[np.float32]:
        self.begun.set()
        self.gate.wait(60)
        if any(POISON in row for row in rows):
            raise RuntimeError("poison")
        self.batches.append(["".join(map(chr, row)) for row in rows])
        return np.array([[np.nan if NAN in row else sum(row)] for row in rows], np.float32)

    @property
    def done(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


def started(batcher: Batcher, engine: GatedEngine, text: str, session: object = None) -> "asyncio.Task[Computed]":
    return asyncio.create_task(batcher.submit(engine, [text], session or text))


async def behind_the_first(batcher: Batcher, engine: GatedEngine, waiting: int = 0) -> None:
    """Wait until the engine has begun its first batch, and so many jobs are in line behind it."""
    await asyncio.to_thread(engine.begun.wait, 60)
    while sum(map(len, batcher._turns._queues.values())) < waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def submitted(batcher: Batcher, engine: Engine, *texts: str, session: object = None) -> Computed | BaseException:
    """Return the answer or the error; an answer that never comes is a failure, not a hang."""
    job = asyncio.create_task(batcher.submit(engine, texts, session or texts))
    (outcome,) = await asyncio.wait_for(asyncio.gather(job, return_exceptions=True), 60)
    return outcome


class Text(str):
    """A text that tells when it is gone."""

    __slots__ = ("__weakref__",)
