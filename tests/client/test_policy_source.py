"""A live client's trust: what a file says now, the last good word of it otherwise, and nothing after its expiry."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ephemeral.errors import MeasurementMismatch, PolicyError, UntrustedChain
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import AcceptedModel, Measurements, RootOfTrust, TrustPolicy
from ephemeralml.policy_source import PolicyFile, SignedPolicyFile, refuse_unaccepted, source_of
from tests.support.peers import BUILD, MODELS, Enclave, open_session
from tests.support.signed_policy import FAR, SIGNER, policy_text, replace, signed

ALWAYS = timedelta(0)
RARELY = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trust"
    path.write_text(policy_text(1, pcr="a"))
    return path


@pytest.fixture
def signed_file(tmp_path: Path) -> Path:
    path = tmp_path / "trust.signed"
    path.write_bytes(signed(policy_text(5, pcr="a")))
    return path


def watch(path: Path, check_every: timedelta = ALWAYS, name: str | None = None) -> SignedPolicyFile:
    return SignedPolicyFile(path, SIGNER.verifying_key, state=path.parent / "state", name=name, check_every=check_every)


def label(policy: TrustPolicy) -> str:
    return policy.measurements[0].label


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_fixed_policy_stays_what_it_is() -> None:
    policy = TrustPolicy.parse(policy_text())
    source = source_of(policy)
    assert source.current(now()) is source.latest(now()) is policy


class BeingWritten(PolicyFile):
    """A file that somebody writes while it is read: each reading finds another content."""

    readings: Iterator[str] = iter(())

    def _read(self) -> bytes:
        found = next(self.readings, None)
        return super()._read() if found is None else found.encode()


class TestPlainFile:
    def test_a_change_is_taken_up(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        caplog.set_level(logging.INFO)
        replace(file, policy_text(2, pcr="b"))
        assert label(source.current(now())) == "build b"
        assert "build b" in caplog.text
        assert not warnings(caplog)

    def test_an_open_session_looks_no_more_often_than_asked(self, file: Path) -> None:
        source = PolicyFile(file, check_every=RARELY)
        replace(file, policy_text(2, pcr="b"))
        assert label(source.current(now())) == "build a"
        assert label(source.latest(now())) == "build b"

    def test_a_change_with_the_same_size_and_time_is_seen(self, file: Path) -> None:
        source, before = PolicyFile(file, check_every=ALWAYS), file.stat()
        file.write_text(file.read_text().replace("build a", "build c"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert label(source.current(now())) == "build c"

    @pytest.mark.parametrize(
        "bad",
        ["", "version = ", "version = 1", policy_text(2, pcr="0")],
        ids=["emptied", "half a line", "no build", "a zero PCR0"],
    )
    def test_a_file_that_turns_bad_changes_nothing_and_warns_once(
        self, file: Path, bad: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        policy = source.current(now())
        replace(file, bad)
        for _ in range(3):
            assert source.latest(now()) is source.current(now()) is policy
        assert len(warnings(caplog)) == 1
        assert "POLICY_" in caplog.text
        replace(file, policy_text(2, pcr="b"))
        assert label(source.current(now())) == "build b"

    def test_a_file_that_is_gone_changes_nothing(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        policy = source.current(now())
        file.unlink()
        assert source.latest(now()) is policy
        assert len(warnings(caplog)) == 1

    def test_the_last_good_policy_still_expires(self, file: Path) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        replace(file, "broken")
        late = now() + 2 * FAR
        with pytest.raises(PolicyError) as refused:
            source.latest(late).refuse_expired(late)
        assert refused.value.code == "POLICY_EXPIRED"

    def test_an_expired_file_is_refused_at_once_and_not_taken_up_later(self, file: Path) -> None:
        expired = policy_text(2, pcr="b", expires=now() - FAR)
        source = PolicyFile(file, check_every=ALWAYS)
        replace(file, expired)
        assert label(source.current(now())) == "build a"
        with pytest.raises(PolicyError) as refused:
            PolicyFile(file)
        assert refused.value.code == "POLICY_EXPIRED"

    def test_half_a_file_is_not_taken_for_a_weaker_policy(self, file: Path) -> None:
        whole = policy_text(2, pcr="b") + '[[models]]\nmodel_id = "m"\nmin_version = 3\n'
        source = BeingWritten(file, check_every=ALWAYS)
        source.readings = iter([whole.partition("[[models]]")[0], whole, whole])
        assert source.latest(now()).models == (AcceptedModel("m", 3),)

    def test_a_file_that_never_settles_is_not_taken_up(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = BeingWritten(file, check_every=ALWAYS)
        source.readings = (policy_text(serial, pcr="b") for serial in range(2, 100))
        assert label(source.latest(now())) == "build a"
        assert "being written" in caplog.text

    def test_a_bad_file_to_begin_with_is_refused(self, file: Path, signed_file: Path) -> None:
        replace(file, "version = 1")
        for path, code in ((file, "POLICY_EMPTY"), (file.with_name("no"), "POLICY_UNREADABLE"),
                           (signed_file, "POLICY_SIGNED")):  # fmt: skip
            with pytest.raises(PolicyError) as refused:
                PolicyFile(path)
            assert refused.value.code == code

    def test_threads_are_not_held_up_by_the_one_that_looks(self, file: Path) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        with source._lock:
            assert label(source.current(now())) == "build a"

    def test_threads_share_one_source_while_the_file_changes(self, file: Path) -> None:
        source = PolicyFile(file, check_every=ALWAYS)
        with ThreadPoolExecutor(8) as pool:
            seen = [pool.submit(lambda: label(source.current(now()))) for _ in range(400)]
            for serial in range(2, 12):
                replace(file, policy_text(serial, pcr="ab"[serial % 2]))
        assert {done.result() for done in seen} <= {"build a", "build b"}
        assert label(source.latest(now())) == "build b"


class TestSignedFile:
    def test_a_higher_serial_is_taken_up(self, signed_file: Path) -> None:
        source = watch(signed_file)
        replace(signed_file, signed(policy_text(6, pcr="b")))
        assert label(source.current(now())) == "build b"

    @pytest.mark.parametrize("forget", [False, True], ids=["remembered", "state deleted meanwhile"])
    def test_a_rollback_is_not_taken_up(
        self, signed_file: Path, caplog: pytest.LogCaptureFixture, *, forget: bool
    ) -> None:
        source = watch(signed_file)
        if forget:
            (signed_file.parent / "state").unlink()
        replace(signed_file, signed(policy_text(4, pcr="b")))
        assert label(source.latest(now())) == "build a"
        assert "POLICY_ROLLBACK" in caplog.text

    def test_a_rollback_is_refused_by_the_next_process(self, signed_file: Path) -> None:
        watch(signed_file)
        replace(signed_file, signed(policy_text(4, pcr="b")))
        with pytest.raises(PolicyError) as refused:
            watch(signed_file)
        assert refused.value.code == "POLICY_ROLLBACK"

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (signed(policy_text(6, pcr="b"), SigningKey.from_seed(bytes(32))), "POLICY_FORGED"),
            (policy_text(6, pcr="b").encode(), "POLICY_MALFORMED"),
            (signed(policy_text(6, name="staging", pcr="b")), "POLICY_OTHER_NAME"),
            (signed(policy_text(5, pcr="b")), "POLICY_EQUIVOCATION"),
            (
                signed(policy_text(6, pcr="b", expires=now() - FAR), at=now() - 2 * FAR),
                "POLICY_EXPIRED",
            ),
        ],
    )
    def test_what_the_signer_did_not_mean_here_and_now_is_not_taken_up(
        self, signed_file: Path, content: bytes, code: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = watch(signed_file)
        replace(signed_file, content)
        assert label(source.latest(now())) == "build a"
        assert code in caplog.text

    def test_a_state_that_breaks_holds_the_last_good_policy_until_it_is_mended(
        self, signed_file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        source, state = watch(signed_file), signed_file.parent / "state"
        good = state.read_bytes()
        state.write_bytes(b"broken")
        replace(signed_file, signed(policy_text(6, pcr="b")))
        assert label(source.latest(now())) == "build a"
        assert "POLICY_STATE" in caplog.text
        state.write_bytes(good)
        assert label(source.latest(now())) == "build b"

    def test_a_named_policy_is_the_only_one_accepted(self, signed_file: Path) -> None:
        watch(signed_file, name="production")
        with pytest.raises(PolicyError) as refused:
            watch(signed_file, name="staging")
        assert refused.value.code == "POLICY_OTHER_NAME"


class TestOpenSession:
    def refusal(self, policy: TrustPolicy, *, models: bool = True) -> str:
        session, _ = open_session(self.enclave)
        with pytest.raises((MeasurementMismatch, UntrustedChain, PolicyError)) as refused:
            refuse_unaccepted(session, policy, now(), models=models)
        return refused.value.code

    @pytest.fixture(autouse=True)
    def peers(self) -> None:
        self.enclave = Enclave()
        (self.root,) = self.enclave.policy().roots

    def test_an_enclave_that_is_still_accepted_stays(self) -> None:
        session, _ = open_session(self.enclave)
        other = Measurements(b"\x09" * 48, b"\x02" * 48, b"\x03" * 48, label="other")
        renamed = RootOfTrust("renamed", self.root.sha256, evaluation=True)
        model = AcceptedModel(MODELS[0].model_id)
        strict = TrustPolicy((renamed,), (other, BUILD), (model,), timedelta(seconds=1))
        refuse_unaccepted(session, strict, now() + timedelta(minutes=30), models=True)

    def test_a_revoked_build_root_model_or_policy_ends_it(self) -> None:
        other = Measurements(b"\x09" * 48, b"\x02" * 48, b"\x03" * 48, label="other")
        past = Measurements(*BUILD.pinned.values(), label="past", not_after=now() - FAR)
        strange = RootOfTrust("strange", b"\x01" * 32, evaluation=True)
        assert self.refusal(TrustPolicy((self.root,), (other,))) == "MEASUREMENT_MISMATCH"
        assert self.refusal(TrustPolicy((self.root,), (past,))) == "BUILD_NO_LONGER_ACCEPTED"
        assert self.refusal(TrustPolicy((strange,), (BUILD,))) == "ROOT_NOT_PINNED"
        assert self.refusal(TrustPolicy((self.root,), (BUILD,), not_after=now() - FAR)) == "POLICY_EXPIRED"
        newer = AcceptedModel(MODELS[0].model_id, min_version=2)
        assert self.refusal(TrustPolicy((self.root,), (BUILD,), (newer,))) == "MODEL_ROLLBACK"

    def test_models_count_when_the_policy_is_new(self) -> None:
        session, _ = open_session(self.enclave)
        policy = TrustPolicy((self.root,), (BUILD,), (AcceptedModel("another"),))
        refuse_unaccepted(session, policy, now(), models=False)
        assert self.refusal(policy) == "MODEL_NOT_ACCEPTED"
