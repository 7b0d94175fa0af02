"""The encryption context: every data key is wrapped and released under one that names model, version and content."""

from collections.abc import Iterator, Mapping
from typing import Final

from ephemeralml.kms.condition import CONTEXT_KEYS_KEY, CONTEXT_PREFIX, Condition
from ephemeralml.kms.policy import CONTEXT_KEYS
from ephemeralml.kms.powers import WRAPPING, is_sweeping
from ephemeralml.kms.release import DECRYPT
from ephemeralml.kms.rules import RULES
from ephemeralml.kms.statement import Finding, Statement

_MODEL: Final = CONTEXT_KEYS[0]
_ANY_MODEL: Final = "any"


def check_context(statement: Statement) -> Iterator[Finding]:
    """Find encryption contexts that an Allow on Decrypt or on wrapping should refuse and does not."""
    if is_sweeping(statement) or not any(map(statement.covers, (DECRYPT, *WRAPPING))):
        return
    complete = dict.fromkeys(CONTEXT_KEYS, "0")
    named = statement.on(CONTEXT_PREFIX + _MODEL)
    listed = [item.values[0] for item in named if item.finite]
    if not listed:
        yield Finding(RULES["KMS-301"], statement.name, f"{_MODEL} may be any")
    if all(item.holds(None) is not False for item in named):
        yield Finding(RULES["KMS-301"], statement.name, f"{_MODEL} may be missing")
    # From here on the model is a right one, so that only the other parts are judged.
    complete[_MODEL] = listed[0] if listed else _ANY_MODEL
    for name in CONTEXT_KEYS[1:]:
        partial = {key: value for key, value in complete.items() if key != name}
        if _may_hold(statement, partial):
            yield Finding(RULES["KMS-302"], statement.name, f"{name} may be missing")
    if _may_hold(statement, {**complete, "another": "0"}):
        yield Finding(RULES["KMS-302"], statement.name, "further keys are let through")


def _may_hold(statement: Statement, context: Mapping[str, str]) -> bool:
    return all(_verdict(item, context) is not False for item in statement.conditions)


def _verdict(condition: Condition, context: Mapping[str, str]) -> bool | None:
    if condition.key == CONTEXT_KEYS_KEY:
        return condition.holds(frozenset(context) or None)
    if not condition.key.startswith(CONTEXT_PREFIX):
        return None
    value = context.get(condition.key.removeprefix(CONTEXT_PREFIX))
    # Of version and content only presence is judged: which ones are right, the policy may say or leave open.
    if value == "0" and condition.finite:
        value = condition.values[0]
    return condition.holds(None if value is None else frozenset({value}))
