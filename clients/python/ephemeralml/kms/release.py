"""Allow statements on Decrypt: do they let in the enclaves of whole builds, and nobody else?

Statements are alternatives, so each must hold by itself. What a statement says about one register is worked out from
all its conditions on it: whether the register may be absent, and whether it may be anything.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Final

from ephemeral.trusted.policy import Measurements
from ephemeralml.kms.condition import Condition
from ephemeralml.kms.rules import RULES
from ephemeralml.kms.statement import POLICY, Finding, Statement

DECRYPT: Final = "kms:Decrypt"
IMAGE_REGISTERS: Final = (0, 1, 2)
_MEASUREMENT: Final = re.compile(r"[0-9a-f]{96}", re.ASCII)
_MOST_COMBINATIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Pin:
    """What one statement says about one register: `values` (lower-case hex) are all that may be, unless it is loose."""

    conditions: tuple[Condition, ...]
    values: frozenset[str]
    may_be_absent: bool
    may_be_anything: bool

    @classmethod
    def of(cls, statement: Statement, register: int) -> "Pin":
        """Work out the pin of a register in a statement."""
        conditions = tuple(item for item in statement.on_recipient if item.register == register)
        listed = {value.lower() for item in conditions if item.finite for value in item.values}
        return cls(
            conditions,
            # KMS's own values are in lower case: an upper-case one under StringEquals is met by none of them.
            frozenset(value for value in listed if all(_may(item, value) for item in conditions)),
            may_be_absent=all(item.holds(None) is not False for item in conditions),
            may_be_anything=not any(item.finite for item in conditions),
        )

    @property
    def tight(self) -> bool:
        """Tell whether this register must be there, with one of `values`."""
        return not self.may_be_absent and not self.may_be_anything


def pins_whole_builds(statement: Statement) -> bool:
    """Tell whether the statement pins all of PCR0, PCR1 and PCR2."""
    return all(Pin.of(statement, register).tight for register in IMAGE_REGISTERS)


def check_release(statement: Statement) -> Iterator[Finding]:
    """Find what an Allow on Decrypt lets in beside the enclaves of whole builds."""
    tpm = [item.written for item in statement.conditions if item.is_nitro_tpm]
    if tpm:
        yield _finding("KMS-011", statement, tpm[0])
    if not statement.on_recipient:
        yield _finding("KMS-001", statement, "no condition on kms:RecipientAttestation:PCR0, PCR1, PCR2")
        return
    registers = {item.register for item in statement.on_recipient if item.register is not None}
    for register in sorted(registers | set(IMAGE_REGISTERS)):
        yield from _check_register(statement, register)
    several = [index for index in IMAGE_REGISTERS if len(Pin.of(statement, index).values) > 1]
    if len(several) > 1:
        yield _finding("KMS-006", statement, f"{', '.join(f'PCR{index}' for index in several)} have lists of values")


def _check_register(statement: Statement, register: int) -> Iterator[Finding]:
    pin, name = Pin.of(statement, register), f"PCR{register}"
    if not pin.conditions:
        yield _finding("KMS-005", statement, f"{name} is not pinned")
        return
    if not pin.tight:
        for rule, item in _loose(pin):
            yield _finding(rule, statement, f"{item.name} on {item.written}")
    listed = {value for item in pin.conditions if not item.is_null and not item.negated for value in item.values}
    for value in sorted(listed):
        if value and set(value) == {"0"}:
            yield _finding("KMS-007", statement, f"{name} is zero")
        elif not _can_match(pin, value):
            yield _finding("KMS-008", statement, f"{name} {value[:16]!r}… of {len(value)} characters")


def _loose(pin: Pin) -> Iterator[tuple[str, Condition]]:
    """Yield the rules that say why a register may be absent or anything; an unknown operator is reported elsewhere."""
    causes = [
        ("KMS-010", [item for item in pin.conditions if item.is_null and item.holds(None) is True]),
        ("KMS-004", [item for item in pin.conditions if item.loose_values and pin.may_be_anything]),
        ("KMS-009", [item for item in pin.conditions if item.negated]),
        ("KMS-002", [item for item in pin.conditions if item.if_exists and pin.may_be_absent]),
        ("KMS-003", [item for item in pin.conditions if item.qualifier == "ForAllValues" and pin.may_be_absent]),
    ]
    found = [(rule, item) for rule, items in causes for item in items]
    judged = all(item.holds(None) is not None for item in pin.conditions)
    yield from found or ([("KMS-012", pin.conditions[0])] if judged else [])


def _can_match(pin: Pin, value: str) -> bool:
    """Tell whether a listed value is one that KMS can come with, wildcards and variables aside."""
    if any(value in item.loose_values for item in pin.conditions):
        return True
    return _MEASUREMENT.fullmatch(value.lower()) is not None and (value.lower() in pin.values or pin.may_be_anything)


def check_builds(statements: Sequence[Statement], builds: Sequence[Measurements]) -> Iterator[Finding]:
    """Compare what is released to with the builds that should be."""
    releases = [item for item in statements if item.allows and item.covers(DECRYPT)]
    for statement in releases:
        if pins_whole_builds(statement):
            yield from _unlisted(statement, builds)
    for build in builds:
        if not any(_may_hold(statement, build) for statement in releases) or _denied(statements, build):
            detail = f"{build.label or 'the build'!r:.100}, PCR0 {build.pcr0.hex()[:16]}…"
            yield Finding(RULES["KMS-502"], POLICY, detail)


def _unlisted(statement: Statement, builds: Sequence[Measurements]) -> Iterator[Finding]:
    pins = [sorted(Pin.of(statement, index).values) for index in IMAGE_REGISTERS]
    for combination in islice(product(*pins), _MOST_COMBINATIONS):
        same = [build for build in builds if [build.pinned[index].hex() for index in IMAGE_REGISTERS] == [*combination]]
        if not any(_as_narrow(statement, build) for build in same):
            detail = "without its PCR3, PCR4 or PCR8" if same else "unknown"
            yield _finding("KMS-501", statement, f"PCR0 {combination[0][:16]}… is {detail}")


def _as_narrow(statement: Statement, build: Measurements) -> bool:
    extra = {index: value.hex() for index, value in build.pinned.items() if index not in IMAGE_REGISTERS}
    pins = {index: Pin.of(statement, index) for index in extra}
    return all(pin.tight and pin.values == {extra[index]} for index, pin in pins.items())


def _may_hold(statement: Statement, build: Measurements) -> bool:
    return all(_verdict(item, build) is not False for item in statement.on_recipient)


def _denied(statements: Sequence[Statement], build: Measurements) -> bool:
    """Tell whether a Deny surely stops an enclave of this build, whoever asks."""
    return any(
        item.effective
        and item.principals.everyone
        and item.covers(DECRYPT)
        and all(condition.register is not None and _verdict(condition, build) is True for condition in item.conditions)
        for item in statements
        if not item.allows
    )


def _verdict(condition: Condition, build: Measurements) -> bool | None:
    """Evaluate a condition for an enclave of the build; a register that the build does not pin may be anything."""
    value = build.pinned.get(condition.register or 0)
    return None if value is None else condition.holds(frozenset({value.hex()}))


def _may(condition: Condition, value: str) -> bool:
    return condition.holds(frozenset({value})) is not False


def _finding(rule: str, statement: Statement, detail: str) -> Finding:
    return Finding(RULES[rule], statement.name, detail)
