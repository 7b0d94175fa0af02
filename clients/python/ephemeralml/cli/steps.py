"""Verifications as lines a person reads and a program can match."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import click

from ephemeral.errors import EphemeralError
from ephemeral.verification import VerificationStep
from ephemeralml.report import Outcome, Report, Verdict, report_of

_NOTHING: Final = {
    Outcome.REFUSED: "nothing: a check failed; each PASS says only what it compared.",
    Outcome.INCOMPLETE: "nothing as a whole: required checks were skipped; each PASS says only what it compared.",
    Outcome.PRE_FREEZE: "the holder of the key signed these claims; not that they mean what AIR v1 says.",
}
_COLOURS: Final = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.SKIP: "yellow"}


class Source(NamedTuple):
    """A file that a verdict rests on, named so that a record of it can be matched with the file years later."""

    role: str
    path: str
    identity: str


class Given(NamedTuple):
    """The files that a command was given, and a hint for whoever gave the wrong one."""

    sources: tuple[Source, ...] = ()
    note: str = ""


_NO_FILES: Final = Given()


def show_steps(steps: Sequence[VerificationStep]) -> None:
    """Print one PASS line per step, short."""
    for step in steps:
        click.echo(f"{click.style('PASS', fg='green')}  {step.id:<8} {step.title}: {step.detail}")


@contextmanager
def reporting(given: Given = _NO_FILES, *, as_json: bool) -> Iterator[None]:
    """Print the report that an error leaving the block carries; the error goes on to say its own line."""
    try:
        yield
    except EphemeralError as error:
        report = report_of(error)
        if report is not None:
            show_report(report, given, as_json=as_json)
        raise


def show_report(report: Report, given: Given = _NO_FILES, *, as_json: bool = False) -> None:
    """Print what was given, one line per check, what the subject says, what is proven and what not, and the summary."""
    verified = report.outcome is Outcome.VERIFIED
    note = "" if verified else given.note
    if as_json:
        show_json({"given": [source._asdict() for source in given.sources], **report.as_json(), "note": note})
        return
    for source in given.sources:
        click.echo(f"given: {source.role} {source.path}: {source.identity}")
    width = max(len(check.id) for check in report.checks)
    for check in report.checks:
        click.echo(f"{click.style(check.verdict, fg=_COLOURS[check.verdict])}  {check.id:<{width}}  {check.text}")
    for name, value in report.facts.items():
        click.echo(f"says: {name}: {value}")
    for sentence in report.proven if verified else (_NOTHING[report.outcome],):
        click.echo(f"proven: {sentence}")
    for sentence in report.not_proven:
        click.echo(f"not proven: {sentence}")
    if note:
        click.echo(f"note: {note}")
    click.secho(report.summary, fg="green" if verified else "red")


def show_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
