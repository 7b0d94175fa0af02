"""Retries end with the caller's time; a breaker spares a service that keeps failing."""

from collections import Counter
from datetime import timedelta

import pytest

from ephemeral.errors import KmsDenied, KmsUnavailable
from ephemeral_host.resilience import Backend, CircuitBreaker, RetryPolicy

MINUTE = timedelta(minutes=1)
AT_ONCE = RetryPolicy(attempts=4, first_pause=timedelta(microseconds=1), longest_pause=timedelta(microseconds=2))


class Service:
    """Fails `failures` times, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.asked = 0
        self._failures = failures
        self._error = error

    def ask(self) -> str:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return "answer"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_service_that_recovers_answers_in_the_end() -> None:
    outcomes: Counter[str] = Counter()
    backend = Backend("KMS", KmsUnavailable, policy=AT_ONCE, observe=lambda _name, event: outcomes.update([event]))
    service = Service(3, KmsUnavailable("down"))
    assert backend.call(service.ask, MINUTE) == "answer"
    assert (service.asked, outcomes) == (4, Counter(retried=3, answered=1))


def test_attempts_are_bounded_and_the_last_error_is_the_answer() -> None:
    service = Service(99, KmsUnavailable("down", code="KMS_THROTTLED"))
    with pytest.raises(KmsUnavailable) as caught:
        Backend("KMS", KmsUnavailable, policy=AT_ONCE).call(service.ask, MINUTE)
    assert (service.asked, caught.value.code) == (4, "KMS_THROTTLED")


def test_a_refusal_is_never_asked_again() -> None:
    service = Service(99, KmsDenied("no"))
    with pytest.raises(KmsDenied):
        Backend("KMS", KmsUnavailable, policy=AT_ONCE).call(service.ask, MINUTE)
    assert service.asked == 1


def test_no_attempt_begins_when_the_callers_time_would_be_up() -> None:
    slow = RetryPolicy(attempts=9, first_pause=timedelta(hours=2), longest_pause=timedelta(hours=2))
    service = Service(99, KmsUnavailable("down"))
    with pytest.raises(KmsUnavailable):
        Backend("KMS", KmsUnavailable, policy=slow).call(service.ask, timedelta(0))
    assert service.asked == 1


def test_nothing_is_asked_again_for_a_caller_that_left() -> None:
    service = Service(99, KmsUnavailable("down"))
    with pytest.raises(KmsUnavailable):
        Backend("KMS", KmsUnavailable, policy=AT_ONCE).call(service.ask, MINUTE, wanted=lambda: False)
    assert service.asked == 1


def test_a_service_that_keeps_failing_is_left_alone_until_a_trial_succeeds() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=2, cool_down=timedelta(seconds=10), clock=clock)
    backend = Backend("KMS", KmsUnavailable, policy=RetryPolicy(attempts=1), breaker=breaker)
    service = Service(3, KmsUnavailable("down"))

    def code() -> str:
        try:
            return backend.call(service.ask, MINUTE)
        except KmsUnavailable as error:
            return error.code

    assert [code(), code(), code(), code()] == ["KMS_UNAVAILABLE"] * 2 + ["KMS_CIRCUIT_OPEN"] * 2
    clock.now = 10  # the trial fails, and the wait begins anew
    assert [code(), code()] == ["KMS_UNAVAILABLE", "KMS_CIRCUIT_OPEN"]
    assert service.asked == 3
    clock.now = 20
    assert [code(), code()] == ["answer", "answer"]


def test_only_one_trial_goes_out_while_the_breaker_is_open() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, cool_down=timedelta(seconds=10), clock=clock)
    breaker.failed()
    clock.now = 10
    assert [breaker.admit(), breaker.admit()] == [True, False]


def test_refusals_do_not_open_the_breaker() -> None:
    breaker = CircuitBreaker(failures=1)
    service = Service(5, KmsDenied("no"))
    for _ in range(3):
        with pytest.raises(KmsDenied):
            Backend("KMS", KmsUnavailable, breaker=breaker).call(service.ask, MINUTE)
    assert breaker.admit()
