"""What is remembered of signed policies: an older one does not come back, whatever happens to the process."""

import fcntl
import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ephemeral.errors import PolicyError
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import VerifiedPolicy, verify_policy
from ephemeralml.policy_state import PolicyState
from tests.support.signed_policy import SIGNER, policy_text, signed

EXPIRES = datetime(2999, 1, 1, tzinfo=UTC)


def verified(serial: int, *, name: str = "production", key: SigningKey = SIGNER, extra: str = "") -> VerifiedPolicy:
    raw = signed(policy_text(serial, name=name, expires=EXPIRES, extra=extra), key)
    return verify_policy(raw, key.verifying_key, now=datetime.now(UTC))


def refusal(path: Path, policy: VerifiedPolicy, name: str | None = None) -> str:
    with pytest.raises(PolicyError) as refused:
        PolicyState(path).accept(policy, name=name)
    assert refused.value.detail
    return refused.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "policies.json"


def test_higher_serials_and_the_same_policy_are_accepted(path: Path) -> None:
    for serial in (3, 3, 4, 900, 900):
        PolicyState(path).accept(verified(serial))
    (row,) = json.loads(path.read_text())["policies"]
    assert row["serial"] == 900


def test_a_lower_serial_is_a_rollback_even_for_another_process(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    assert refusal(path, verified(4)) == "POLICY_ROLLBACK"
    assert refusal(path, verified(1)) == "POLICY_ROLLBACK"
    PolicyState(path).accept(verified(5))


def test_the_same_serial_with_another_text_is_equivocation(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    assert refusal(path, verified(5, extra="# changed")) == "POLICY_EQUIVOCATION"


def test_another_policy_of_the_same_signer_does_not_stand_in(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    staging = verified(9, name="staging")
    assert refusal(path, staging) == "POLICY_OTHER_NAME"
    assert refusal(path, staging, "production") == "POLICY_OTHER_NAME"
    PolicyState(path).accept(staging, name="staging")
    assert refusal(path, verified(4), "production") == "POLICY_ROLLBACK"
    assert refusal(path, verified(8, name="staging"), "staging") == "POLICY_ROLLBACK"


def test_signers_do_not_share_serials(path: Path) -> None:
    other = SigningKey.from_seed(b"other".ljust(32))
    PolicyState(path).accept(verified(5))
    PolicyState(path).accept(verified(1, key=other))
    assert refusal(path, verified(4)) == "POLICY_ROLLBACK"


def test_a_refused_policy_is_not_remembered(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    before = path.read_bytes()
    refusal(path, verified(4))
    refusal(path, verified(9, name="staging"))
    assert path.read_bytes() == before


def test_only_the_owner_can_read_or_write_the_state(path: Path) -> None:
    old = os.umask(0)
    try:
        PolicyState(path).accept(verified(5))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {entry.name for entry in path.parent.iterdir()} == {"policies.json", "policies.json.lock"}


def test_a_state_that_others_can_write_is_not_believed(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    path.chmod(0o620)
    assert refusal(path, verified(6)) == "POLICY_STATE"


ROW = {"signer": "ab" * 32, "name": "n", "serial": 1, "sha256": "cd" * 32}
BROKEN = {
    "empty": b"",
    "zeros": bytes(512),
    "not JSON": b"policies",
    "not UTF-8": b'{"version": 1, "policies": ["\xff"]}',
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "another version": json.dumps({"version": 2, "policies": []}).encode(),
    "no policies": json.dumps({"version": 1}).encode(),
    "an unknown key": json.dumps({"version": 1, "policies": [], "trust": "all"}).encode(),
    "rows of text": json.dumps({"version": 1, "policies": ["x"]}).encode(),
    "policies a number": json.dumps({"version": 1, "policies": 1}).encode(),
    **{
        f"row with {field} {value!r}": json.dumps({"version": 1, "policies": [{**ROW, field: value}]}).encode()
        for field, value in [
            ("serial", 0), ("serial", "1"), ("serial", True), ("serial", 1.0), ("serial", None),
            ("signer", "ab"), ("signer", "zz" * 32), ("sha256", 7), ("name", None), ("more", 1),
        ]
    },
    "a row without serial": json.dumps({"version": 1, "policies": [{**ROW, "serial": None}]}).replace(
        '"serial": null, ', ""
    ).encode(),
    "a policy twice": json.dumps({"version": 1, "policies": [ROW, {**ROW, "serial": 2}]}).encode(),
    "huge": b" " * (1024 * 1024 + 1),
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_state_that_cannot_be_read_is_a_refusal_that_says_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PolicyError) as refused:
        PolicyState(path).accept(verified(5))
    assert refused.value.code == "POLICY_STATE"
    assert "delete the file" in refused.value.detail
    assert path.read_bytes() == content


def test_a_policy_that_cannot_be_remembered_is_not_accepted(path: Path) -> None:
    path.parent.write_text("a file where a folder should be")
    assert refusal(path, verified(5)) == "POLICY_STATE"


def test_a_folder_in_the_states_place_is_a_refusal(path: Path) -> None:
    path.mkdir(parents=True)
    assert refusal(path, verified(5)) == "POLICY_STATE"


def _accept(path: Path, serial: int) -> bool:
    try:
        PolicyState(path).accept(verified(serial))
    except PolicyError:
        return False
    return True


def test_processes_that_accept_at_once_leave_the_highest_serial(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(_accept, [(path, serial) for serial in (3, 9, 1, 7, 4, 8, 2, 6)], chunksize=1)
    (row,) = json.loads(path.read_text())["policies"]
    assert row["serial"] == 9


def test_what_another_process_accepts_meanwhile_counts(path: Path) -> None:
    PolicyState(path).accept(verified(5))
    newer = path.read_text().replace('"serial": 5', '"serial": 9')
    with ThreadPoolExecutor(1) as pool, path.with_name("policies.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        late = pool.submit(PolicyState(path).accept, verified(6))
        assert not wait([late], timeout=0.5).done  # it waits for whoever holds the lock
        path.write_text(newer)
        fcntl.flock(lock, fcntl.LOCK_UN)
        with pytest.raises(PolicyError) as refused:
            late.result(30)
    assert refused.value.code == "POLICY_ROLLBACK"
