"""Whose tokens are computed next: sessions take turns, and a batch takes a little of each.

A batch is the longest prefix of the turns that fits a budget of tokens: nothing waits for a timer, nothing is skipped
to fill a gap, and no session has more than its part while others wait. A long job is thereby split without a rule of
its own. And a session that was half of the last batch is not in the next one while others wait: a short text that
comes beside a long job is computed without it. Small batches cost a long job a third of its speed: one that has been
alone for a while gets whole ones.
"""

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from ephemeral_enclave.engine import Engine, Tokens

BATCH_TOKENS: Final = 256  # on each core; with more, answers of short texts wait for each other
SESSION_TOKENS: Final = 128  # of one session in one batch, even when no other waits: one may come while it is computed
ALONE: Final = 64  # batches in a row for one session, about a second: then it is taken to be the only one


class Waiting(Protocol):
    """A job with rows that wait: token ids, and the place of their text in the request."""

    engine: Engine
    session: Hashable
    rows: deque[tuple[int, Tokens]]


J = TypeVar("J", bound=Waiting)


@dataclass(slots=True)
class Batch(Generic[J]):
    """Rows to compute together, each with the job that wants it and its place there."""

    engine: Engine
    rows: list[Tokens] = field(default_factory=list)
    owners: list[tuple[J, int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """All tokens of the batch."""
        return sum(map(len, self.rows))


class Turns(Generic[J]):
    """Jobs by session, sessions in the order of their turns."""

    def __init__(self, batch_tokens: int = BATCH_TOKENS, session_tokens: int = SESSION_TOKENS) -> None:
        self._batch_tokens = batch_tokens
        self._session_tokens = session_tokens
        self._queues: dict[Hashable, deque[J]] = {}
        self._last: Counter[Hashable] = Counter()
        self._alone = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, job: J) -> None:
        """Put a job with rows behind its session's others; a session that had none comes last."""
        if not job.rows:
            raise ValueError("a job without rows would never be done")
        self._queues.setdefault(job.session, deque()).append(job)

    def drop(self, job: J) -> None:
        """Take a job out, and free the rows that were not computed."""
        job.rows.clear()
        queue = self._queues.get(job.session)
        if queue is not None and job in queue:
            queue.remove(job)
            if not queue:
                del self._queues[job.session]

    def take(self) -> Batch[J]:
        """Take the next batch, at least one row; who was served goes to the back."""
        waiting = self._whose_turn()
        batch: Batch[J] = Batch(self._queues[waiting[0]][0].engine)
        self._alone = self._alone + 1 if self._queues.keys() == self._last.keys() else 0
        part = self._batch_tokens // len(waiting)
        if self._alone < ALONE:
            part = min(part, self._session_tokens)
        left = self._batch_tokens
        for session in waiting:
            if self._queues[session][0].engine is not batch.engine:
                continue  # another model's: it keeps its turn, and is at the front when this round is over
            before = len(batch.rows)
            for job, place, row in self._rows_of(session, part, left):
                batch.rows.append(row)
                batch.owners.append((job, place))
                left -= len(row)
            if len(batch.rows) == before:
                break
            self._to_the_back(session)
        self._last = Counter()
        for (job, _), row in zip(batch.owners, batch.rows, strict=True):
            self._last[job.session] += len(row)
        return batch

    def _whose_turn(self) -> list[Hashable]:
        """Return the sessions that wait, in order, without those that were half of the last batch if others do."""
        half = self._last.total() / 2
        rested = [session for session in self._queues if self._last[session] < half or not half]
        return rested or list(self._queues)

    def _rows_of(self, session: Hashable, part: int, left: int) -> Iterator[tuple[J, int, Tokens]]:
        """Take rows of one session: the first if it fits or nothing else is in the batch, more within its part."""
        queue, taken, engine = self._queues[session], 0, self._queues[session][0].engine
        while queue and queue[0].engine is engine:
            job = queue[0]
            while job.rows:
                total = taken + len(job.rows[0][1])
                alone = not taken and left == self._batch_tokens
                if not alone and (total > left or (taken and total > part)):
                    return
                place, row = job.rows.popleft()
                taken = total
                yield job, place, row
            queue.popleft()

    def _to_the_back(self, session: Hashable) -> None:
        queue = self._queues.pop(session)
        if queue:
            self._queues[session] = queue
