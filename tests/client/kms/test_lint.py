"""Single questions put to the linter that a whole policy of the corpus would hide."""

import json
from typing import Any, Final

import pytest

from ephemeral.errors import ConfigError
from ephemeral.trusted.policy import Measurements
from ephemeralml.kms import KeyRoles, build_key_policy, lint_policy
from ephemeralml.kms.condition import Condition, glob
from tests.support.key_policy_attacks import ACCOUNT, ADMIN, BUILD_A, BUILD_B, HOST, MODELS, PUBLISHER

IMAGE: Final = "kms:RecipientAttestation:ImageSha384"
ROLES: Final = KeyRoles(HOST, PUBLISHER, ADMIN)


def good() -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(build_key_policy([BUILD_A], ROLES, MODELS))
    return policy


def found(policy: object, *builds: Measurements) -> set[str]:
    return {finding.rule.id for finding in lint_policy(json.dumps(policy), builds)}


def with_statement(**members: object) -> dict[str, Any]:
    policy = good()
    policy["Statement"].append({"Effect": "Allow", "Principal": {"AWS": ADMIN}, "Resource": "*", **members})
    return policy


class TestBuilds:
    def test_build_that_was_withdrawn_is_still_accepted(self) -> None:
        policy = json.loads(build_key_policy([BUILD_A, BUILD_B], ROLES, MODELS))
        assert found(policy, BUILD_A) == {"KMS-501"}

    def test_build_that_is_new_is_not_released_to(self) -> None:
        assert found(good(), BUILD_A, BUILD_B) == {"KMS-502"}

    def test_signer_that_the_build_pins_is_missing_from_the_policy(self) -> None:
        signed = Measurements(BUILD_A.pcr0, BUILD_A.pcr1, BUILD_A.pcr2, pcr8=b"\xa8" * 48)
        assert found(good(), signed) == {"KMS-501"}

    def test_deny_that_stops_the_enclave_too_is_named(self) -> None:
        other = {"StringNotEquals": {IMAGE: BUILD_B.pcr0.hex()}}
        policy = with_statement(Effect="Deny", Principal="*", Action="kms:Decrypt", Condition=other)
        assert found(policy, BUILD_A) == {"KMS-502"}
        assert found(policy) == set()

    def test_mixture_of_two_builds_is_a_build_nobody_named(self) -> None:
        policy = good()
        (release,) = (item for item in policy["Statement"] if item["Sid"] == "Release1")
        measured = release["Condition"]["StringEqualsIgnoreCase"]
        for index in range(3):
            measured[f"kms:RecipientAttestation:PCR{index}"] = [
                BUILD_A.pinned[index].hex(),
                BUILD_B.pinned[index].hex(),
            ]
        assert found(policy, BUILD_A, BUILD_B) >= {"KMS-006", "KMS-501"}


class TestWhoIsMeant:
    def test_session_of_the_host_role_is_the_host(self) -> None:
        session = f"{ACCOUNT.replace(':iam:', ':sts:')}:assumed-role/host/i-1"
        assert found(with_statement(Principal={"AWS": session}, Action="kms:PutKeyPolicy")) == {"KMS-207"}

    def test_account_narrowed_to_the_host_is_the_host(self) -> None:
        narrowed = {"ArnEquals": {"aws:PrincipalArn": HOST}}
        policy = with_statement(Principal={"AWS": f"{ACCOUNT}:root"}, Action="kms:PutKeyPolicy", Condition=narrowed)
        assert found(policy) == {"KMS-207"}

    @pytest.mark.parametrize(
        "operator", ["StringLike", "ArnLike", "ArnEquals", "StringEqualsIfExists", "ForAllValues:StringEquals"]
    )
    def test_account_that_is_not_really_narrowed_is_an_account(self, operator: str) -> None:
        value = ADMIN if operator.startswith(("StringEquals", "For")) else f"{ACCOUNT}:role/adm*"
        condition = {operator: {"aws:PrincipalArn": value}}
        policy = with_statement(Principal={"AWS": f"{ACCOUNT}:root"}, Action="kms:PutKeyPolicy", Condition=condition)
        assert found(policy) == {"KMS-211"}

    @pytest.mark.parametrize(
        "principal",
        [{"Federated": "cognito-identity.amazonaws.com"}, {"AWS": "AROAEXAMPLE"}, {"AWS": f"{ACCOUNT}:role/*"}],
    )
    def test_principal_that_is_no_role_by_name(self, principal: object) -> None:
        assert found(with_statement(Principal=principal, Action="kms:PutKeyPolicy")) == {"KMS-213"}

    def test_looking_is_free_for_everyone(self) -> None:
        assert found(with_statement(Principal="*", Action=["kms:DescribeKey", "kms:ListGrants"])) == set()


