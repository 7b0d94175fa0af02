"""What the host is told of requests are sums in steps: neither one request nor its length shows in them."""

import asyncio

import pytest

from ephemeral.errors import FrameRejected, Overloaded, SessionUnknown
from ephemeral.wire import CounterReport, EmbedResult, InferenceResult, OutcomeCount, RequestOutcome, Timings
from ephemeral_enclave.counters import REQUESTS_STEP, TEXTS_STEP, TOKENS_STEP, Counters

NAMES = {name.removeprefix("REQUEST_OUTCOME_"): value for name, value in RequestOutcome.items()}


def answer(texts: int, tokens: int, microseconds: int = 0) -> InferenceResult:
    timings = Timings(tokenize_us=microseconds, queue_us=2 * microseconds, compute_us=3 * microseconds)
    return InferenceResult(embed=EmbedResult(count=texts, tokens=tokens), timings=timings)


def told(counters: Counters) -> CounterReport:
    return counters.report(sessions=3, models=2, interval_seconds=60)


def count(report: CounterReport, outcome: str) -> int:
    return sum(int(entry.count) for entry in report.requests if entry.outcome == NAMES[outcome])


@pytest.mark.parametrize(("texts", "tokens"), [(1, 3), (1, 512), (TEXTS_STEP - 1, TOKENS_STEP - 1)])
def test_one_request_does_not_show_whatever_its_length(texts: int, tokens: int) -> None:
    counters = Counters()
    before = told(counters)
    counters.answered(answer(texts, tokens, 900))
    assert told(counters) == before


def test_sums_are_rounded_down_to_steps_and_seconds() -> None:
    counters = Counters()
    for _ in range(100):
        counters.answered(answer(3, 1000, 25_000))
    report = told(counters)
    assert (count(report, "ANSWERED"), report.texts, report.tokens) == (96, 256, 98_304)
    assert (report.tokenize_seconds, report.queue_seconds, report.compute_seconds) == (2, 5, 7)
    assert (report.sessions, report.models, report.interval_seconds) == (3, 2, 60)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded("x"), "OVERLOADED"),
        (SessionUnknown("x"), "SESSION_UNKNOWN"),
        (FrameRejected("x"), "FRAME_REJECTED"),
        (asyncio.CancelledError(), "ABANDONED"),
        (ZeroDivisionError(), "FAILED"),
    ],
)
def test_each_end_of_a_request_is_counted_once_and_passed_on(error: BaseException, outcome: str) -> None:
    counters = Counters()
    for _ in range(REQUESTS_STEP):
        with pytest.raises(type(error)), counters.request():
            raise error
    assert list(told(counters).requests) == [OutcomeCount(outcome=NAMES[outcome], count=REQUESTS_STEP)]


def test_a_refusal_and_a_description_are_one_outcome_since_why_travels_sealed() -> None:
    counters = Counters()
    for _ in range(REQUESTS_STEP):
        with counters.request():
            counters.uncomputed()
    assert count(told(counters), "UNCOMPUTED") == REQUESTS_STEP


def test_two_boots_have_two_names_and_reports_of_one_have_one() -> None:
    one, other = Counters(), Counters()
    assert told(one).boot_id == told(one).boot_id != told(other).boot_id
