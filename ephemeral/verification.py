"""The record a verification leaves behind: one step per check that passed."""

from typing import NamedTuple


class VerificationStep(NamedTuple):
    """One check that passed: a stable id for programs, a title and what was compared, in words, for people.

    The words are put together when somebody reads them: verifying for a session or an answer is done far more often.
    `text` is for `str.format` if there are `values`; these do not change, and bytes among them are read as hex.
    """

    id: str
    title: str
    text: str
    values: tuple[object, ...] = ()

    @property
    def detail(self) -> str:
        """What was compared, in words."""
        if not self.values:
            return self.text
        return self.text.format(*[value.hex() if isinstance(value, bytes) else value for value in self.values])
