"""A live client and its policy file, against every process the product has: reload, rollout, revocation, rollback."""

import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.trusted.policy import Measurements, TrustPolicy
from ephemeral_devstack.stack import Stack
from ephemeralml import Client, PolicyFile, SignedPolicyFile
from tests.support.hostile_relay import HostileRelay, hostile_relay
from tests.support.signed_policy import SIGNER, replace, signed

ALWAYS = timedelta(0)
NEXT = Measurements(b"\x04" * 48, b"\x05" * 48, b"\x06" * 48, label="next release")


def build_table(build: Measurements, **window: datetime) -> str:
    pcrs = [f'pcr{index} = "{value.hex()}"' for index, value in build.pinned.items()]
    times = [f"{name} = {time.isoformat()}" for name, time in window.items()]
    return "\n".join(["[[measurements]]", f'label = "{build.label}"', *pcrs, *times])


class Rules:
    """The policy file of the test: which builds it accepts, signed or plain."""

    def __init__(self, path: Path, trust: TrustPolicy) -> None:
        self.path = path
        self.running = trust.measurements[0]
        (root,) = trust.roots
        self._root = f'[[roots]]\nname = "{root.name}"\nsha256 = "{root.sha256.hex()}"\nevaluation = true'

    def text(self, *tables: str, serial: int = 1) -> str:
        top = f'version = 1\nname = "production"\nserial = {serial}\nnot_after = 2999-01-01T00:00:00Z'
        return "\n".join([top, self._root, *tables])

    def accept(self, *builds: Measurements, serial: int = 1) -> None:
        replace(self.path, self.text(*map(build_table, builds), serial=serial))

    def sign(self, *builds: Measurements, serial: int) -> None:
        replace(self.path, signed(self.text(*map(build_table, builds), serial=serial)))


@pytest.fixture
def rules(tmp_path: Path, trust: TrustPolicy) -> Rules:
    return Rules(tmp_path / "trust", trust)


@pytest.fixture
def relay(stack: Stack) -> Iterator[HostileRelay]:
    with hostile_relay(stack.address) as running:
        yield running


@pytest.fixture
def watching(relay: HostileRelay, rules: Rules) -> Iterator[Client]:
    rules.accept(rules.running)
    with Client.connect(relay.address, trust=PolicyFile(rules.path, check_every=ALWAYS)) as client:
        yield client


def test_policy_changes_under_traffic_fail_no_request(watching: Client, relay: HostileRelay, rules: Rules) -> None:
    enough, answers = threading.Event(), []

    def traffic() -> None:
        while not enough.is_set():
            answers.append(watching.embed(["x"]).receipt.claims.sequence_number)

    contents = [
        rules.text(build_table(rules.running)),
        rules.text(build_table(rules.running), build_table(NEXT)),
        rules.text(build_table(NEXT), build_table(rules.running), serial=2),
        "half a li",
        "",
    ]
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(traffic) for _ in range(4)]
        for content in itertools.islice(itertools.cycle(contents), 40):
            replace(rules.path, content)
            threading.Event().wait(0.05)
        enough.set()
        for done in running:
            done.result()
    assert len(answers) >= 40
    assert len(relay.opens) == 1  # never another session: the enclave was accepted all the time
    assert sorted(answers) == list(range(1, len(answers) + 1))


def test_both_builds_are_accepted_while_their_windows_overlap(watching: Client, rules: Rules) -> None:
    now = datetime.now(UTC)
    overlap = rules.text(
        build_table(rules.running, not_after=now + timedelta(hours=1)), build_table(NEXT, not_before=now)
    )
    replace(rules.path, overlap)
    assert watching.embed(["x"]).receipt.claims.sequence_number == 1
    replace(rules.path, overlap.replace((now + timedelta(hours=1)).isoformat(), now.isoformat()))
    with pytest.raises(MeasurementMismatch) as refused:
        watching.embed(["x"])
    assert refused.value.code == "BUILD_NO_LONGER_ACCEPTED"


def test_a_revoked_build_loses_its_session_and_is_sent_nothing(
    watching: Client, relay: HostileRelay, rules: Rules
) -> None:
    watching.embed(["x"])
    rules.accept(NEXT)
    for _ in range(3):
        with pytest.raises(MeasurementMismatch):
            watching.embed(["a text for an accepted build alone"])
    assert (len(relay.opens), len(relay.requests)) == (1, 1)
    rules.accept(rules.running)
    assert watching.embed(["x"]).receipt.claims.sequence_number == 1
    assert (len(relay.opens), len(relay.requests)) == (2, 2)


def test_a_request_under_way_survives_the_revocation_of_its_build(
    watching: Client, relay: HostileRelay, rules: Rules
) -> None:
    arrived, revoked = threading.Event(), threading.Event()

    def hold(answer: object) -> object:
        arrived.set()
        assert revoked.wait(30)
        return answer

    relay.on_answer = hold  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(watching.embed, ["x"])
        assert arrived.wait(30)
        rules.accept(NEXT)
        with pytest.raises(MeasurementMismatch):
            watching.embed(["x"])
        revoked.set()
        assert under_way.result(30).vectors.shape == (1, 384)


def test_a_rolled_back_signed_policy_changes_nothing_and_is_refused_by_the_next_client(
    stack: Stack, rules: Rules, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def watch() -> SignedPolicyFile:
        return SignedPolicyFile(rules.path, SIGNER.verifying_key, state=tmp_path / "state", check_every=ALWAYS)

    rules.sign(rules.running, serial=7)
    with Client.connect(stack.address, trust=watch()) as client:
        client.embed(["x"])
        rules.sign(rules.running, NEXT, serial=6)
        caplog.set_level(logging.WARNING)
        assert client.embed(["x"]).receipt.claims.sequence_number == 2
        assert client.policy.serial == 7
        assert "POLICY_ROLLBACK" in caplog.text
        with pytest.raises(PolicyError) as refused:
            watch()
        assert refused.value.code == "POLICY_ROLLBACK"
        rules.sign(rules.running, NEXT, serial=8)
        client.embed(["x"])
        assert client.policy.serial == 8
