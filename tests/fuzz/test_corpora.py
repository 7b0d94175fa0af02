"""Every parser against its corpus and seeded mutations of it, without a fuzzer (INV-10); `make fuzz` goes further."""

import random
from pathlib import Path

import pytest

from fuzz.mutation import mutate
from fuzz.nasty import inputs
from fuzz.target import CORPUS, Target
from fuzz.targets import TARGETS
from tests.support.invariants import tally

MUTATIONS = 500


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return request.param


def corpus(target: Target) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.corpus()}


def test_every_committed_input_ends_in_a_value_or_the_one_error(target: Target) -> None:
    with tally("INV-10") as tried:
        for name, raw in corpus(target).items():
            tried.case()
            accepted = target.accepts(raw)
            if name in target.seeds():
                assert accepted != name.startswith("bad"), name


def test_every_seed_that_our_code_makes_today_is_judged_as_its_name_says(target: Target) -> None:
    for name, raw in target.seeds().items():
        assert target.accepts(raw) != name.startswith("bad"), name


def test_mutated_inputs_end_in_a_value_or_the_one_error(target: Target) -> None:
    inputs = list(corpus(target).values())
    choices = random.Random(target.name)
    with tally("INV-10") as tried:
        for number in range(MUTATIONS):
            tried.case()
            raw = mutate(inputs[number % len(inputs)], inputs, choices)
            target.accepts(raw)


@pytest.mark.slow
def test_the_costliest_inputs_end_in_a_value_or_the_one_error(target: Target) -> None:
    with tally("INV-10") as tried:
        for description, raw in inputs(target.name).items():
            tried.case()
            assert len(raw) <= target.cap, description
            target.accepts(raw)


def test_what_is_larger_than_the_cap_is_refused(target: Target) -> None:
    raw = corpus(target)[min(target.seeds())]
    assert not target.accepts(raw + b" " * (target.cap + 1 - len(raw)))


def test_every_corpus_belongs_to_a_target_and_is_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in Path(CORPUS).rglob("*") if path.is_file()) < 200_000
