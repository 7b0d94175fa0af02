"""Random schedules of a hostile host against the handshake and the channel, each judged step by step (INV-4).

Two ways over the same moves: seeded schedules, whose number is exact and which EPHEMERALML_SCHEDULES can raise for a
long run, and a hypothesis state machine, which shrinks what it finds. A seeded schedule is repeated by its number.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.adversary.bugs import FRAME_BUGS, HANDSHAKE_BUGS
from tests.adversary.nonces import NonceSpy, watched
from tests.adversary.oracle import Violation
from tests.adversary.parties import Cast
from tests.adversary.world import FRAMES, HANDSHAKE, Action, World
from tests.support.invariants import Tally, tally

FRAME_SCHEDULES = int(os.environ.get("EPHEMERALML_SCHEDULES", "10000"))
HANDSHAKE_SCHEDULES = max(FRAME_SCHEDULES // 5, 1)
EXAMPLES = 200


@dataclass(frozen=True)
class Plan:
    """What the schedules of one kind are made of; moves that stand there often are made often."""

    moves: tuple[Action, ...]
    steps: int = 40
    established: int = 0


FRAMES_PLAN = Plan(
    (*FRAMES, World.ask, *3 * (World.deliver_request, World.answer, World.deliver_answer)),
    established=2,
)
HANDSHAKES_PLAN = Plan(
    (
        *HANDSHAKE,
        *3 * (World.believe, World.take_open, World.confirm),
        World.answer_hello,
        World.deliver_request,
        World.restart,
    )
)


@pytest.fixture(scope="module")
def cast() -> Cast:
    return Cast()


@pytest.fixture
def spy() -> Iterator[NonceSpy]:
    with watched() as watching:
        yield watching


def play(cast: Cast, spy: NonceSpy, seed: int, plan: Plan) -> World:
    """Play one schedule; `seed` and the code decide everything in it but the keys."""
    choices = random.Random(seed)
    spy.start()
    world = World(cast, established=plan.established)
    try:
        for _ in range(plan.steps):
            choices.choice(plan.moves)(world, choices.randrange)
        world.settle()
    except Exception as error:
        error.add_note(f"schedule {seed}")
        raise
    return world


def play_all(cast: Cast, spy: NonceSpy, seeds: range, plan: Plan, tried: Tally) -> Counter[str]:
    """Play many schedules; return what was accepted and refused, by kind of message."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        tried.case()
        counts += play(cast, spy, seed, plan).counts
    print(f"\n{tried.cases} schedules, 0 violations: {dict(sorted(counts.items()))}")
    return counts


@pytest.mark.slow
def test_no_schedule_of_frames_makes_an_end_accept_what_it_must_not(cast: Cast, spy: NonceSpy) -> None:
    with tally("INV-4") as tried:
        counts = play_all(cast, spy, range(FRAME_SCHEDULES), FRAMES_PLAN, tried)
    # Each accepts and each refuses, again and again: a schedule in which nothing gets through would prove nothing.
    seen = [counts[f"{what} {end}"] for what in ("request", "answer") for end in ("accepted", "refused")]
    assert min(seen) > FRAME_SCHEDULES


@pytest.mark.slow
def test_no_schedule_of_handshakes_makes_a_session_out_of_what_was_altered(cast: Cast, spy: NonceSpy) -> None:
    with tally("INV-4") as tried:
        counts = play_all(cast, spy, range(HANDSHAKE_SCHEDULES), HANDSHAKES_PLAN, tried)
    messages = ("hello", "server hello", "open", "finished")
    assert all(counts[f"{what} {end}"] for what in messages for end in ("accepted", "refused"))


class HostileHost(RuleBasedStateMachine):
    """The same moves, chosen and shrunk by hypothesis; every schedule starts with a session that is open already."""

    cast: Cast
    spy: NonceSpy
    tried: Tally

    def __init__(self) -> None:
        super().__init__()
        self.tried.case()
        self.spy.start()
        self.world = World(self.cast, established=1)

    @rule(data=st.data())
    def a_message_of_a_handshake_is_sent_or_delivered(self, data: st.DataObject) -> None:
        self._move(data, HANDSHAKE)

    @rule(data=st.data())
    def a_frame_is_sealed_sent_or_delivered(self, data: st.DataObject) -> None:
        self._move(data, FRAMES)

    @rule(data=st.data())
    def an_answer_is_delivered(self, data: st.DataObject) -> None:
        self._move(data, (World.deliver_request, World.answer, World.deliver_answer))

    def _move(self, data: st.DataObject, moves: tuple[Action, ...]) -> None:
        data.draw(st.sampled_from(moves))(self.world, lambda limit: data.draw(st.integers(0, limit - 1)))

    @invariant()
    def no_request_ran_twice_and_no_answer_is_more_than_a_prefix(self) -> None:
        for sent in self.world.sent:
            assert sent.executions <= 1
            assert sent.opened == [text for text, _, _ in sent.sealed[: len(sent.opened)]]

    def teardown(self) -> None:
        self.world.settle()


def test_hypothesis_finds_no_schedule_that_breaks_a_property(cast: Cast, spy: NonceSpy) -> None:
    with tally("INV-4") as tried:
        machine = type("Machine", (HostileHost,), {"cast": cast, "spy": spy, "tried": tried})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
    assert tried.cases >= EXAMPLES


@pytest.mark.parametrize("bug", FRAME_BUGS)
def test_a_mistake_in_the_channel_is_noticed(
    cast: Cast, spy: NonceSpy, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FRAME_BUGS[bug](monkeypatch)
    with pytest.raises(Violation):
        play_all(cast, spy, range(400), FRAMES_PLAN, Tally(0))


@pytest.mark.parametrize("bug", HANDSHAKE_BUGS)
def test_a_mistake_in_the_handshake_is_noticed(
    cast: Cast, spy: NonceSpy, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    HANDSHAKE_BUGS[bug](monkeypatch)
    with pytest.raises(Violation):
        play_all(cast, spy, range(400), HANDSHAKES_PLAN, Tally(0))
