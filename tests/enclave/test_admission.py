"""Admission: when to come again."""

import pytest

from ephemeral.errors import Overloaded
from ephemeral.rpc import status
from ephemeral_enclave.admission import Admission


def refusal(admission: Admission) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        admission.admit("late", 1, 1000)
    return caught.value


def full() -> Admission:
    admission = Admission(64, most_tokens=4000)
    for session in range(4):
        admission.admit(session, 1, 1000)
    return admission


def test_retry_after_is_when_the_queue_will_have_drained() -> None:
    admission = full()
    for _ in range(100):
        admission.computed(500, 0.5)
    assert refusal(admission).retry_after == pytest.approx(4.0, rel=0.01)


def test_small_batches_of_quiet_hours_do_not_frighten_callers_off() -> None:
    admission = full()
    for _ in range(100):
        admission.computed(500, 0.1)
    for _ in range(5):
        admission.computed(4, 0.005)
    assert refusal(admission).retry_after < 1.0


def test_batches_that_fail_at_once_do_not_promise_a_place_at_once() -> None:
    admission = full()
    for _ in range(100):
        admission.computed(500, 0.5)
        admission.computed(2, 1e-7)
    assert refusal(admission).retry_after > 3.0


def test_retry_after_travels_in_milliseconds_and_within_bounds() -> None:
    admission = full()
    for _ in range(100):
        admission.computed(1, 10.0)
    assert dict(status.trailers_of(refusal(admission)))[status.RETRY_AFTER_KEY] == "30000"
    for _ in range(200):
        admission.computed(10**6, 0.001)
    assert dict(status.trailers_of(refusal(admission)))[status.RETRY_AFTER_KEY] == "50"
