"""One condition of a policy statement, and whether it holds (IAM User Guide, "Condition operators").

Keys compare without case, values with it. The rules on an absent key are AWS's, surprises included: a negated operator,
`...IfExists` and `ForAllValues:` all hold when the key is absent. Where this module cannot tell, it says None, and the
linter takes the worse: an Allow may hold, a Deny may not.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

RECIPIENT_PREFIX: Final = "kms:recipientattestation:"
CONTEXT_PREFIX: Final = "kms:encryptioncontext:"
CONTEXT_KEYS_KEY: Final = "kms:encryptioncontextkeys"
PRINCIPAL_ARN_KEY: Final = "aws:principalarn"

_NULL: Final = "Null"
_EXACT: Final = frozenset({"StringEquals", "StringNotEquals"})
_ANY_CASE: Final = frozenset({"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Bool"})
_GLOB: Final = frozenset({"StringLike", "StringNotLike", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"})
_COMPARED: Final = _EXACT | _ANY_CASE | _GLOB
# These exist, but say nothing about a measurement, a context or an ARN.
_ELSEWHERE: Final = re.compile(
    r"(Numeric|Date)(Equals|NotEquals|LessThan|LessThanEquals|GreaterThan|GreaterThanEquals)"
    r"|BinaryEquals|IpAddress|NotIpAddress"
)
_OPERATOR: Final = re.compile(r"(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?")
_REGISTER: Final = re.compile(r"kms:recipientattestation:(?:(imagesha384)|pcr([0-9]|[12][0-9]|3[01]))", re.ASCII)
_NITRO_TPM: Final = re.compile(r"kms:recipientattestation:nitrotpmpcr([0-9]|1[0-9]|2[0-3])", re.ASCII)
# AWS KMS Developer Guide, "AWS KMS condition keys"; keys of aws: are too many and too new to list.
_KMS_KEY: Final = re.compile(
    r"kms:(?:"
    r"bypasspolicylockoutsafetycheck|calleraccount|customermasterkeyspec|customermasterkeyusage"
    r"|datakeypairspec|encryptionalgorithm|encryptioncontextkeys|expirationmodel|grantconstrainttype"
    r"|grantisforawsresource|grantoperations|granteeprincipal|keyagreementalgorithm|keyorigin|keyspec"
    r"|keyusage|macalgorithm|messagetype|multiregion|multiregionkeytype|primaryregion|reencryptonsamekey"
    r"|replicaregion|requestalias|resourcealiases|retiringprincipal|rotationperiodindays"
    r"|scheduledeletionpendingwindowindays|signingalgorithm|validto|viaservice|wrappingalgorithm"
    r"|wrappingkeyspec"
    r")"
)
_AWS_KEY: Final = re.compile(r"aws:[a-z0-9]+(?:/.+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key: `written` and `name` as in the policy, `key` in lower case, `operator` bare."""

    written: str
    key: str
    name: str
    qualifier: str | None
    operator: str
    if_exists: bool
    values: tuple[str, ...]

    @classmethod
    def of(cls, name: str, key: str, values: tuple[str, ...]) -> Self:
        """Take the operator apart; one that is none keeps its whole name."""
        match = _OPERATOR.fullmatch(name)
        qualifier, operator, suffix = match.groups() if match else (None, name, None)
        # Only ASCII folds: to AWS a Kelvin sign is no K.
        return cls(key, key.lower() if key.isascii() else key, name, qualifier, operator, suffix is not None, values)

    @property
    def negated(self) -> bool:
        """Tell whether the operator holds when nothing matches."""
        return "Not" in self.operator

    @property
    def is_null(self) -> bool:
        """Tell whether this asks for presence alone."""
        return self.operator == _NULL

    @property
    def operator_exists(self) -> bool:
        """Tell whether IAM has this operator; Null takes neither qualifier nor suffix."""
        if self.is_null:
            return self.name == _NULL
        return self.operator in _COMPARED or _ELSEWHERE.fullmatch(self.operator) is not None

    @property
    def key_exists(self) -> bool:
        """Tell whether AWS KMS sets this key in any request."""
        if self.key.startswith(RECIPIENT_PREFIX):
            return self.register is not None or self.is_nitro_tpm
        named = self.key.startswith(CONTEXT_PREFIX) and self.key != CONTEXT_PREFIX
        return named or _KMS_KEY.fullmatch(self.key) is not None or _AWS_KEY.fullmatch(self.key) is not None

    @property
    def register(self) -> int | None:
        """The PCR this is about; ImageSha384 is PCR0. None: about something else."""
        match = _REGISTER.fullmatch(self.key)
        if match is None:
            return None
        return 0 if match[1] else int(match[2])

    @property
    def is_nitro_tpm(self) -> bool:
        """Tell whether this is about an EC2 instance's TPM, which attests no enclave."""
        return _NITRO_TPM.fullmatch(self.key) is not None

    @property
    def loose_values(self) -> tuple[str, ...]:
        """The values that stand for more than themselves: wildcards where they count, and policy variables."""
        wild = "*?" if self.operator in _GLOB else ""
        return tuple(value for value in self.values if "${" in value or any(letter in value for letter in wild))

    @property
    def finite(self) -> bool:
        """Tell whether a key that is present must have one of the listed values."""
        compared = self.operator in _COMPARED and self.operator_exists
        return compared and not self.negated and not self.loose_values

    def holds(self, present: frozenset[str] | None) -> bool | None:
        """Tell whether this holds for a request with these values of the key; None: absent."""
        if self.is_null and self.operator_exists:
            return str(present is None).lower() in {value.lower() for value in self.values}
        if self.operator not in _COMPARED:
            return None
        if present is None:
            return self._holds_when_absent()
        fits = [self._fits(value) for value in present]
        return _any(fits) if self.qualifier == "ForAnyValue" else _all(fits)

    def _holds_when_absent(self) -> bool:
        if self.qualifier is not None:
            return self.qualifier == "ForAllValues" or self.if_exists
        return self.if_exists or self.negated

    def _fits(self, value: str) -> bool | None:
        matches = any(self._matches(listed, value) for listed in self.values)
        if not matches and any("${" in listed for listed in self.values):
            return None
        return matches != self.negated

    def _matches(self, listed: str, value: str) -> bool:
        if self.operator in _GLOB:
            return glob(listed, value)
        return listed.lower() == value.lower() if self.operator in _ANY_CASE else listed == value


def glob(pattern: str, text: str) -> bool:
    """Tell whether IAM's wildcards match: `*` is any run of characters, `?` any one; in time of the product of both."""
    at, star, resume = 0, -1, 0
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume, at = at, position, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""


def _any(verdicts: list[bool | None]) -> bool | None:
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _all(verdicts: list[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True
