"""The record a verification leaves behind: one step per check that passed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VerificationStep:
    """One check that passed: a stable id for programs, a title and what was compared, in words, for people."""

    id: str
    title: str
    detail: str
