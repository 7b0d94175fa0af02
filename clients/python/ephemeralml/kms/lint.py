"""A key policy read as an attacker would: who but an attested enclave of an accepted build gets to the data keys?

Nothing here compares texts. Each statement is taken apart into whom, what and when, each condition is evaluated for
calls with and without attestation by AWS's rules, and what cannot be decided counts as the worse.
"""

from collections.abc import Iterator, Sequence

from ephemeral.trusted.policy import Measurements
from ephemeralml.kms.context import check_context
from ephemeralml.kms.deny import check_deny
from ephemeralml.kms.powers import check_powers
from ephemeralml.kms.release import DECRYPT, check_builds, check_release
from ephemeralml.kms.statement import Finding, Statement, read_statements

__all__ = ["Finding", "lint_policy"]


def lint_policy(text: str, builds: Sequence[Measurements] = ()) -> tuple[Finding, ...]:
    """Return what is wrong with a key policy, one finding per rule and statement, in the order of the rules.

    With `builds`, what is released to is compared with them.

    Raises:
        ConfigError: not a JSON object (KMS_POLICY_SYNTAX).
    """
    policy = read_statements(text)
    found = [*policy.findings, *_judge(policy.statements)]
    if builds:
        found += check_builds(policy.statements, builds)
    return _merged(found)


def _judge(statements: Sequence[Statement]) -> Iterator[Finding]:
    for statement in statements:
        if statement.allows and statement.covers(DECRYPT):
            yield from check_release(statement)
        if statement.allows:
            yield from check_context(statement)
    yield from check_deny(statements)
    yield from check_powers(statements)


def _merged(found: Sequence[Finding]) -> tuple[Finding, ...]:
    details: dict[tuple[str, str], dict[str, None]] = {}
    rules = {item.rule.id: item.rule for item in found}
    for item in found:
        details.setdefault((item.rule.id, item.statement), {})[item.detail] = None
    return tuple(Finding(rules[rule], where, "; ".join(details[rule, where])) for rule, where in sorted(details))
