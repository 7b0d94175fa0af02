"""The generated key policy: sound by the linter and by a KMS, for whatever builds, roles and models it is asked for."""

import json
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ephemeral.errors import ConfigError
from ephemeral.trusted.policy import Measurements
from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeralml.kms import KeyRoles, build_key_policy, lint_policy
from tests.support.key_policy_attacks import (
    ADMIN,
    BUILD_A,
    BUILD_B,
    HOST,
    MODELS,
    PUBLISHER,
    Breach,
    allowed,
    breaches,
    legitimate,
)

ROLES: Final = KeyRoles(HOST, PUBLISHER, ADMIN)
pcr = st.binary(min_size=48, max_size=48).filter(any)
builds = st.lists(
    st.builds(Measurements, pcr, pcr, pcr, st.none() | pcr, st.none() | pcr, st.none() | pcr),
    min_size=1,
    max_size=4,
    unique_by=lambda build: tuple(build.pinned.items()),
)
names = st.from_regex(r"[A-Za-z0-9_+=,.@-]{1,20}", fullmatch=True)
roles = st.lists(names, min_size=3, max_size=3, unique=True).map(
    lambda three: KeyRoles(*(f"arn:aws:iam::123456789012:role/path/{name}" for name in three))
)
models = st.lists(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,30}", fullmatch=True), min_size=1, max_size=3, unique=True
)


@settings(deadline=None, max_examples=60)
@given(builds, roles, models)
def test_generated_policy_passes_its_own_linter(accepted: list[Measurements], who: KeyRoles, which: list[str]) -> None:
    text = build_key_policy(accepted, who, which)
    assert lint_policy(text, accepted) == ()
    KeyPolicy.parse(text)


@settings(deadline=None, max_examples=40)
@given(builds, models, st.data())
def test_generated_policy_releases_to_its_builds_and_to_no_mixture(
    accepted: list[Measurements], which: list[str], data: st.DataObject
) -> None:
    policy = KeyPolicy.parse(build_key_policy(accepted, ROLES, which))
    context = {"model_id": data.draw(st.sampled_from(which)), "version": "1", "content_sha256": "cd" * 32}
    for build in accepted:
        assert allowed(policy, Breach(HOST, "Decrypt", build.pinned, context))
    mixed = {index: data.draw(st.sampled_from(accepted)).pinned[index] for index in range(3)}
    exact = any(not build.differing(mixed) for build in accepted)
    assert allowed(policy, Breach(HOST, "Decrypt", mixed, context)) == exact


def test_generated_policy_stops_every_attack() -> None:
    policy = KeyPolicy.parse(build_key_policy([BUILD_A, BUILD_B], ROLES, MODELS))
    assert list(breaches(policy)) == []
    assert allowed(policy, legitimate(BUILD_A))
    assert allowed(policy, legitimate(BUILD_B))


def test_optional_registers_are_pinned_too() -> None:
    signed = Measurements(BUILD_A.pcr0, BUILD_A.pcr1, BUILD_A.pcr2, pcr8=b"\xa8" * 48)
    policy = KeyPolicy.parse(build_key_policy([signed], ROLES, MODELS))
    assert allowed(policy, legitimate())
    assert not allowed(policy, Breach(HOST, "Decrypt", BUILD_A.pinned, legitimate().context))


def test_roles_of_other_partitions_are_roles() -> None:
    arns = (f"arn:aws-us-gov:iam::123456789012:role/path/{name}" for name in "abc")
    assert lint_policy(build_key_policy([BUILD_A], KeyRoles(*arns), MODELS), [BUILD_A]) == ()


@pytest.mark.parametrize("action", ["Decrypt", "ReEncryptFrom"])
def test_later_statement_for_everyone_releases_nothing_unattested_nor_to_another_build(action: str) -> None:
    document = json.loads(build_key_policy([BUILD_A], ROLES, MODELS))
    everything = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    document["Statement"].append(everything)
    policy = KeyPolicy.parse(json.dumps(document))
    foreign = {0: b"\xee" * 48, 1: BUILD_A.pcr1, 2: BUILD_A.pcr2}
    for pcrs in (None, foreign):
        assert not allowed(policy, Breach(HOST, action, None if action != "Decrypt" else pcrs, legitimate().context))
    assert not allowed(policy, Breach(ADMIN, "CreateGrant", None, {}))


def test_publisher_wraps_only_under_a_whole_context() -> None:
    policy = KeyPolicy.parse(build_key_policy([BUILD_A], ROLES, MODELS))
    context = dict(legitimate().context)
    assert allowed(policy, Breach(PUBLISHER, "GenerateDataKey", None, context))
    for missing in context:
        partial = {key: value for key, value in context.items() if key != missing}
        assert not allowed(policy, Breach(PUBLISHER, "GenerateDataKey", None, partial))
    assert not allowed(policy, Breach(PUBLISHER, "GenerateDataKey", None, {**context, "model_id": "another"}))


@pytest.mark.parametrize(
    ("accepted", "which", "code"),
    [
        ([], ["m"], "KMS_POLICY_EMPTY"),
        ([BUILD_A], [], "KMS_POLICY_EMPTY"),
        ([BUILD_A, BUILD_A], ["m"], "KMS_POLICY_DUPLICATE"),
        ([BUILD_A], ["m", "m"], "KMS_POLICY_DUPLICATE"),
        ([BUILD_A], ["*"], "KMS_MODEL_ID"),
        ([BUILD_A], ["${aws:PrincipalTag/model}"], "KMS_MODEL_ID"),
        ([BUILD_A], [f"model-{number}" for number in range(2_000)], "KMS_POLICY_SIZE"),
    ],
)
def test_policy_that_would_not_restrict_is_not_written(
    accepted: list[Measurements], which: list[str], code: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_key_policy(accepted, ROLES, which)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "arns",
    [
        (HOST, HOST, ADMIN),
        (HOST, PUBLISHER, HOST),
        ("arn:aws:iam::111122223333:role/*", PUBLISHER, ADMIN),
        ("arn:aws:iam::111122223333:root", PUBLISHER, ADMIN),
        (HOST, "*", ADMIN),
        (HOST, PUBLISHER, "111122223333"),
    ],
)
def test_role_that_is_everyone_or_the_hosts_is_refused(arns: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyRoles(*arns)
    assert caught.value.code == "KMS_ROLE"
