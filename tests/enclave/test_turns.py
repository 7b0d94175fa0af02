"""Turns, for whatever arrives: every row once and in order, no batch too large, no session before its turn."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ephemeral_enclave.engine import Engine, Tokens
from ephemeral_enclave.turns import ALONE, Batch, Turns

BATCH: Final = 16
SHARE: Final = 8
ENGINES: Final = cast("tuple[Engine, ...]", ("one model", "another model"))


@dataclass(eq=False)
class Job:
    """A job that remembers what it came with."""

    session: int
    engine: Engine
    lengths: list[int]
    rows: deque[tuple[int, Tokens]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = deque((place, [7] * length) for place, length in enumerate(self.lengths))


jobs = st.builds(
    Job, st.integers(0, 4), st.sampled_from(ENGINES), st.lists(st.integers(0, 20), min_size=1, max_size=12)
)
# What happens, in order: a job comes, a batch is taken, or one of those that came leaves.
steps = st.lists(st.one_of(jobs, st.just("take"), st.integers(0, 30)), max_size=40)  # too few for one to be alone


@settings(max_examples=300, deadline=None, derandomize=True)
@given(steps)
def test_every_row_is_computed_once_in_order_and_no_batch_is_too_large_or_unfair(steps: list[Any]) -> None:
    turns: Turns[Job] = Turns(BATCH, SHARE)
    came: list[Job] = []
    left: set[Job] = set()
    computed: dict[Job, list[int]] = {}
    last: Counter[int] = Counter()

    def take() -> None:
        waiting = waiting_sessions(turns, last)
        batch = turns.take()
        check(batch, waiting)
        last.clear()
        for (job, _), row in zip(batch.owners, batch.rows, strict=True):
            last[job.session] += len(row)
        for job, place in batch.owners:
            computed[job].append(place)

    for step in steps:
        match step:
            case Job():
                came.append(step)
                computed[step] = []
                turns.add(step)
            case "take" if turns:
                take()
            case int() if step < len(came):
                left.add(came[step])
                turns.drop(came[step])
    while turns:
        take()
    for job, places in computed.items():
        whole = list(range(len(job.lengths)))
        assert places == (whole[: len(places)] if job in left else whole)


def waiting_sessions(turns: Turns[Job], last: Counter[int]) -> list[tuple[int, Engine, int]]:
    """Return session, engine and length of the next row of each whose turn may be next, in their order."""
    waiting = [(q[0].session, q[0].engine, len(q[0].rows[0][1])) for q in turns._queues.values()]
    return [one for one in waiting if not (last.total() and 2 * last[one[0]] >= last.total())] or waiting


def check(batch: Batch[Job], waiting: list[tuple[int, Engine, int]]) -> None:
    assert len(batch.rows) == len(batch.owners) > 0
    assert {id(job.engine) for job, _ in batch.owners} == {id(batch.engine)}
    assert [len(row) for row in batch.rows] == [job.lengths[place] for job, place in batch.owners]
    assert batch.tokens <= BATCH or sum(bool(row) for row in batch.rows) == 1
    served = list(dict.fromkeys(job.session for job, _ in batch.owners))
    in_turn = [session for session, engine, _ in waiting if engine is batch.engine]
    assert waiting[0][1] is batch.engine  # whose turn it is
    assert served == in_turn[: len(served)]  # nobody is skipped
    if len(served) < len(in_turn):
        next_length = next(length for session, _, length in waiting if session == in_turn[len(served)])
        assert batch.tokens + next_length > BATCH  # and nobody left out who would have fitted
    part = min(SHARE, BATCH // len(waiting))
    for session in served:
        rows = [len(row) for row, (job, _) in zip(batch.rows, batch.owners, strict=True) if job.session == session]
        assert sum(rows) <= part or sum(map(bool, rows)) == 1


@pytest.mark.parametrize("length", [1, SHARE])
def test_session_beside_many_others_that_fill_a_batch_gets_no_more_than_they_do(length: int) -> None:
    turns: Turns[Job] = Turns(BATCH, SHARE)
    for session in range(BATCH):
        turns.add(Job(session, ENGINES[0], [1] * 400))
    turns.add(Job(BATCH, ENGINES[0], [length] * 400))
    rows = Counter(job.session for _ in range(200) for job, _ in turns.take().owners)
    assert rows[BATCH] <= min(rows[session] for session in range(BATCH)) + 1


def test_a_long_job_gets_whole_batches_once_it_has_been_alone_and_parts_again_when_somebody_came() -> None:
    turns: Turns[Job] = Turns(BATCH, SHARE)
    turns.add(Job(0, ENGINES[0], [SHARE] * 200))
    assert [turns.take().tokens for _ in range(ALONE + 2)] == [SHARE] * ALONE + [BATCH] * 2
    turns.add(Job(1, ENGINES[0], [1]))
    assert [turns.take().tokens for _ in range(3)] == [1, SHARE, SHARE]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from(ENGINES)), min_size=1, max_size=12))
def test_no_session_waits_longer_than_one_turn_of_each_other_however_many_models_there_are(
    sessions: list[tuple[int, Engine]],
) -> None:
    turns: Turns[Job] = Turns(BATCH, SHARE)
    for session, (length, engine) in enumerate(sessions):
        turns.add(Job(session, engine, [length] * 400))
    last = dict.fromkeys(range(len(sessions)), 0)
    for number in range(1, 40):
        for job, _ in turns.take().owners:
            last[job.session] = number
        assert all(number - at <= len(sessions) for at in last.values())
