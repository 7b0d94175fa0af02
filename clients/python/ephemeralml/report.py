"""A verification as a record that a person can read line by line and a program can match.

A SKIP is never a pass: a report is VERIFIED only when nothing failed and everything that was required has passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ephemeral.errors import EphemeralError, EvidenceError


class Verdict(StrEnum):
    """What became of one check."""

    PASS = "PASS"  # noqa: S105  # a verdict, no password
    FAIL = "FAIL"
    SKIP = "SKIP"


class Outcome(StrEnum):
    """What the checks say together."""

    VERIFIED = "VERIFIED"
    REFUSED = "REFUSED"
    INCOMPLETE = "INCOMPLETE"
    PRE_FREEZE = "pre-freeze: signature valid, profile not conforming"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its stable id, what was compared, why it matters, and how to mend it (empty when it passed).

    `code` names the rule that a FAIL broke; `required` says whether the whole is verified without this check.
    """

    id: str
    verdict: Verdict
    title: str
    compared: str
    why: str
    fix: str = ""
    code: str = ""
    required: bool = True

    @property
    def text(self) -> str:
        """Everything after the id, on one line."""
        compared = f"{self.code}: {self.compared}" if self.code else self.compared
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"{self.title}: {compared}{'' if compared.endswith('.') else '.'} Why: {self.why}{fix}"

    def as_json(self) -> dict[str, object]:
        """Return the same for --json."""
        return {
            "id": self.id,
            "verdict": self.verdict.value,
            "title": self.title,
            "compared": self.compared,
            "why": self.why,
            "fix": self.fix,
            "code": self.code,
            "required": self.required,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one verification in order, and what they do and do not prove together.

    `subject` is what was verified, `facts` what it says (believe them only as far as `outcome` goes), `proven` and
    `not_proven` are sentences for a person.
    """

    subject: str
    checks: tuple[Check, ...]
    facts: Mapping[str, str]
    proven: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = ()
    pre_freeze: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """Return the ids of the checks without which nothing is verified."""
        return tuple(dict.fromkeys(check.id for check in self.checks if check.required))

    @property
    def outcome(self) -> Outcome:
        """What the checks say together."""
        if self.pre_freeze:
            return Outcome.PRE_FREEZE
        if self.having(Verdict.FAIL):
            return Outcome.REFUSED
        missing = [check for check in self.having(Verdict.SKIP) if check.required]
        return Outcome.INCOMPLETE if missing or not self.checks else Outcome.VERIFIED

    def having(self, verdict: Verdict) -> tuple[Check, ...]:
        """Return the checks with this verdict, in order."""
        return tuple(check for check in self.checks if check.verdict is verdict)

    @property
    def summary(self) -> str:
        """The whole on one line; names everything that failed or was skipped."""
        failed = ", ".join(f"{check.id} ({check.code})" for check in self.having(Verdict.FAIL)) or "none"
        skips = (f"{check.id} {check.title}{' (required)' * check.required}" for check in self.having(Verdict.SKIP))
        passed = len(self.having(Verdict.PASS))
        return (
            f"{self.outcome} {self.subject}: {passed} passed; failed: {failed}; skipped: {', '.join(skips) or 'none'}; "
            f"required: {', '.join(self.required) or 'nothing'}"
        )

    def as_json(self) -> dict[str, object]:
        """Return the same content for --json."""
        return {
            "verdict": self.outcome.value,
            "subject": self.subject,
            "summary": self.summary,
            "required": list(self.required),
            "skipped": [check.id for check in self.having(Verdict.SKIP)],
            "checks": [check.as_json() for check in self.checks],
            "facts": dict(self.facts),
            "proven": list(self.proven) if self.outcome is Outcome.VERIFIED else [],
            "not_proven": list(self.not_proven),
        }

    def require(self) -> None:
        """Return if this is VERIFIED.

        Raises:
            EvidenceError: INCOMPLETE; nothing failed, but a required check was skipped. It carries this report.
        """
        if self.outcome is Outcome.VERIFIED:
            return
        missing = ", ".join(f"{check.id} {check.title}" for check in self.having(Verdict.SKIP) if check.required)
        error = EvidenceError(f"nothing failed, but required checks were skipped: {missing}", code="INCOMPLETE")
        error.report = self
        raise error


def report_of(error: EphemeralError) -> Report | None:
    """Return the report up to the check that failed, if a verification raised `error`."""
    return error.report if isinstance(error.report, Report) else None
