"""Running cases: what came of each, and of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ephemeral.errors import EphemeralError
from ephemeralml.selftest.pack import Case, Expected
from ephemeralml.selftest.verifiers import VERIFIERS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verifier made of a case: `refusal` is None if it accepted the input."""

    case: Case
    refusal: Expected | None

    @property
    def as_expected(self) -> bool:
        """Whether it is exactly the error, code included, or the acceptance that it must be."""
        return self.refusal == self.case.expected

    @property
    def accepted_wrongly(self) -> bool:
        """Whether something that must be refused was accepted."""
        return self.refusal is None and self.case.expected is not None


def run_case(case: Case) -> Outcome:
    """Verify one input; whatever the verifier raises is an outcome."""
    try:
        VERIFIERS[case.family](case.raw, case.context)
    except EphemeralError as error:
        return Outcome(case, Expected(type(error).__name__, error.code))
    except Exception as error:  # noqa: BLE001  # a verifier that crashes on hostile input fails its case, not the run
        return Outcome(case, Expected(type(error).__name__, "CRASHED"))
    return Outcome(case, None)


@dataclass(frozen=True, slots=True)
class Summary:
    """The pack's verdict in numbers: refusals and controls apart."""

    cases: int
    refused: int
    accepted_wrongly: int
    refused_otherwise: int
    controls: int
    controls_accepted: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Self:
        """Count."""
        cases = [outcome for outcome in outcomes if outcome.case.expected is not None]
        controls = [outcome for outcome in outcomes if outcome.case.expected is None]
        refused = sum(outcome.as_expected for outcome in cases)
        wrongly = sum(outcome.accepted_wrongly for outcome in cases)
        accepted = sum(outcome.as_expected for outcome in controls)
        return cls(len(cases), refused, wrongly, len(cases) - refused - wrongly, len(controls), accepted)

    @property
    def passed(self) -> bool:
        """Whether each refusal was the right one and each control was accepted; nothing run is not a pass."""
        return 0 < self.cases == self.refused and 0 < self.controls == self.controls_accepted

    def __str__(self) -> str:
        otherwise = f", {self.refused_otherwise} refused for another reason" if self.refused_otherwise else ""
        return (
            f"{self.cases} cases: {self.refused} refused as they must be, {self.accepted_wrongly} accepted wrongly"
            f"{otherwise}; {self.controls_accepted} of {self.controls} controls accepted"
        )
