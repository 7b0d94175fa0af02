"""The queue in front of the engine: admission first, one inference thread, and the dead are forgotten."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ephemeral.errors import Overloaded
from ephemeral_enclave.engine import Embedded, Engine


@dataclass(frozen=True, slots=True)
class Computed:
    """A result and where its time went, in microseconds."""

    result: Embedded
    queue_us: int
    compute_us: int


class Batcher:
    """Runs one job at a time, in order of admission, and refuses what would queue without bound."""

    def __init__(self, capacity: int) -> None:
        """Admit at most `capacity` jobs at a time, the running one included."""
        self._capacity = capacity
        self._admitted = 0
        # One thread owns torch: two would share its cores and gain nothing.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    async def submit(self, engine: Engine, texts: Sequence[str]) -> Computed:
        """Compute embeddings; a caller that is cancelled before its turn costs nothing.

        Raises:
            Overloaded: the queue is full; nothing was executed.
            RequestRefused: the engine cannot take this input.
        """
        if self._admitted >= self._capacity:
            raise Overloaded("the enclave is busy; try again", code="QUEUE_FULL")
        self._admitted += 1
        admitted = time.monotonic_ns()
        try:
            job = asyncio.get_running_loop().run_in_executor(self._thread, _run, engine, texts, admitted)
            return await job
        finally:
            self._admitted -= 1

    def close(self) -> None:
        """Finish the running job and take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _run(engine: Engine, texts: Sequence[str], admitted: int) -> Computed:
    started = time.monotonic_ns()
    result = engine.embed(texts)
    ended = time.monotonic_ns()
    return Computed(result, (started - admitted) // 1000, (ended - started) // 1000)
