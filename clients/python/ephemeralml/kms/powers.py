"""Who may do what: actions and principals of Allow statements, and powers that must not meet in one hand."""

from collections.abc import Iterator, Sequence
from typing import Final

from ephemeralml.kms.deny import REENCRYPT, surely_denied
from ephemeralml.kms.release import DECRYPT, pins_whole_builds
from ephemeralml.kms.rules import RULES
from ephemeralml.kms.statement import Finding, Statement, action_matches

# Each opens data keys by itself, and none of them looks at an attestation.
_BYPASSES: Final = {
    "kms:CreateGrant": "KMS-203",
    REENCRYPT: "KMS-204",
    "kms:ImportKeyMaterial": "KMS-205",
    "kms:ReplicateKey": "KMS-206",
}
_MANAGING: Final = ("kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:DeleteImportedKeyMaterial")
WRAPPING: Final = (
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:Encrypt",
    "kms:ReEncryptTo",
)
_SENSITIVE: Final = (DECRYPT, *_BYPASSES, *_MANAGING, *WRAPPING)


def is_sweeping(statement: Statement) -> bool:
    """Tell whether the statement's actions must be listed before anything else in it can be judged."""
    return statement.inverted_actions or any(map(_is_sweeping, statement.actions))


def check_powers(statements: Sequence[Statement]) -> Iterator[Finding]:
    """Find actions and principals that an Allow must not have, and powers that must not meet."""
    allows = [item for item in statements if item.allows]
    open_bypasses = [action for action in _BYPASSES if not surely_denied(statements, action)]
    for statement in allows:
        yield from _check_actions(statement, open_bypasses)
        yield from _check_principals(statement)
    yield from _check_host(allows)


def _check_actions(statement: Statement, open_bypasses: Sequence[str]) -> Iterator[Finding]:
    if statement.inverted_actions:
        yield _finding("KMS-202", statement, f"all but {', '.join(statement.actions):.100}")
        return
    for pattern in statement.actions:
        if _is_sweeping(pattern):
            yield _finding("KMS-201", statement, f"{pattern:.100}")
            continue
        for action in open_bypasses:
            if action_matches(pattern, action):
                yield _finding(_BYPASSES[action], statement, f"{pattern:.100}")


def _is_sweeping(pattern: str) -> bool:
    """Tell whether a pattern holds Decrypt beside others, or several ways around the attestation."""
    if not any(letter in pattern for letter in "*?"):
        return False
    return action_matches(pattern, DECRYPT) or sum(action_matches(pattern, action) for action in _BYPASSES) > 1


def _check_principals(statement: Statement) -> Iterator[Finding]:
    sensitive = [action for action in _SENSITIVE if statement.covers(action)]
    principals = statement.principals
    if not sensitive:
        return
    what = f"may {', '.join(sensitive[:3])}"
    if principals.inverted:
        yield _finding("KMS-212", statement, what)
        return
    if statement.named_callers is None and principals.everyone:
        yield _finding("KMS-210", statement, what)
    if statement.named_callers is None and principals.accounts:
        yield _finding("KMS-211", statement, f"{', '.join(principals.accounts)} {what}")
    for other in principals.others:
        yield _finding("KMS-213", statement, f"{other:.200} {what}")


def _check_host(allows: Sequence[Statement]) -> Iterator[Finding]:
    """Find what the callers of Decrypt may do beside; who is everyone or an account has a finding already."""
    callers = [item.named_callers or frozenset() for item in allows if item.covers(DECRYPT)]
    hosts = frozenset[str]().union(*callers)
    for statement in allows:
        shared = sorted(hosts & (statement.named_callers or frozenset()))
        if not shared or is_sweeping(statement):
            continue
        managing = [action for action in _MANAGING if statement.covers(action)]
        wrapping = [action for action in WRAPPING if statement.covers(action)]
        if managing:
            yield _finding("KMS-207", statement, f"{shared[0]} may {', '.join(managing)}")
        if wrapping and not pins_whole_builds(statement):
            yield _finding("KMS-208", statement, f"{shared[0]} may {', '.join(wrapping)}")


def _finding(rule: str, statement: Statement, detail: str) -> Finding:
    return Finding(RULES[rule], statement.name, detail)
