"""Whatever policy is put together: if the linter has nothing to say, no attack gets past the simulated KMS.

The policies are good ones with one to three elements changed, since a policy of random parts is refused for too many
reasons to be worth a look.
"""

import json
from typing import Any, Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeral_devstack.kms.refusal import Refusal
from ephemeralml.kms import KeyRoles, build_key_policy, lint_policy
from tests.support.key_policy_attacks import ACCOUNT, ADMIN, BUILD_A, BUILD_B, HOST, MODELS, PUBLISHER, Breach, breaches
from tests.support.key_policy_corpus import corpus

REGISTERS: Final = [f"kms:RecipientAttestation:{name}" for name in ("PCR0", "PCR1", "PCR2", "PCR8", "ImageSha384")]
CONTEXTS: Final = ["kms:EncryptionContext:model_id", "kms:EncryptionContext:version", "kms:EncryptionContextKeys"]
VALUES: Final = [
    *(value.hex() for build in (BUILD_A, BUILD_B) for value in build.pinned.values()),
    BUILD_A.pcr0.hex().upper(),
    "0" * 96,
    "a0*",
    "?" * 96,
    "*",
    "true",
    "false",
    "model_id",
    "version",
    "content_sha256",
    *MODELS,
    ADMIN,
]
OPERATORS: Final = [
    prefix + name + suffix
    for prefix in ("", "ForAllValues:", "ForAnyValue:")
    for name in ("StringEquals", "StringEqualsIgnoreCase", "StringLike", "StringNotEquals", "StringNotLike")
    for suffix in ("", "IfExists")
] + ["Null"] * 8
PRINCIPALS: Final = [
    "*",
    *({"AWS": arn} for arn in ("*", HOST, PUBLISHER, ADMIN, f"{ACCOUNT}:root")),
    {"AWS": [HOST, ADMIN]},
]
ACTIONS: Final = [
    "Decrypt", "Decrypt*", "*", "ReEncrypt*", "ReEncryptFrom", "GenerateDataKey", "GenerateDataKey*", "Encrypt",
    "CreateGrant", "Create*", "PutKeyPolicy", "Put*", "DisableKey", "ScheduleKeyDeletion", "ImportKeyMaterial",
    "ReplicateKey", "Re*", "Describe*", "D*",
]  # fmt: skip
GENERATED: Final = json.loads(build_key_policy([BUILD_A, BUILD_B], KeyRoles(HOST, PUBLISHER, ADMIN), MODELS))
BASES: Final = [GENERATED, *(json.loads(case.text) for case in corpus("good") if case.stored)]

operands = st.one_of(st.sampled_from(VALUES), st.lists(st.sampled_from(VALUES), min_size=1, max_size=3))
keys = st.one_of(st.sampled_from(REGISTERS), st.sampled_from(CONTEXTS), st.just("aws:PrincipalArn"))


def rename(draw: st.DrawFn, block: dict[str, Any]) -> None:
    """Move the conditions of one operator under another."""
    if block:
        old = draw(st.sampled_from(sorted(block)))
        block.setdefault(draw(st.sampled_from(OPERATORS)), {}).update(block.pop(old))


def change_condition(draw: st.DrawFn, block: dict[str, Any]) -> None:
    """Set, drop or revalue one condition."""
    name = draw(st.sampled_from([*sorted(block), *OPERATORS]))
    operator = block.setdefault(name, {})
    if operator and draw(st.booleans()):
        operator.pop(draw(st.sampled_from(sorted(operator))))
    else:
        operator[draw(keys)] = draw(st.sampled_from(["true", "false"]) if name == "Null" else operands)
    if not operator:
        del block[name]


@st.composite
def policies(draw: st.DrawFn) -> str:
    policy = json.loads(json.dumps(draw(st.sampled_from(BASES))))
    statements = policy["Statement"]
    for _ in range(draw(st.integers(1, 3))):
        statement = draw(st.sampled_from(statements))
        match draw(st.integers(0, 6)):
            case 0:
                statement["Principal"] = draw(st.sampled_from(PRINCIPALS))
            case 1:
                names = draw(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2))
                statement["Action"] = [f"kms:{name}" for name in names]
            case 2:
                rename(draw, statement.setdefault("Condition", {}))
            case 3 | 4:
                change_condition(draw, statement.setdefault("Condition", {}))
            case 5:
                statements.append(json.loads(json.dumps(statement)))
            case _ if len(statements) > 1:
                statements.remove(statement)
    return json.dumps(policy)


@settings(max_examples=300, deadline=None)
@given(policies())
def test_policy_that_passes_is_bypassed_by_no_attack(text: str) -> None:
    try:
        policy = KeyPolicy.parse(text)
    except Refusal:
        event("not stored by the simulated KMS")
        return
    if lint_policy(text):
        event("found out")
        return
    event("passes")
    assert [attack for attack in breaches(policy) if attack.principal != HOST or is_host(policy, attack)] == []


def is_host(policy: KeyPolicy, attack: Breach) -> bool:
    """Tell whether the host can be known as such: it is who may decrypt, and a policy says so nowhere else."""
    decrypts = any(
        item.allows and HOST in item.principals and any(action.fullmatch("kms:Decrypt") for action in item.actions)
        for item in policy.statements
    )
    return decrypts or attack.action == "Decrypt"
