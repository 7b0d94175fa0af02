"""Prometheus reads the host's counters and the enclaves' sums, under documented names, with no name of a caller."""

import re
import socket
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ephemeral import rpc
from ephemeral.transport import Address
from ephemeral.wire import (
    BootConfigServiceStub,
    BootRequest,
    CounterReport,
    CounterServiceStub,
    OutcomeCount,
    RequestOutcome,
)
from tests.support.host_process import running, start

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
REPORT = CounterReport(
    boot_id=bytes(16),
    interval_seconds=60,
    requests=[OutcomeCount(outcome=RequestOutcome.REQUEST_OUTCOME_ANSWERED, count=32)],
    texts=64,
    tokens=4096,
    tokenize_seconds=1,
    queue_seconds=2,
    compute_seconds=3,
    sessions=5,
    models=2,
)


def scraped(address: Address) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://{address.host}:{address.port}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_the_host_shows_its_counters_and_its_enclaves_and_every_name_is_documented() -> None:
    with running(METRICS="tcp://127.0.0.1:0") as host:
        with rpc.open_channel(host.services) as channel:
            BootConfigServiceStub(channel).GetBootConfig(BootRequest(version=1), timeout=60)
            CounterServiceStub(channel).Report(REPORT, timeout=60)
        shown = scraped(host.bound["metrics"])
    assert shown["ephemeralml_enclave_requests_total", "answered"] == 32
    assert shown["ephemeralml_enclave_tokens_total",] == 4096
    assert shown["ephemeralml_enclave_sessions",] == 5
    assert shown["ephemeralml_enclave_models",] == 2
    assert shown["ephemeralml_enclaves",] == 1
    assert shown["ephemeralml_enclave_compute_seconds_total",] == 3
    method = "/ephemeralml.v1.BootConfigService/GetBootConfig"
    assert shown["ephemeralml_services_calls_total", method] == 1
    names = {name for name, *_ in shown}
    assert all(name.startswith("ephemeralml_") for name in names)
    assert sorted(name for name in names if f"`{name}`" not in OPERATIONS) == []
    documented = set(re.findall(r"^\| `(ephemeralml_\w+)`", OPERATIONS, re.MULTILINE))
    assert names <= documented


def test_metrics_address_that_is_taken_is_an_address_that_cannot_be_bound() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with start(METRICS=f"tcp://127.0.0.1:{taken.getsockname()[1]}") as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "cannot listen on" in err