class TestForm:
    @pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000])
    def test_text_that_is_no_policy(self, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            lint_policy(text)
        assert caught.value.code == "KMS_POLICY_SYNTAX"

    @pytest.mark.parametrize(
        "members",
        [
            {"Action": None},
            {"Action": []},
            {"Action": {"kms": "Decrypt"}},
            {"Action": "kms:DescribeKey", "NotAction": "kms:Decrypt"},
            {"Action": "kms:DescribeKey", "Principal": "everyone"},
            {"Action": "kms:DescribeKey", "Principal": {}},
            {"Action": "kms:DescribeKey", "Condition": []},
            {"Action": "kms:DescribeKey", "Condition": {"Null": "x"}},
            {"Action": "kms:DescribeKey", "Condition": {"Null": {IMAGE: {}}}},
            {"Action": "kms:DescribeKey", "Effect": "ALLOW"},
        ],
        ids=repr,
    )
    def test_statement_that_cannot_be_read_is_a_finding_and_no_crash(self, members: dict[str, object]) -> None:
        assert "KMS-406" in found(with_statement(**members))

    def test_statement_that_is_no_object(self) -> None:
        policy = good()
        policy["Statement"].append("allow everything")
        assert found(policy) == {"KMS-406"}

    def test_policy_larger_than_kms_takes(self) -> None:
        assert "KMS-406" in found({**good(), "Id": "x" * 33_000})

    def test_single_statement_need_not_be_a_list(self) -> None:
        policy = good()
        policy["Statement"] = {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}
        assert found(policy) == set()

    def test_key_in_letters_that_only_look_like_it_does_not_exist(self) -> None:
        kelvin = "\N{KELVIN SIGN}ms:RecipientAttestation:PCR8"
        policy = with_statement(Action="kms:DescribeKey", Condition={"StringEquals": {kelvin: "x"}})
        assert found(policy) == {"KMS-404"}


class TestConditions:
    @pytest.mark.parametrize(
        ("operator", "value", "present", "absent"),
        [
            ("StringEquals", "aa", True, False),
            ("StringEquals", "AA", False, False),
            ("StringEqualsIgnoreCase", "AA", True, False),
            ("StringNotEquals", "aa", False, True),
            ("StringLike", "a*", True, False),
            ("StringNotLike", "a?", False, True),
            ("StringEqualsIfExists", "bb", False, True),
            ("Null", "true", False, True),
            ("Null", "false", True, False),
            ("ForAllValues:StringEquals", "bb", False, True),
            ("ForAnyValue:StringEquals", "aa", True, False),
            ("ForAnyValue:StringNotEquals", "bb", True, False),
            ("ForAnyValue:StringEqualsIfExists", "bb", False, True),
            ("StringEquals", "${aws:username}", None, False),
            ("StringNotEquals", "${aws:username}", None, True),
            ("NumericEquals", "1", None, None),
            ("StringMatches", "aa", None, None),
        ],
    )
    def test_operator_on_a_key_that_is_present_or_absent(
        self,
        operator: str,
        value: str,
        *,
        present: bool | None,
        absent: bool | None,
    ) -> None:
        condition = Condition.of(operator, IMAGE, (value,))
        assert condition.holds(frozenset({"aa"})) is present
        assert condition.holds(None) is absent

    @pytest.mark.parametrize(
        ("pattern", "text", "matches"),
        [
            ("*", "", True),
            ("a*c", "abbc", True),
            ("a*c", "abbcd", False),
            ("a?c", "abc", True),
            ("?", "", False),
            ("kms:*grant", "kms:creategrant", True),
            ("a.c", "abc", False),
            ("*a*a*a*a*a*a*a*a*a*a*a*b", "a" * 5_000, False),
        ],
    )
    def test_wildcards(self, pattern: str, text: str, *, matches: bool) -> None:
        assert glob(pattern, text) is matches
