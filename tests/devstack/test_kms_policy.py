"""Key policies decide as AWS's do; what this KMS does not know, it does not store."""

import json
from typing import Any

import pytest

from ephemeral_devstack.kms.policy import Access, KeyPolicy, Verdict
from ephemeral_devstack.kms.refusal import Refusal

HOST = "arn:aws:iam::111122223333:role/host"
IMAGE = "kms:RecipientAttestation:ImageSha384"
CONTEXT_KEYS = "kms:EncryptionContextKeys"


def statement(**changes: Any) -> dict[str, Any]:
    base = {"Effect": "Allow", "Principal": {"AWS": HOST}, "Action": "kms:Decrypt", "Resource": "*"}
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def policy(*statements: Any) -> KeyPolicy:
    return KeyPolicy.parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def decide(parsed: KeyPolicy, keys: dict[str, set[str]] | None = None, action: str = "kms:Decrypt") -> Verdict:
    condition_keys = {name.lower(): frozenset(values) for name, values in (keys or {}).items()}
    return parsed.decide(Access(HOST, action, condition_keys))


def holds(condition: dict[str, Any], keys: dict[str, set[str]] | None = None) -> bool:
    return decide(policy(statement(Condition=condition)), keys) is Verdict.ALLOWED


def test_explicit_deny_wins_over_any_allow() -> None:
    allow, deny = statement(), statement(Effect="Deny", Principal="*")
    assert decide(policy(allow)) is Verdict.ALLOWED
    assert decide(policy(allow, deny)) is Verdict.DENIED
    assert decide(policy(deny, allow)) is Verdict.DENIED


def test_what_no_statement_mentions_is_refused() -> None:
    assert decide(policy(statement()), action="kms:Encrypt") is Verdict.UNMENTIONED
    stranger = statement(Principal={"AWS": "arn:aws:iam::111122223333:role/host2"})
    assert decide(policy(stranger)) is Verdict.UNMENTIONED


@pytest.mark.parametrize("action", ["kms:*", "kms:De*", "KMS:decrypt", "*", ["kms:Encrypt", "kms:Decryp?"]])
def test_actions_match_with_wildcards_and_without_case(action: object) -> None:
    assert decide(policy(statement(Action=action))) is Verdict.ALLOWED


@pytest.mark.parametrize("action", ["kms:Decrypt2", "kms:[D]ecrypt", "kms:Decryp", "s3:*"])
def test_action_patterns_match_nothing_else(action: str) -> None:
    assert decide(policy(statement(Action=action))) is Verdict.UNMENTIONED


def test_account_statement_opens_the_key_to_every_role_as_iam_could() -> None:
    assert decide(policy(statement(Principal={"AWS": "arn:aws:iam::111122223333:root"}))) is Verdict.ALLOWED
    assert decide(policy(statement(Principal={"AWS": "arn:aws:iam::444455556666:root"}))) is Verdict.UNMENTIONED


@pytest.mark.parametrize(
    ("operator", "value", "present", "absent"),
    [
        ("StringEquals", "aa", True, False),
        ("StringEquals", "AA", False, False),
        ("StringEquals", ["bb", "aa"], True, False),
        ("StringEqualsIgnoreCase", "AA", True, False),
        ("StringNotEquals", "aa", False, True),
        ("StringNotEquals", ["bb", "aa"], False, True),
        ("StringNotEqualsIgnoreCase", "AA", False, True),
        ("StringLike", "a*", True, False),
        ("StringLike", "a.", False, False),
        ("StringNotLike", "a?", False, True),
        ("StringEqualsIfExists", "bb", False, True),
        ("StringEqualsIfExists", "aa", True, True),
        ("Null", "true", False, True),
        ("Null", False, True, False),
        ("ForAllValues:StringEquals", "aa", True, True),
        ("ForAllValues:StringEquals", "bb", False, True),
        ("ForAnyValue:StringEquals", "aa", True, False),
        ("ForAnyValue:StringNotEquals", "aa", False, False),
    ],
)
def test_operator_on_a_key_that_is_present_or_absent(
    operator: str, value: object, *, present: bool, absent: bool
) -> None:
    assert holds({operator: {IMAGE: value}}, {IMAGE: {"aa"}}) is present
    assert holds({operator: {IMAGE: value}}) is absent


def test_bool_compares_without_case() -> None:
    keys = {"aws:SecureTransport": {"false"}}
    assert holds({"Bool": {"aws:SecureTransport": "False"}}, keys)
    assert not holds({"Bool": {"aws:SecureTransport": "true"}}, keys)


def test_sets_of_encryption_context_keys() -> None:
    exactly = {"ForAllValues:StringEquals": {CONTEXT_KEYS: ["model_id", "version"]}}
    some = {"ForAnyValue:StringEquals": {CONTEXT_KEYS: ["model_id", "version"]}}
    assert holds(exactly, {CONTEXT_KEYS: {"model_id", "version"}})
    assert not holds(exactly, {CONTEXT_KEYS: {"model_id", "extra"}})
    assert holds(some, {CONTEXT_KEYS: {"model_id", "extra"}})
    assert not holds(some, {CONTEXT_KEYS: {"extra"}})


def test_all_conditions_of_a_statement_must_hold() -> None:
    two = {"StringEquals": {IMAGE: "aa", "kms:EncryptionContext:model_id": "m"}}
    assert holds(two, {IMAGE: {"aa"}, "kms:EncryptionContext:model_id": {"m"}})
    assert not holds(two, {IMAGE: {"aa"}, "kms:EncryptionContext:model_id": {"n"}})


@pytest.mark.parametrize(
    "broken",
    [
        statement(Condition={"StringEqualz": {IMAGE: "aa"}}),
        statement(Condition={"ArnEquals": {"aws:PrincipalArn": "x"}}),
        statement(Condition={"ForSomeValues:StringEquals": {IMAGE: "aa"}}),
        statement(Condition={"NullIfExists": {IMAGE: "true"}}),
        statement(Condition={"Null": {IMAGE: "maybe"}}),
        statement(Condition={"StringEquals": {"kms:RecipientAttestation:PCR32": "aa"}}),
        statement(Condition={"StringEquals": {"kms:ViaService": "aa"}}),
        statement(Condition={"StringEquals": {CONTEXT_KEYS: "model_id"}}),
        statement(Condition={"StringEquals": {IMAGE: []}}),
        statement(Condition={"StringEquals": {IMAGE: 1}}),
        statement(Condition={"StringEquals": "aa"}),
        statement(Condition=[]),
        statement(Effect="allow"),
        statement(Effect=None),
        statement(Principal={"Service": "s3.amazonaws.com"}),
        statement(Principal={"AWS": "arn:aws:iam::111122223333:role/*"}),
        statement(Principal={"AWS": []}),
        statement(Resource="arn:aws:kms:us-east-1:111122223333:key/x"),
        statement(Action=None, NotAction="kms:Encrypt"),
        statement(Action=[]),
        statement(Conditions={"Null": {IMAGE: "true"}}),
        statement(NotPrincipal={"AWS": HOST}),
        "statement",
    ],
)
def test_policy_with_anything_unknown_is_not_stored(broken: object) -> None:
    with pytest.raises(Refusal) as caught:
        policy(statement(), broken)
    assert caught.value.name == "MalformedPolicyDocumentException"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Statement": []}', "[" * 30_000, "x" * 32_769])
def test_text_that_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        KeyPolicy.parse(text)
