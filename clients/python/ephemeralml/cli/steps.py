"""Verification steps as lines a person reads and a program can match."""

import json
from collections.abc import Sequence

import click

from ephemeral.errors import EphemeralError
from ephemeral.verification import VerificationStep


def show_steps(steps: Sequence[VerificationStep]) -> None:
    """Print one PASS line per step."""
    for step in steps:
        click.echo(f"{click.style('PASS', fg='green')}  {step.id:<8} {step.title}: {step.detail}")


def show_failure(error: EphemeralError) -> None:
    """Print the steps that passed before `error`, then why the next one failed."""
    show_steps(getattr(error, "steps", ()))
    click.echo(f"{click.style('FAIL', fg='red')}  {error.code}: {error.detail}")


def steps_json(steps: Sequence[VerificationStep]) -> list[dict[str, str]]:
    """Return the steps for --json."""
    return [{"id": step.id, "title": step.title, "detail": step.detail, "verdict": "PASS"} for step in steps]


def show_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
