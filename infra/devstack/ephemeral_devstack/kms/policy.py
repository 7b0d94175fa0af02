"""Key policies: parsed whole when put, evaluated as AWS documents it (IAM User Guide, "Policy evaluation logic").

An explicit Deny wins, then an Allow; what no statement mentions is refused. A policy with an element unknown here is
not stored, so that none decides here otherwise than at AWS. A statement for the account (`arn:...:root`) hands the
decision to IAM at AWS; here it counts for every role of the account, the worst that IAM could say.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from ephemeral_devstack.kms.conditions import Condition, glob, parse_conditions, strings
from ephemeral_devstack.kms.refusal import Refusal

MAX_POLICY_CHARACTERS: Final = 32_768
_MEMBERS: Final = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
_REQUIRED: Final = frozenset({"Effect", "Principal", "Action", "Resource"})


class Verdict(Enum):
    """How a policy decides a call."""

    ALLOWED = "allowed"
    DENIED = "with an explicit deny in a resource-based policy"
    UNMENTIONED = "because no resource-based policy allows the action"


@dataclass(frozen=True, slots=True)
class Access:
    """What a policy decides on: who, which action (`kms:Decrypt`), and the condition keys the request sets."""

    principal_arn: str
    action: str
    condition_keys: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; it speaks about a call when all of its elements match."""

    allows: bool
    principals: tuple[str, ...]
    actions: tuple[re.Pattern[str], ...]
    conditions: tuple[Condition, ...]

    def speaks_about(self, access: Access) -> bool:
        """Tell whether this statement's effect applies to the call."""
        return (
            any(_is_principal(principal, access.principal_arn) for principal in self.principals)
            and any(action.fullmatch(access.action) for action in self.actions)
            and all(condition.holds(access.condition_keys) for condition in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """A key policy, and the text it was put as."""

    text: str
    statements: tuple[Statement, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a policy document.

        Raises:
            Refusal: MalformedPolicyDocumentException, naming what is wrong or unknown here.
        """
        try:
            document = json.loads(text) if len(text) <= MAX_POLICY_CHARACTERS else None
            if not isinstance(document, dict) or document.get("Version") != "2012-10-17":
                raise ValueError("not a policy object of Version 2012-10-17 within the size limit")
            if unknown := document.keys() - {"Version", "Id", "Statement"}:
                raise ValueError(f"unknown element {min(unknown)}")
            statements = document.get("Statement")
            listed = statements if isinstance(statements, list) else [statements]
            return cls(text, tuple(_parse_statement(statement) for statement in listed))
        except (ValueError, RecursionError) as error:
            raise Refusal("MalformedPolicyDocumentException", f"key policy: {error}") from None

    def decide(self, access: Access) -> Verdict:
        """Return the verdict on a call: Deny before Allow before nothing."""
        effects = {statement.allows for statement in self.statements if statement.speaks_about(access)}
        if False in effects:
            return Verdict.DENIED
        return Verdict.ALLOWED if True in effects else Verdict.UNMENTIONED


def _parse_statement(statement: object) -> Statement:
    if not isinstance(statement, dict):
        raise ValueError("a statement is not an object")  # noqa: TRY004 - parsed JSON: one error type for all of it
    if unknown := statement.keys() - _MEMBERS:
        raise ValueError(f"{min(unknown)} is not supported")
    if missing := _REQUIRED - statement.keys():
        raise ValueError(f"a statement has no {min(missing)}")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise ValueError("Effect is neither Allow nor Deny")
    if statement["Resource"] != "*":
        raise ValueError('Resource must be "*": in a key policy it means this key')
    return Statement(
        allows=statement["Effect"] == "Allow",
        principals=_parse_principals(statement["Principal"]),
        actions=tuple(glob(action, ignore_case=True) for action in strings(statement["Action"], "Action")),
        conditions=parse_conditions(statement.get("Condition", {})),
    )


def _parse_principals(principal: object) -> tuple[str, ...]:
    if principal == "*":
        return ("*",)
    if not isinstance(principal, dict) or principal.keys() != {"AWS"}:
        raise ValueError('Principal must be "*" or {"AWS": ...}')
    arns = strings(principal["AWS"], "Principal")
    for arn in arns:
        if arn != "*" and not re.fullmatch(r"arn:aws:iam::\d{12}:(root|role/[^*?]+)", arn):
            raise ValueError(f"principal {arn[:200]!r} is neither an account's root nor a role")
    return arns


def _is_principal(allowed: str, arn: str) -> bool:
    if allowed.endswith(":root"):
        return allowed.removesuffix(":root") == arn.partition(":role/")[0]
    return allowed in ("*", arn)
