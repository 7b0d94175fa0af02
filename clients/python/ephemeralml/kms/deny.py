"""The explicit Deny: whatever else grants, a call without attestation must be stopped by it, for everyone."""

from collections.abc import Iterator, Sequence
from typing import Final

from ephemeralml.kms.condition import RECIPIENT_PREFIX
from ephemeralml.kms.release import DECRYPT
from ephemeralml.kms.rules import RULES
from ephemeralml.kms.statement import POLICY, Finding, Statement

REENCRYPT: Final = "kms:ReEncryptFrom"
_OPENING: Final = (DECRYPT, REENCRYPT)


def surely_denied(statements: Sequence[Statement], action: str) -> bool:
    """Tell whether a Deny stops the action for everyone, in any call without attestation."""
    return any(
        not item.allows and item.effective and item.principals.everyone and item.covers(action) and _always(item)
        for item in statements
    )


def check_deny(statements: Sequence[Statement]) -> Iterator[Finding]:
    """Find how a call without attestation gets past every Deny; nothing if it does not."""
    denies = [item for item in statements if not item.allows]
    missing = [action for action in _OPENING if not surely_denied(statements, action)]
    meant = [item for item in denies if _is_meant(item) or any(map(item.covers, missing))]
    if missing and not meant:
        yield Finding(RULES["KMS-101"], POLICY, f"for {' and '.join(missing)}")
        return
    for action in missing:
        covering = [item for item in meant if item.covers(action)]
        for item in covering:
            yield from _escapes(item)
        for item in [] if covering else meant:
            yield Finding(RULES["KMS-102"], item.name, f"{action} is not covered")


def _is_meant(statement: Statement) -> bool:
    return any(item.key.startswith(RECIPIENT_PREFIX) for item in statement.conditions)


def _always(statement: Statement) -> bool:
    """Tell whether a call without attestation meets every condition, whatever else is in it."""
    return all(item.register is not None and item.holds(None) is True for item in statement.conditions)


def _escapes(statement: Statement) -> Iterator[Finding]:
    if not statement.principals.everyone:
        yield Finding(RULES["KMS-103"], statement.name, "it names whom it is about")
    for item in statement.conditions:
        if item.register is not None and item.holds(None) is False:
            yield Finding(RULES["KMS-105"], statement.name, f"{item.name} on {item.written}")
        elif item.register is None and item.key_exists:
            yield Finding(RULES["KMS-104"], statement.name, f"{item.name} on {item.written}")
