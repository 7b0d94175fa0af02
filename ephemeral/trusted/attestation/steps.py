"""The checks of a verification, numbered once for all, and the record of those that passed."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from ephemeral.errors import AttestationError
from ephemeral.verification import VerificationStep


class Check(Enum):
    """Every check by its stable id; an id is never used again for something else."""

    FORMAT = ("ATT-01", "Document format")
    ROOT = ("ATT-02", "Root of trust")
    CHAIN = ("ATT-03", "Certificate chain")
    SIGNATURE = ("ATT-04", "Signature")
    TIME = ("ATT-05", "Time")
    NOT_DEBUG = ("ATT-06", "Not a debug enclave")
    MEASUREMENTS = ("ATT-07", "Measurements")
    NONCE = ("ATT-08", "Nonce")
    PURPOSE = ("ATT-09", "Purpose and bound digests")
    RECEIPT_KEY = ("ATT-10", "Receipt key")
    RECIPIENT_KEY = ("ATT-11", "Recipient key")


class StepRecord:
    """The checks that passed so far, in order."""

    def __init__(self) -> None:
        self._steps: Final[list[VerificationStep]] = []

    def passed(self, check: Check, text: str, *values: object) -> None:
        """Record that `check` passed; `text` and `values` say what was compared, as in VerificationStep."""
        identifier, title = check.value
        self._steps.append(VerificationStep(identifier, title, text, values))

    @property
    def steps(self) -> tuple[VerificationStep, ...]:
        """What passed, in order."""
        return tuple(self._steps)


@contextmanager
def recording() -> Iterator[StepRecord]:
    """Record steps; an AttestationError that leaves the block carries them."""
    record = StepRecord()
    try:
        yield record
    except AttestationError as error:
        error.steps = record.steps
        raise
