"""Verifications as lines a person reads and a program can match."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click

from ephemeral.errors import EphemeralError
from ephemeral.verification import VerificationStep
from ephemeralml.report import Outcome, Report, Verdict, report_of

_COLOURS: Final = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.SKIP: "yellow"}


def show_steps(steps: Sequence[VerificationStep]) -> None:
    """Print one PASS line per step, short."""
    for step in steps:
        click.echo(f"{click.style('PASS', fg='green')}  {step.id:<8} {step.title}: {step.detail}")


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Print the report that an error leaving the block carries; the error goes on to say its own line."""
    try:
        yield
    except EphemeralError as error:
        report = report_of(error)
        if report is not None:
            show_report(report, as_json=as_json)
        raise


def show_report(report: Report, *, as_json: bool = False) -> None:
    """Print one line per check, what the subject says, what is proven and what is not, and the summary."""
    if as_json:
        show_json(report.as_json())
        return
    width = max(len(check.id) for check in report.checks)
    for check in report.checks:
        click.echo(f"{click.style(check.verdict, fg=_COLOURS[check.verdict])}  {check.id:<{width}}  {check.text}")
    verified = report.outcome is Outcome.VERIFIED
    for name, value in report.facts.items():
        click.echo(f"says: {name}: {value}")
    for sentence in report.proven if verified else ():
        click.echo(f"proven: {sentence}")
    for sentence in report.not_proven:
        click.echo(f"not proven: {sentence}")
    click.secho(report.summary, fg="green" if verified else "red")


def show_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
