"""Versions, expiry, publishers and rollout windows of a policy: a time that is past protects nobody any more."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.trusted.attestation import verify_archived_enclave, verify_enclave
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.policy import Measurements, TrustPolicy
from tests.support.minting import AT, NONCE, Mint

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="old", not_after=NOON + HOUR)
NEW = Measurements(b"\x04" * 48, b"\x05" * 48, b"\x06" * 48, label="new", not_before=NOON)
KEY = SigningKey.from_seed(b"publisher".ljust(32)).verifying_key
TEXT = f"""
version = 1
name = "production"
serial = 7
not_after = 2026-12-31T23:59:59Z
[[measurements]]
label = "old"
pcr0 = "{"01" * 48}"
pcr1 = "{"02" * 48}"
pcr2 = "{"03" * 48}"
not_before = 2026-06-01T00:00:00+02:00
not_after = 2026-07-01T00:00:00.5Z
[[publishers]]
name = "models team"
public_key = "{KEY.raw.hex()}"
"""


def refusal(text: str) -> str:
    with pytest.raises(PolicyError) as refused:
        TrustPolicy.parse(text)
    assert refused.value.detail
    return refused.value.code


def refused_build(policy: TrustPolicy, build: Measurements, now: datetime) -> str:
    with pytest.raises(MeasurementMismatch) as refused:
        policy.match(build.pinned, now)
    return refused.value.code


def test_version_expiry_windows_and_publishers_are_read() -> None:
    policy = TrustPolicy.parse(TEXT)
    (build,) = policy.measurements
    assert (policy.name, policy.serial) == ("production", 7)
    assert policy.not_after == datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert build.not_before == datetime(2026, 5, 31, 22, tzinfo=UTC)
    assert build.not_after == datetime(2026, 7, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert policy.publishers == (KEY,)


REFUSED = {
    "serial zero": (TEXT.replace("serial = 7", "serial = 0"), "POLICY_SERIAL"),
    "serial negative": (TEXT.replace("serial = 7", "serial = -7"), "POLICY_SERIAL"),
    "serial beyond what JSON keeps": (TEXT.replace("serial = 7", f"serial = {2**53}"), "POLICY_SERIAL"),
    "serial true": (TEXT.replace("serial = 7", "serial = true"), "POLICY_TYPE"),
    "serial a float": (TEXT.replace("serial = 7", "serial = 7.0"), "POLICY_TYPE"),
    "name of two lines": (TEXT.replace('"production"', '"a\\nb"'), "POLICY_NAME"),
    "name too long": (TEXT.replace("production", "p" * 257), "POLICY_NAME"),
    "expiry a date": (TEXT.replace("2026-12-31T23:59:59Z", "2026-12-31"), "POLICY_TYPE"),
    "expiry text": (TEXT.replace("2026-12-31T23:59:59Z", '"2026-12-31T23:59:59Z"'), "POLICY_TYPE"),
    "expiry without zone": (TEXT.replace("23:59:59Z", "23:59:59"), "POLICY_TIME"),
    "window without zone": (TEXT.replace("+02:00", ""), "POLICY_TIME"),
    "window end without zone": (TEXT.replace("00.5Z", "00.5"), "POLICY_TIME"),
    "window that is empty": (TEXT.replace("2026-07-01", "2026-01-01"), "POLICY_WINDOW"),
    "publisher without name": (TEXT.replace('name = "models team"', ""), "POLICY_MISSING_KEY"),
    "publisher with an empty name": (TEXT.replace('"models team"', '""'), "POLICY_NAME"),
    "publisher with an unknown key": (TEXT + 'role = "x"', "POLICY_UNKNOWN_KEY"),
    "publisher of low order": (TEXT.replace(KEY.raw.hex(), "00" * 32), "POLICY_KEY"),
    "publisher identity point": (TEXT.replace(KEY.raw.hex(), "01" + "00" * 31), "POLICY_KEY"),
    "publisher of 31 bytes": (TEXT.replace(KEY.raw.hex(), "0a" * 31), "POLICY_KEY"),
    "publisher not hex": (TEXT.replace(KEY.raw.hex(), "zz"), "POLICY_TYPE"),
    "publisher twice": (
        TEXT + f'[[publishers]]\nname = "again"\npublic_key = "{KEY.raw.hex()}"',
        "POLICY_DUPLICATE",
    ),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED)
def test_what_says_nothing_certain_does_not_load(text: str, code: str) -> None:
    assert refusal(text) == code


def test_old_and_new_build_are_both_accepted_while_their_windows_overlap() -> None:
    policy = TrustPolicy.aws_nitro(OLD, NEW)
    for now in (NOON, NOON + HOUR / 2, NOON + HOUR):
        assert policy.match(OLD.pinned, now) is OLD
        assert policy.match(NEW.pinned, now) is NEW


def test_a_build_is_refused_one_microsecond_outside_its_window() -> None:
    policy, tick = TrustPolicy.aws_nitro(OLD, NEW), timedelta(microseconds=1)
    assert refused_build(policy, NEW, NOON - tick) == "BUILD_NOT_YET_ACCEPTED"
    assert refused_build(policy, OLD, NOON + HOUR + tick) == "BUILD_NO_LONGER_ACCEPTED"


def test_without_a_time_the_window_is_held_against_the_clock() -> None:
    past = dataclasses.replace(OLD, not_after=datetime.now(UTC) - HOUR)
    with pytest.raises(MeasurementMismatch) as refused:
        TrustPolicy.aws_nitro(past).match(past.pinned)
    assert refused.value.code == "BUILD_NO_LONGER_ACCEPTED"


def test_of_two_entries_that_fit_the_one_in_its_window_accepts() -> None:
    pinned = dataclasses.replace(OLD, pcr8=b"\x08" * 48, label="with signer", not_after=None)
    policy = TrustPolicy.aws_nitro(OLD, pinned)
    assert policy.match(pinned.pinned, NOON + 2 * HOUR) is pinned
    assert refused_build(policy, OLD, NOON + 2 * HOUR) == "BUILD_NO_LONGER_ACCEPTED"


def test_an_expired_policy_accepts_nothing() -> None:
    policy = dataclasses.replace(TrustPolicy.aws_nitro(NEW), not_after=NOON + HOUR)
    assert policy.match(NEW.pinned, NOON + HOUR) is NEW
    with pytest.raises(PolicyError) as refused:
        policy.match(NEW.pinned, NOON + HOUR + timedelta(microseconds=1))
    assert refused.value.code == "POLICY_EXPIRED"


def test_the_verifier_checks_windows_at_its_own_time() -> None:
    mint = Mint()
    (build,) = mint.policy.measurements
    late = dataclasses.replace(mint.policy, measurements=(dataclasses.replace(build, not_after=AT - HOUR),))
    early = dataclasses.replace(mint.policy, measurements=(dataclasses.replace(build, not_after=AT),))
    raw = mint.document()
    assert verify_enclave(raw, early, nonce=NONCE, now=AT).measurements.label == build.label
    for policy, now in ((late, AT), (early, AT + timedelta(seconds=1))):
        with pytest.raises(MeasurementMismatch) as refused:
            verify_enclave(raw, policy, nonce=NONCE, now=now)
        assert refused.value.code == "BUILD_NO_LONGER_ACCEPTED"
        assert refused.value.steps[-1].id == "ATT-06"


def test_an_archived_document_is_held_against_the_windows_of_its_own_time() -> None:
    mint = Mint()
    (build,) = mint.policy.measurements
    closed = dataclasses.replace(
        mint.policy, measurements=(dataclasses.replace(build, not_after=AT),), not_after=AT + HOUR
    )
    assert verify_archived_enclave(mint.document(), closed).measurements.label == build.label
    with pytest.raises(MeasurementMismatch):
        verify_archived_enclave(mint.document(timestamp=int((AT + HOUR / 2).timestamp() * 1000)), closed)


def test_the_digest_depends_on_version_expiry_windows_and_publishers() -> None:
    other = SigningKey.from_seed(b"other".ljust(32)).verifying_key.raw.hex()
    texts = [
        TEXT,
        TEXT.replace('"production"', '"staging"'),
        TEXT.replace("serial = 7", "serial = 8"),
        TEXT.replace("23:59:59Z", "23:59:58Z"),
        TEXT.replace("+02:00", "+01:00"),
        TEXT.replace("00.5Z", "00.500001Z"),
        TEXT.replace(KEY.raw.hex(), other),
    ]
    assert len({TrustPolicy.parse(text).digest for text in texts}) == len(texts)
    same = TEXT.replace("2026-06-01T00:00:00+02:00", "2026-05-31T22:00:00Z").replace("models team", "somebody else")
    assert TrustPolicy.parse(same).digest == TrustPolicy.parse(TEXT).digest
