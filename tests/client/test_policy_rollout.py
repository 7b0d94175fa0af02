"""A rollout, seen by a live client: it leaves a revoked build for an accepted one, and fails nothing on its way."""

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.trusted.policy import Measurements, RootOfTrust, TrustPolicy
from ephemeral.wire import CloseRequest
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeralml import Client, PolicyFile
from ephemeralml.deadline import Deadline
from tests.support.handshake_server import relayed
from tests.support.peers import Enclave
from tests.support.signed_policy import replace

OLD = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="old")
NEW = Measurements(b"\x04" * 48, b"\x05" * 48, b"\x06" * 48, label="new")
STRANGE = dataclasses.replace(NEW, pcr0=b"\x07" * 48, label="strange")
ALWAYS = timedelta(0)


@pytest.fixture(scope="module")
def enclaves() -> dict[str, Enclave]:
    return {build.label: Enclave(SimulatedNsm(build.pinned)) for build in (OLD, NEW)}


@pytest.fixture
def address(enclaves: dict[str, Enclave]) -> Iterator[str]:
    with relayed(*enclaves.values()) as address:
        yield address


class Rules:
    """The policy file of the test."""

    def __init__(self, path: Path, enclaves: dict[str, Enclave]) -> None:
        self.path = path
        self._roots = [
            RootOfTrust(label, enclave.nsm.root_sha256, evaluation=True) for label, enclave in enclaves.items()
        ]

    def accept(self, *builds: Measurements, top: str = "") -> None:
        tables = [
            f'[[roots]]\nname = "{root.name}"\nsha256 = "{root.sha256.hex()}"\nevaluation = true'
            for root in self._roots
        ]
        for build in builds:
            pcrs = [f'pcr{index} = "{value.hex()}"' for index, value in build.pinned.items()]
            tables.append("\n".join(["[[measurements]]", f'label = "{build.label}"', *pcrs]))
        replace(self.path, "\n".join(["version = 1", top, *tables]))


@pytest.fixture
def rules(tmp_path: Path, enclaves: dict[str, Enclave]) -> Rules:
    return Rules(tmp_path / "trust.toml", enclaves)


@pytest.fixture
def client(address: str, rules: Rules) -> Iterator[Client]:
    rules.accept(OLD)
    # The old one: a relay without connections takes the first.
    with Client.connect(address, trust=PolicyFile(rules.path, check_every=ALWAYS)) as client:
        yield client


def test_a_build_that_is_added_changes_nothing_for_an_open_session(client: Client, rules: Rules) -> None:
    session = client._current()
    rules.accept(OLD, NEW)
    assert client._current() is session


def test_a_revoked_build_is_left_for_the_new_one_behind_the_same_address(client: Client, rules: Rules) -> None:
    assert client.enclave.measurements.label == "old"
    rules.accept(OLD, NEW)
    assert client.enclave.measurements.label == "old"
    rules.accept(NEW)
    assert client.enclave.measurements.label == "new"


def test_what_is_under_way_to_the_revoked_build_ends_there(client: Client, rules: Rules) -> None:
    with client._in_use(Deadline(20)) as live:
        rules.accept(NEW)
        assert client.enclave.measurements.label == "new"
        live.connection.sessions.Close(CloseRequest(), timeout=10)
    with pytest.raises(ValueError, match="closed channel"):
        live.connection.sessions.Close(CloseRequest(), timeout=10)


def test_with_no_accepted_build_left_the_next_request_is_refused_until_there_is_one(
    client: Client, rules: Rules
) -> None:
    rules.accept(STRANGE)
    for _ in range(3):
        with pytest.raises(MeasurementMismatch):
            _ = client.enclave
    rules.accept(OLD, NEW)
    assert client.enclave.measurements.label in {"old", "new"}


def test_a_connection_to_a_refused_enclave_is_not_used_again(client: Client, rules: Rules) -> None:
    rules.accept(STRANGE)
    with pytest.raises(MeasurementMismatch):  # the old enclave is left, and the new one refused
        _ = client.enclave
    rules.accept(OLD)
    for _ in range(10):  # each new connection leads to one of the two, as the relay chooses
        with suppress(MeasurementMismatch):
            assert client.enclave.measurements.label == "old"
            return
    pytest.fail("the client stays on the connection to the refused enclave")


def test_an_expired_policy_ends_the_session_and_opens_no_other(client: Client, rules: Rules) -> None:
    policy = client.policy
    client._source._policy = dataclasses.replace(policy, not_after=client.enclave.document.timestamp - ALWAYS)
    with pytest.raises(PolicyError) as refused:
        _ = client.enclave
    assert refused.value.code == "POLICY_EXPIRED"
    rules.accept(OLD, NEW, top="not_after = 2999-01-01T00:00:00Z")
    assert client.enclave.measurements.label in {"old", "new"}


def test_under_an_expired_policy_nothing_is_sent_at_all(rules: Rules) -> None:
    rules.accept(OLD)
    expired = dataclasses.replace(TrustPolicy.load(rules.path), not_after=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(PolicyError) as refused:
        Client.connect("tcp://127.0.0.1:1", trust=expired)
    assert refused.value.code == "POLICY_EXPIRED"
