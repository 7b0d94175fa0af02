"""Enclaves' sums become metrics of the host: once each, whatever is repeated, restarted or malformed."""

from collections import Counter

import grpc
import pytest

from ephemeral import rpc
from ephemeral.errors import InvalidRequest
from ephemeral.wire import (
    CounterReport,
    CounterServiceStub,
    OutcomeCount,
    RequestOutcome,
    add_CounterServiceServicer_to_server,
)
from ephemeral_host.counters import CounterService
from tests.support.host_service import served

ANSWERED = RequestOutcome.REQUEST_OUTCOME_ANSWERED


class Host:
    """The service, its clock, and what it added."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sums: Counter[str] = Counter()
        self.service = CounterService(self.add, clock=lambda: self.now)

    def add(self, name: str, more: int, attributes: dict[str, str]) -> None:
        self.sums["/".join([name, *attributes.values()])] += more

    def take(self, report: CounterReport) -> None:
        with served(self.service, add_CounterServiceServicer_to_server) as channel:
            CounterServiceStub(channel).Report(report)


def report(boot: bytes, answered: int, tokens: int, sessions: int = 1) -> CounterReport:
    requests = [OutcomeCount(outcome=ANSWERED, count=answered)]
    return CounterReport(
        boot_id=boot * 16, interval_seconds=60, requests=requests, tokens=tokens, sessions=sessions, models=2
    )


def test_reports_of_several_boots_add_up_and_one_that_comes_twice_counts_once() -> None:
    host = Host()
    for taken in (report(b"a", 16, 4096), report(b"a", 48, 8192), report(b"a", 48, 8192), report(b"b", 16, 4096)):
        host.take(taken)
    assert dict(host.sums) == {"requests/answered": 64, "tokens": 12_288}
    assert (host.service.enclaves(), host.service.sessions(), host.service.models()) == (2, 2, 4)


def test_enclave_that_is_silent_for_long_is_gone_but_what_it_counted_stays() -> None:
    host = Host()
    host.take(report(b"a", 16, 4096, sessions=7))
    host.now += 181
    host.take(report(b"b", 16, 4096, sessions=1))
    assert (host.service.enclaves(), host.service.sessions()) == (1, 1)
    assert host.sums["requests/answered"] == 32


@pytest.mark.parametrize(
    "bad",
    [
        CounterReport(boot_id=b"short", interval_seconds=60),
        CounterReport(boot_id=b"a" * 16),
        CounterReport(boot_id=b"a" * 16, interval_seconds=60, requests=[OutcomeCount(count=1)]),
        CounterReport(boot_id=b"a" * 16, interval_seconds=60, requests=[OutcomeCount(outcome=99, count=1)]),  # type: ignore[arg-type]
        CounterReport(boot_id=b"a" * 16, interval_seconds=60, requests=[OutcomeCount(outcome=ANSWERED)] * 2),
    ],
    ids=["boot", "interval", "no outcome", "unknown outcome", "outcome twice"],
)
def test_malformed_report_is_refused_and_counts_nothing(bad: CounterReport) -> None:
    host = Host()
    with pytest.raises(grpc.RpcError) as caught:
        host.take(bad)
    assert isinstance(rpc.error_from(caught.value), InvalidRequest)
    assert (dict(host.sums), host.service.enclaves()) == ({}, 0)
