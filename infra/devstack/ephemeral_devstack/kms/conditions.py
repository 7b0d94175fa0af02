"""Condition elements of a key policy (IAM User Guide, "Condition operators" and "Multivalued context keys").

Keys compare without case, values with it. The rules on an absent key are AWS's, surprises included: a negated operator,
`...IfExists` and `ForAllValues:` all hold when the key is absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NULL: Final = "Null"
_NEGATED: Final = frozenset({"StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike"})
_EXACT: Final = frozenset({"StringEquals", "StringNotEquals"})
_ANY_CASE: Final = frozenset({"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Bool"})
_WILDCARD: Final = frozenset({"StringLike", "StringNotLike"})
_OPERATOR: Final = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")
_MULTIVALUED: Final = "kms:encryptioncontextkeys"
_KNOWN_KEY: Final = re.compile(
    r"kms:RecipientAttestation:(ImageSha384|PCR(\d|[12]\d|3[01]))"
    r"|kms:EncryptionContext:.+|kms:EncryptionContextKeys|kms:CallerAccount|aws:PrincipalArn|aws:SecureTransport",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one condition key."""

    key: str
    operator: str
    qualifier: str | None
    if_exists: bool
    values: tuple[re.Pattern[str], ...]

    def holds(self, keys: Mapping[str, frozenset[str]]) -> bool:
        """Tell whether a request that sets `keys` (named in lower case) meets this condition."""
        present = keys.get(self.key)
        if self.operator == _NULL:
            return any(value.fullmatch(str(present is None)) for value in self.values)
        if present is None:
            return self._holds_when_absent()
        fits = [self._fits(value) for value in present]
        return any(fits) if self.qualifier == "ForAnyValue" else all(fits)

    def _holds_when_absent(self) -> bool:
        if self.qualifier is not None:
            return self.qualifier == "ForAllValues" or self.if_exists
        return self.if_exists or self.operator in _NEGATED

    def _fits(self, value: str) -> bool:
        return any(pattern.fullmatch(value) for pattern in self.values) != (self.operator in _NEGATED)


def parse_conditions(block: object) -> tuple[Condition, ...]:
    """Parse a Condition block: every condition in it must hold.

    Raises:
        ValueError: an operator or key this KMS does not know, or operands of the wrong type.
    """
    if not isinstance(block, dict) or not all(isinstance(operands, dict) for operands in block.values()):
        raise ValueError("Condition must map operators to keys and values")
    return tuple(
        _parse_condition(name, key, value) for name, operands in block.items() for key, value in operands.items()
    )


def _parse_condition(name: str, key: str, value: object) -> Condition:
    match = _OPERATOR.fullmatch(name)
    qualifier, operator, if_exists = match.groups() if match else (None, "", None)
    plain = operator == _NULL and (qualifier or if_exists)
    if operator not in {_NULL, *_EXACT, *_ANY_CASE, *_WILDCARD} or plain:
        raise ValueError(f"condition operator {name[:100]} is not supported")
    if not _KNOWN_KEY.fullmatch(key):
        raise ValueError(f"condition key {key[:200]} is not supported")
    if key.lower() == _MULTIVALUED and not qualifier and operator != _NULL:
        raise ValueError(f"{key} has many values: {name} needs ForAllValues: or ForAnyValue:")
    return Condition(key.lower(), operator, qualifier, bool(if_exists), _patterns(operator, name, value))


def _patterns(operator: str, name: str, value: object) -> tuple[re.Pattern[str], ...]:
    if operator in (_NULL, "Bool"):
        texts = strings(str(value).lower() if isinstance(value, bool) else value, name)
        if not {text.lower() for text in texts} <= {"true", "false"}:
            raise ValueError(f"{name} takes true or false")
        return tuple(re.compile(text, re.IGNORECASE) for text in texts)
    texts = strings(value, name)
    if operator in _WILDCARD:
        return tuple(glob(text) for text in texts)
    return tuple(re.compile(re.escape(text), re.IGNORECASE * (operator in _ANY_CASE)) for text in texts)


def glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Compile IAM's wildcards: `*` for any run of characters, `?` for any one."""
    translated = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.compile(translated, re.DOTALL | (re.IGNORECASE if ignore_case else re.NOFLAG))


def strings(value: object, name: str) -> tuple[str, ...]:
    """Return one string or a list of them as a non-empty tuple.

    Raises:
        ValueError: anything else.
    """
    listed = value if isinstance(value, list) else [value]
    texts = tuple(item for item in listed if isinstance(item, str))
    if not texts or len(texts) != len(listed):
        raise ValueError(f"{name} must be a string or a list of strings")
    return texts
