"""The linter against the corpus, and against a KMS: what it calls a bypass is one, what it passes is none."""

import json
from typing import Final

import pytest

from ephemeral_devstack.kms.policy import KeyPolicy
from ephemeralml.kms import RULES, lint_policy
from tests.support.key_policy_attacks import HOST, allowed, breaches, legitimate
from tests.support.key_policy_corpus import KeyPolicyCase, corpus, parameters

# Bad policies that the simulated KMS reads and that let nobody in as they stand, each with the reason it is bad.
HARMLESS_TODAY: Final = {
    "deny_further_condition": "a Deny that waits for the next Allow",
    "deny_missing": "the same",
    "deny_only_decrypt": "the same",
    "deny_only_the_host": "the same",
    "deny_over_tls_only": "the same",
    "deny_positive_comparison": "the same",
    "if_exists_behind_deny": "the Deny holds what the Allow lets go",
    "duplicate_action": "this reader takes the last of two names; another one may not",
    "duplicate_condition": "the same",
    "policy_variable": "this evaluator compares ${...} as text; IAM fills it in",
    "sha256_measurement": "it locks the enclave out",
    "upper_case_hex": "the same",
    "zero_pcrs": "this KMS sets no measurements for a debug enclave",
    "zero_beside_a_build": "the same",
}
WIDENING: Final = {"Effect": "Allow", "Principal": "*", "Action": ["kms:Decrypt", "kms:ReEncrypt*"], "Resource": "*"}


@pytest.mark.parametrize("case", parameters("bad"))
def test_every_bad_policy_is_found_out_by_the_rules_it_names(case: KeyPolicyCase) -> None:
    assert case.expected
    assert sorted({finding.rule.id for finding in lint_policy(case.text)}) == case.expected


@pytest.mark.parametrize("case", parameters("good"))
def test_good_policy_passes(case: KeyPolicyCase) -> None:
    assert lint_policy(case.text) == ()


def test_corpus_is_large_and_tries_every_rule() -> None:
    assert len(corpus("bad")) >= 35
    assert len(corpus("good")) >= 6
    tried = {rule for case in corpus("bad") for rule in case.expected}
    assert set(RULES) - tried == {"KMS-501", "KMS-502"}  # they need measurements: test_builds


@pytest.mark.parametrize("case", parameters("bad", evaluable=True))
def test_bad_policy_is_bypassed_for_real(case: KeyPolicyCase) -> None:
    policy = KeyPolicy.parse(case.text)
    bypassed = any(True for _ in breaches(policy))
    assert bypassed == (case.name not in HARMLESS_TODAY)


def test_most_bad_policies_are_bypassed_for_real() -> None:
    policies = [KeyPolicy.parse(case.text) for case in corpus("bad") if case.stored]
    assert sum(any(True for _ in breaches(policy)) for policy in policies) >= 35


@pytest.mark.parametrize("case", parameters("good", evaluable=True))
def test_good_policy_serves_the_enclave_and_stops_every_attack(case: KeyPolicyCase) -> None:
    policy = KeyPolicy.parse(case.text)
    assert allowed(policy, legitimate())
    assert list(breaches(policy)) == []


def widened(case: KeyPolicyCase) -> KeyPolicy:
    document = json.loads(case.text)
    document["Statement"].append(WIDENING)
    return KeyPolicy.parse(json.dumps(document))


def unattested(policy: KeyPolicy) -> list[str]:
    return [f"{attack.principal} {attack.action}" for attack in breaches(policy) if attack.pcrs is None]


@pytest.mark.parametrize("case", parameters("good", evaluable=True))
def test_deny_that_passes_outlasts_whatever_allow_is_added_later(case: KeyPolicyCase) -> None:
    policy = widened(case)
    assert unattested(policy) == []


@pytest.mark.parametrize("case", parameters("bad", "deny_", evaluable=True))
def test_deny_with_a_finding_falls_to_the_next_allow(case: KeyPolicyCase) -> None:
    policy = widened(case)
    assert unattested(policy) != []


def test_findings_name_the_statement_and_say_what_to_do() -> None:
    (case,) = (case for case in corpus("bad") if case.name == "host_puts_policies")
    (finding,) = lint_policy(case.text)
    assert finding.statement == "More (#4)"
    assert HOST in finding.detail
    assert all(text for text in (finding.rule.title, finding.rule.attack, finding.rule.fix))
