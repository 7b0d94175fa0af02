"""A verification while it runs: a plan of checks, of which each ends as PASS, FAIL or SKIP, and none is forgotten."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from ephemeral.errors import (
    AttestationError,
    EphemeralError,
    EvidenceError,
    ManifestError,
    PolicyError,
    ReceiptError,
    SessionError,
)
from ephemeral.verification import VerificationStep
from ephemeralml.explain import check_text
from ephemeralml.fixes import fix_of
from ephemeralml.report import Check, Report, Verdict

_RECEIPT_LAYERS: Final = {0: "receipt.form", 1: "receipt.form", 2: "receipt.signature", 3: "receipt.claims"}
_RECEIPT_CLAIMS: Final = {
    "TIMESTAMP_FUTURE": "iat",
    "TIMESTAMP_STALE": "iat",
    "MODEL_ID_MISMATCH": "model_id",
    "MODEL_HASH_MISMATCH": "model_hash",
    "REQUEST_HASH_MISMATCH": "request_hash",
    "RESPONSE_HASH_MISMATCH": "response_hash",
    "ATTESTATION_DOC_HASH_MISMATCH": "attestation_doc_hash",
    "MEASUREMENTS_MISMATCH": "measurements",
    "SEQUENCE_MISMATCH": "sequence_number",
    "SECURITY_MODE_MISMATCH": "security_mode",
    "EVALUATION_MODE_REJECTED": "security_mode",
    "PLATFORM_MISMATCH": "measurements",
    "NONCE_MISSING": "eat_nonce",
    "NONCE_MISMATCH": "eat_nonce",
    "REPLAY_CTI": "cti",
}
# The two modes of receipts made before AIR v1 was frozen; conforming ones say production or evaluation.
_PRE_FREEZE: Final = frozenset({"UNKNOWN_SECURITY_MODE:GatewayOnly", "UNKNOWN_SECURITY_MODE:ShieldMode"})
# Verdicts on what was shown; that nothing answers is none.
_VERDICTS: Final = (AttestationError, EvidenceError, ManifestError, PolicyError, ReceiptError, SessionError)
# Errors that can come before the check they belong to is next in the plan.
_OUT_OF_ORDER: Final = {
    "BAD_CLIENT_HELLO": "session.hello",
    "NO_COMMON_SUITE": "session.hello",
    "BAD_SERVER_HELLO": "session.hello",
    "POLICY_EXPIRED": "ATT-07",
}
_NOT_REACHED: Final = "not reached: an earlier check failed"


class Examination:
    """Collects the checks of one verification in the order of a plan."""

    def __init__(self, subject: str, plan: Sequence[str], *, optional: Collection[str] = ()) -> None:
        """Plan checks by id; all but the `optional` ones are required."""
        self._subject = subject
        self._plan = tuple(plan)
        self._optional = set(optional)
        self._steps: dict[str, list[VerificationStep]] = {}
        self._skips: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.proven: list[str] = []
        self.not_proven: list[str] = []

    def took(self, steps: Iterable[VerificationStep]) -> None:
        """Record checks that passed elsewhere."""
        for step in steps:
            self._steps.setdefault(step.id, []).append(step)

    def passed(self, check: str, compared: str) -> None:
        """Record one check that passed here."""
        self.took([VerificationStep(check, check_text(check).title, compared)])

    def skip(self, check: str, reason: str, *, optional: bool | None = None) -> None:
        """Leave a check out, and say why; `optional` makes it one that is not required here."""
        self._skips[check] = reason
        if optional:
            self._optional.add(check)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the checks; an error that leaves the block carries the report up to the check that failed."""
        try:
            yield
        except _VERDICTS as error:
            known = {step for steps in self._steps.values() for step in steps}
            self.took(step for step in error.steps if step not in known)
            error.report = self._report(error)
            raise

    def finish(self) -> Report:
        """Return the report.

        Raises:
            EvidenceError: a required check was skipped.
        """
        report = self._report(None)
        report.require()
        return report

    def _report(self, error: EphemeralError | None) -> Report:
        failures = {} if error is None else self._failures(error)
        checks = (check for planned in self._ids(failures) for check in self._checks(planned, failures))
        pre_freeze = isinstance(error, ReceiptError) and not _PRE_FREEZE.isdisjoint(error.failures)
        proven, not_proven = tuple(self.proven), tuple(self.not_proven)
        return Report(self._subject, tuple(checks), self.facts, proven, not_proven, pre_freeze)

    def _ids(self, failures: Mapping[str, object]) -> Iterable[str]:
        """The plan, then whatever else was checked."""
        return dict.fromkeys([*self._plan, *self._steps, *failures])

    def _checks(self, planned: str, failures: Mapping[str, list[Check]]) -> Iterator[Check]:
        text, required = check_text(planned), planned not in self._optional
        steps = self._steps.get(planned, ())
        for step in steps:
            yield Check(planned, Verdict.PASS, step.title, step.detail, text.why, required=required)
        if planned in failures:
            yield from failures[planned]
        elif not steps:
            reason = self._skips.get(planned, _NOT_REACHED if failures else "not checked")
            fix = "mend what failed first." if reason is _NOT_REACHED else text.get_checked
            yield Check(planned, Verdict.SKIP, text.title, reason, text.why, fix, required=required)

    def _failures(self, error: EphemeralError) -> dict[str, list[Check]]:
        if isinstance(error, ReceiptError) and error.failures:
            found: dict[str, list[Check]] = {}
            for code in error.failures:
                planned, compared = _receipt_failure(error, code)
                found.setdefault(planned, []).append(self._failure(planned, code, compared))
            return found
        planned = _OUT_OF_ORDER.get(error.code) or self._first_open()
        return {planned: [self._failure(planned, error.code, error.detail)]}

    def _first_open(self) -> str:
        """Checks are made in the order of the plan: the one that failed is the first neither done nor left out."""
        undone = (planned for planned in self._plan if planned not in self._steps and planned not in self._skips)
        return next(undone, self._plan[-1])

    def _failure(self, planned: str, code: str, compared: str) -> Check:
        text = check_text(planned)
        required = planned not in self._optional
        return Check(planned, Verdict.FAIL, text.title, compared, text.why, fix_of(code), code, required=required)


def _receipt_failure(error: ReceiptError, code: str) -> tuple[str, str]:
    """Return which check a code of a receipt belongs to, and what was compared."""
    claim = _RECEIPT_CLAIMS.get(code)
    if error.layer < 4 or claim is None:
        return _RECEIPT_LAYERS.get(error.layer, "receipt.claims"), f"layer {error.layer} of AIR v1 refuses it"
    return f"receipt.{claim}", f"what the receipt says in {claim} is not what it must be here"
