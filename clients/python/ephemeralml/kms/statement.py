"""A key policy as statements, read tolerantly: whatever cannot be read is a finding, not a reason to stop reading."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ephemeral.errors import ConfigError
from ephemeralml.kms.condition import PRINCIPAL_ARN_KEY, Condition, glob
from ephemeralml.kms.policy import MAX_POLICY_BYTES
from ephemeralml.kms.rules import RULES, Rule

POLICY: Final = "policy"
_VERSION: Final = "2012-10-17"
_MEMBERS: Final = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_ROLE: Final = re.compile(
    r"arn:aws(?:-[a-z]+)*:(?:iam::[0-9]{12}:(?:role|user)/[^*?${}]+|sts::[0-9]{12}:assumed-role/[^*?${}]+)", re.ASCII
)
_ACCOUNT: Final = re.compile(r"[0-9]{12}|arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:root", re.ASCII)
_SESSION: Final = re.compile(r"(arn:aws(?:-[a-z]+)*):sts::([0-9]{12}):assumed-role/([^/]+)/.*", re.ASCII)
_EVERYONE: Final = "*"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule broken by one statement (or by the policy as a whole)."""

    rule: Rule
    statement: str
    detail: str


@dataclass(frozen=True, slots=True)
class Principals:
    """Whom a statement is about: (`AWS`, `Service`, ...; name) pairs, or with `inverted` everyone but them."""

    entries: tuple[tuple[str, str], ...]
    inverted: bool

    @property
    def everyone(self) -> bool:
        """Tell whether this is everyone without exception."""
        return not self.inverted and ("AWS", _EVERYONE) in self.entries

    @property
    def accounts(self) -> tuple[str, ...]:
        """The whole accounts among them."""
        return tuple(name for kind, name in self.entries if kind == "AWS" and _ACCOUNT.fullmatch(name))

    @property
    def roles(self) -> frozenset[str]:
        """The roles and users among them, by ARN; a session of a role counts as the role."""
        return frozenset(_role_of(name) for kind, name in self.entries if kind == "AWS" and _ROLE.fullmatch(name))

    @property
    def others(self) -> tuple[str, ...]:
        """What is neither everyone nor an account nor a role nor a user."""
        known = {_EVERYONE, *self.accounts}
        return tuple(
            f"{kind} {name}"
            for kind, name in self.entries
            if kind != "AWS" or (name not in known and not _ROLE.fullmatch(name))
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `effective` is false where KMS stores it and ignores it."""

    name: str
    allows: bool
    principals: Principals
    actions: tuple[str, ...]
    inverted_actions: bool
    effective: bool
    conditions: tuple[Condition, ...]

    def covers(self, action: str) -> bool:
        """Tell whether this speaks about the action (`kms:Decrypt`), whatever its conditions."""
        return any(action_matches(pattern, action) for pattern in self.actions) != self.inverted_actions

    def on(self, key: str) -> tuple[Condition, ...]:
        """Return the conditions on one key, named in lower case."""
        return tuple(condition for condition in self.conditions if condition.key == key)

    @property
    def on_recipient(self) -> tuple[Condition, ...]:
        """The conditions on an enclave's measurements."""
        return tuple(condition for condition in self.conditions if condition.register is not None)

    @property
    def named_callers(self) -> frozenset[str] | None:
        """The ARNs that may call by this statement; None if they cannot be listed.

        A condition on aws:PrincipalArn without wildcards lists them whatever the principal.
        """
        narrowing = [item for item in self.on(PRINCIPAL_ARN_KEY) if item.finite and item.holds(None) is False]
        listed = [frozenset(map(_role_of, filter(_ROLE.fullmatch, item.values))) for item in narrowing]
        principals = self.principals
        if not (principals.inverted or principals.everyone or principals.accounts or principals.others):
            listed.append(principals.roles)
        return frozenset.intersection(*listed) if listed else None


@dataclass(slots=True)
class ReadPolicy:
    """What could be read, and what was wrong with the form."""

    statements: list[Statement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: str, where: str, detail: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(RULES[rule], where, detail))


def action_matches(pattern: str, action: str) -> bool:
    """Tell whether an action pattern, wildcards included, matches; without case, as IAM does."""
    return glob(pattern.lower(), action.lower())


def read_statements(text: str) -> ReadPolicy:
    """Read a key policy.

    Raises:
        ConfigError: not a JSON object.
    """
    policy = ReadPolicy()
    document = _json(text, policy)
    if len(text) > MAX_POLICY_BYTES:
        policy.report("KMS-406", POLICY, f"it has {len(text):,} characters, KMS takes {MAX_POLICY_BYTES:,}")
    if document.get("Version") != _VERSION:
        policy.report("KMS-402", POLICY, f"Version is {document.get('Version')!r:.60}")
    for name in sorted(document.keys() - {"Version", "Id", "Statement"}):
        policy.report("KMS-406", POLICY, f"unknown element {name!r:.60}")
    statements = document.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    for number, statement in enumerate(listed, start=1):
        _read_statement(number, statement, policy)
    return policy


def _json(text: str, policy: ReadPolicy) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1:
                policy.report("KMS-401", POLICY, f"{name!r:.100} occurs {times} times; the last one is judged here")
        return dict(pairs)

    try:
        document = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the key policy is not JSON: {error}", code="KMS_POLICY_SYNTAX") from None
    if not isinstance(document, dict):
        raise ConfigError("the key policy is not a JSON object", code="KMS_POLICY_SYNTAX")
    return document


def _read_statement(number: int, value: object, policy: ReadPolicy) -> None:
    if not isinstance(value, dict):
        policy.report("KMS-406", f"#{number}", "it is no object")
        return
    sid = value.get("Sid")
    name = f"{sid:.100} (#{number})" if isinstance(sid, str) and sid.isprintable() else f"#{number}"
    for unknown in sorted(value.keys() - _MEMBERS):
        policy.report("KMS-406", name, f"unknown element {unknown!r:.60}")
    effective = value.get("Resource") in ("*", ["*"]) and "NotResource" not in value
    if not effective:
        policy.report("KMS-403", name, f"Resource is {value.get('Resource')!r:.100}")
    try:
        policy.statements.append(_statement(name, value, effective=effective))
    except ValueError as error:
        policy.report("KMS-406", name, str(error))
        return
    _report_conditions(policy.statements[-1], policy)


def _report_conditions(statement: Statement, policy: ReadPolicy) -> None:
    for item in statement.conditions:
        if not item.key_exists:
            policy.report("KMS-404", statement.name, f"{item.written!r:.100} is no condition key of KMS")
        if not item.operator_exists or (item.register is not None and item.holds(None) is None):
            policy.report("KMS-405", statement.name, f"{item.name!r:.60} on {item.written!r:.100}")


def _statement(name: str, value: Mapping[str, object], *, effective: bool) -> Statement:
    if value.get("Effect") not in ("Allow", "Deny"):
        raise ValueError("Effect is neither Allow nor Deny")
    principal, actions = _one_of(value, "Principal"), _one_of(value, "Action")
    return Statement(
        name=name,
        allows=value["Effect"] == "Allow",
        principals=Principals(tuple(_principals(value[principal])), inverted=principal == "NotPrincipal"),
        actions=_strings(value[actions], actions),
        inverted_actions=actions == "NotAction",
        effective=effective,
        conditions=tuple(_conditions(value.get("Condition", {}))),
    )


def _one_of(value: Mapping[str, object], name: str) -> str:
    present = [member for member in (name, f"Not{name}") if member in value]
    if len(present) != 1:
        raise ValueError(f"exactly one of {name} and Not{name} must be there")
    return present[0]


def _principals(value: object) -> Iterator[tuple[str, str]]:
    if value == _EVERYONE:
        yield "AWS", _EVERYONE
        return
    if not isinstance(value, dict) or not value:
        raise ValueError('Principal is neither "*" nor an object such as {"AWS": ARN}')
    for kind, names in value.items():
        for name in _strings(names, "Principal"):
            yield kind, name


def _conditions(block: object) -> Iterator[Condition]:
    if not isinstance(block, dict):
        raise ValueError("Condition is no object")  # noqa: TRY004 - parsed JSON: one error type for all of it
    for name, operands in block.items():
        if not isinstance(operands, dict):
            raise ValueError(f"Condition {name!r:.60} is no object")  # noqa: TRY004 - the same
        for key, value in operands.items():
            yield Condition.of(name, key, _strings(value, key))


def _strings(value: object, name: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    # JSON's true and 5 are IAM's "true" and "5".
    texts = tuple(
        json.dumps(item) if isinstance(item, bool | int) else item for item in listed if isinstance(item, str | int)
    )
    if not texts or len(texts) != len(listed):
        raise ValueError(f"{name:.100} is neither a string nor a list of strings")
    return texts


def _role_of(arn: str) -> str:
    match = _SESSION.fullmatch(arn)
    return arn if match is None else f"{match[1]}:iam::{match[2]}:role/{match[3]}"
