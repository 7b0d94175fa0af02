"""Trust policies: a policy that would not protect does not load, and says how to mend it."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from ephemeral.errors import MeasurementMismatch, PolicyError
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1, AcceptedModel, Measurements, RootOfTrust, TrustPolicy

PCR = ["a0" * 48, "a1" * 48, "a2" * 48]
ZERO = "00" * 48
BUILD = f"""
[[measurements]]
label = "2026-01"
pcr0 = "{PCR[0]}"
pcr1 = "{PCR[1]}"
pcr2 = "{PCR[2]}"
"""
MINIMAL = "version = 1\n" + BUILD
FULL = f"""
version = 1
max_document_age_seconds = 60
[[roots]]
name = "lab"
sha256 = "{"0c" * 32}"
evaluation = true
[[roots]]
name = "devstack"
sha256 = "{"0d" * 32}"
evaluation = true
{BUILD}
pcr3 = "{"a3" * 48}"
pcr4 = "{"a4" * 48}"
pcr8 = "{"A8" * 48}"
[[models]]
model_id = "all-MiniLM-L6-v2"
[[models]]
model_id = "other"
min_version = 3
manifest_sha256 = "{"0e" * 32}"
"""
AWS_ROOT = f'[[roots]]\nname = "aws"\nsha256 = "{AWS_NITRO_ROOT_G1.sha256.hex()}"\n'
SIMULATED = RootOfTrust("devstack", b"\x0d" * 32, evaluation=True)
MEASURED = Measurements(*(bytes.fromhex(value) for value in PCR), label="2026-01")
PCRS = {0: MEASURED.pcr0, 1: MEASURED.pcr1, 2: MEASURED.pcr2, 3: bytes(48)}


def refusal(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as refused:
        TrustPolicy.parse(text)
    return refused.value


def test_the_smallest_policy_accepts_one_build_under_the_aws_root_only() -> None:
    policy = TrustPolicy.parse(MINIMAL)
    assert policy == TrustPolicy.aws_nitro(MEASURED)
    assert policy.roots == (AWS_NITRO_ROOT_G1,)
    assert policy.max_document_age == timedelta(minutes=5)


def test_every_key_of_the_format_is_read() -> None:
    policy = TrustPolicy.parse(FULL)
    assert policy.roots == (RootOfTrust("lab", b"\x0c" * 32, evaluation=True), SIMULATED)
    (build,) = policy.measurements
    assert sorted(build.pinned) == [0, 1, 2, 3, 4, 8]
    assert build.pcr8 == b"\xa8" * 48
    assert policy.models == (AcceptedModel("all-MiniLM-L6-v2"), AcceptedModel("other", 3, b"\x0e" * 32))
    assert policy.max_document_age == timedelta(minutes=1)


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "trust.toml").write_text(FULL)
    assert TrustPolicy.load(tmp_path / "trust.toml") == TrustPolicy.parse(FULL)
    assert TrustPolicy.load(str(tmp_path / "trust.toml")) == TrustPolicy.parse(FULL)


def test_a_file_that_cannot_be_read_is_a_policy_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(PolicyError) as refused:
            TrustPolicy.load(path)
        assert refused.value.code == "POLICY_UNREADABLE"
        assert str(path) in refused.value.detail


REFUSED: dict[str, tuple[str, str]] = {
    "empty file": ("", "POLICY_MISSING_KEY"),
    "not TOML": ("version = ", "POLICY_SYNTAX"),
    "a key twice": ("version = 1\n" + MINIMAL, "POLICY_SYNTAX"),
    "deeply nested": ("x = " + "[" * 20_000, "POLICY_SYNTAX"),
    "too long": (MINIMAL + "#" * 262_144, "POLICY_SYNTAX"),
    "no version": (BUILD, "POLICY_MISSING_KEY"),
    "version 2": (MINIMAL.replace("= 1", "= 2"), "POLICY_VERSION"),
    "version true": (MINIMAL.replace("= 1", "= true"), "POLICY_TYPE"),
    "version as text": (MINIMAL.replace("= 1", '= "1"'), "POLICY_TYPE"),
    "unknown key at the top": ("allow_debug = true\n" + MINIMAL, "POLICY_UNKNOWN_KEY"),
    "unknown key in a build": (MINIMAL + "pcr5 = 1", "POLICY_UNKNOWN_KEY"),
    "upper-case key": (MINIMAL.replace("pcr0", "PCR0"), "POLICY_MISSING_KEY"),
    "unknown key in a root": (FULL.replace('name = "devstack"', 'name = "devstack"\nallow = 1'), "POLICY_UNKNOWN_KEY"),
    "unknown key in a model": (FULL + "max_version = 4", "POLICY_UNKNOWN_KEY"),
    "no build": ("version = 1", "POLICY_EMPTY"),
    "empty list of builds": ("version = 1\nmeasurements = []", "POLICY_EMPTY"),
    "builds as a table": ("version = 1\n[measurements]", "POLICY_TYPE"),
    "builds as strings": ('version = 1\nmeasurements = ["a"]', "POLICY_TYPE"),
    "no label": (MINIMAL.replace('label = "2026-01"', ""), "POLICY_MISSING_KEY"),
    **{
        f"no pcr{index}": (MINIMAL.replace(f'pcr{index} = "{PCR[index]}"', ""), "POLICY_MISSING_KEY")
        for index in range(3)
    },
    **{f"pcr{index} zero": (MINIMAL.replace(PCR[index], ZERO), "POLICY_DEBUG") for index in range(3)},
    "pcr of 32 bytes": (MINIMAL.replace(PCR[1], "a1" * 32), "POLICY_LENGTH"),
    "pcr empty": (MINIMAL.replace(PCR[1], ""), "POLICY_LENGTH"),
    "pcr not hex": (MINIMAL.replace(PCR[1], "zz" * 48), "POLICY_TYPE"),
    "pcr a number": (MINIMAL.replace(f'"{PCR[1]}"', "1"), "POLICY_TYPE"),
    "pcr8 of 32 bytes": (FULL.replace("A8" * 48, "a8" * 32), "POLICY_LENGTH"),
    "a label twice": (MINIMAL + BUILD.replace("a0", "b0"), "POLICY_DUPLICATE"),
    "a build twice": (MINIMAL + BUILD.replace("2026-01", "again"), "POLICY_DUPLICATE"),
    "a root name twice": (FULL.replace('"lab"', '"devstack"'), "POLICY_DUPLICATE"),
    "a root twice": (
        FULL + f'[[roots]]\nname = "again"\nsha256 = "{"0d" * 32}"\nevaluation = true',
        "POLICY_DUPLICATE",
    ),
    "a model twice": (FULL.replace('"other"', '"all-MiniLM-L6-v2"'), "POLICY_DUPLICATE"),
    "a simulated root that does not say so": (FULL.replace("evaluation = true", ""), "POLICY_ROOT"),
    "a simulated root that denies it": (FULL.replace("= true", "= false"), "POLICY_ROOT"),
    "the AWS root called simulated": (
        MINIMAL + AWS_ROOT + "evaluation = true",
        "POLICY_ROOT",
    ),
    "an evaluation root beside the AWS root": (FULL + AWS_ROOT, "POLICY_MIXED_ROOTS"),
    "evaluation as text": (FULL.replace("= true", '= "true"'), "POLICY_TYPE"),
    "root hash of 20 bytes": (FULL.replace("0d" * 32, "0d" * 20), "POLICY_LENGTH"),
    "root without name": (FULL.replace('"devstack"', '""'), "POLICY_NAME"),
    "age zero": (FULL.replace("seconds = 60", "seconds = 0"), "POLICY_AGE"),
    "age negative": (FULL.replace("seconds = 60", "seconds = -1"), "POLICY_AGE"),
    "age over a leaf's life": (FULL.replace("seconds = 60", "seconds = 10801"), "POLICY_AGE"),
    "age huge": (FULL.replace("seconds = 60", "seconds = 999999999999999999"), "POLICY_AGE"),
    "age a float": (FULL.replace("seconds = 60", "seconds = 60.0"), "POLICY_TYPE"),
    "model without id": (FULL.replace('model_id = "other"', ""), "POLICY_MISSING_KEY"),
    "model id empty": (FULL.replace('"other"', '""'), "POLICY_NAME"),
    "model version 0": (FULL.replace("min_version = 3", "min_version = 0"), "POLICY_MODEL"),
    "manifest hash of 31 bytes": (FULL.replace("0e" * 32, "0e" * 31), "POLICY_LENGTH"),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED)
def test_a_policy_that_would_not_protect_does_not_load(text: str, code: str) -> None:
    error = refusal(text)
    assert error.code == code
    assert error.detail


def test_a_mistake_is_named_with_its_place() -> None:
    assert "pcr0 is missing in [[measurements]] number 2" in refusal(MINIMAL + '[[measurements]]\nlabel = "b"').detail
    assert "'allow_debug'" in refusal("allow_debug = true\n" + MINIMAL).detail


def test_an_empty_policy_never_means_anything_goes() -> None:
    with pytest.raises(PolicyError):
        TrustPolicy.aws_nitro()
    with pytest.raises(PolicyError):
        TrustPolicy((), (MEASURED,))


def test_a_policy_cannot_be_loosened_after_it_was_made() -> None:
    policy = TrustPolicy.parse(MINIMAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.roots = (SIMULATED,)  # type: ignore[misc]
    with pytest.raises(PolicyError):
        dataclasses.replace(policy, measurements=())


def test_the_build_that_runs_is_named() -> None:
    other = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="other")
    assert TrustPolicy.aws_nitro(other, MEASURED).match(PCRS) is MEASURED


def test_what_a_build_does_not_pin_may_be_anything() -> None:
    policy = TrustPolicy.aws_nitro(MEASURED)
    assert policy.match({**PCRS, 3: b"\xff" * 48, 8: b"\xff" * 48}) == MEASURED


def test_a_refusal_names_the_nearest_build_and_what_differs() -> None:
    other = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, label="other")
    with pytest.raises(MeasurementMismatch) as refused:
        TrustPolicy.aws_nitro(other, MEASURED).match({**PCRS, 2: b"\xff" * 48})
    assert "'2026-01': PCR2 is ffff" in refused.value.detail


@pytest.mark.parametrize("index", [0, 1, 2])
def test_debug_and_missing_pcrs_are_refused_before_any_build_is_compared(index: int) -> None:
    policy = TrustPolicy.aws_nitro(MEASURED)
    with pytest.raises(MeasurementMismatch) as refused:
        policy.match({**PCRS, index: bytes(48)})
    assert refused.value.code == "DEBUG_ENCLAVE"
    with pytest.raises(MeasurementMismatch) as refused:
        policy.match({key: value for key, value in PCRS.items() if key != index})
    assert refused.value.code == "PCR_MISSING"


def test_the_digest_depends_on_every_rule_and_on_nothing_else() -> None:
    texts = [
        FULL,
        FULL.replace("= 60", "= 61"),
        FULL.replace('"lab"', '"bench"'),
        FULL.replace("0d" * 32, "1d" * 32),
        FULL.replace("2026-01", "2026-02"),
        FULL.replace(PCR[0], "b0" * 48),
        FULL.replace("A8" * 48, "B8" * 48),
        FULL.replace("min_version = 3", "min_version = 4"),
        FULL.replace("0e" * 32, "1e" * 32),
        MINIMAL,
    ]
    assert len({TrustPolicy.parse(text).digest for text in texts}) == len(texts)
    assert TrustPolicy.parse(FULL.replace("A8", "a8") + "# a comment").digest == TrustPolicy.parse(FULL).digest
    full = TrustPolicy.parse(FULL)
    assert dataclasses.replace(full, roots=full.roots[::-1], models=full.models[::-1]).digest == full.digest
    assert len(full.digest) == 32
