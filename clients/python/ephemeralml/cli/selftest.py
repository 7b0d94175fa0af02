"""``ephemeralml selftest``: show that this installation refuses what it must."""

import sys
from typing import Final

import click

from ephemeralml.cli.steps import show_json
from ephemeralml.selftest import FAMILIES, Case, Outcome, Summary, load, run_case

_CODE_WIDTH: Final = 28


@click.command()
@click.option("--family", "-f", type=click.Choice(FAMILIES), multiple=True, help="Only this family; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def selftest(family: tuple[str, ...], *, as_json: bool) -> None:
    """Run the refusal pack: inputs that are wrong in one way each, and must be refused for exactly that.

    Needs no network. Exit code 0: every one was refused with its own code, and every sound control was accepted.
    """
    cases = [case for name in family or FAMILIES for case in load(name)]
    outcomes = _quietly(cases) if as_json else [_shown(run_case(case)) for case in cases]
    summary = Summary.of(outcomes)
    if as_json:
        show_json(_json(outcomes, summary))
    else:
        click.echo(summary)
    if not summary.passed:
        raise click.ClickException("the verifiers of this installation do not refuse what they must")


def _quietly(cases: list[Case]) -> list[Outcome]:
    with click.progressbar(cases, label="refusal pack", file=sys.stderr, hidden=not sys.stderr.isatty()) as progress:
        return [run_case(case) for case in progress]


def _shown(outcome: Outcome) -> Outcome:
    case, refusal = outcome.case, outcome.refusal
    name = f"{case.family}/{case.name}"
    verdict, code = ("ACCEPTED", "") if refusal is None else ("REFUSED", refusal.code)
    if outcome.as_expected:
        head = click.style(f"{verdict:<8}", fg="green")
        click.echo(f"{head}  {code:<{_CODE_WIDTH}}  {name} — {case.says}")
    else:
        wanted = f"REFUSED {case.expected.error} {case.expected.code}" if case.expected else "ACCEPTED"
        got = f"{verdict} {refusal.error} {refusal.code}" if refusal else verdict
        click.echo(f"{click.style('WRONG   ', fg='red')}  {got}, must be {wanted}: {name} — {case.says}")
    return outcome


def _json(outcomes: list[Outcome], summary: Summary) -> dict[str, object]:
    return {
        "verdict": "PASSED" if summary.passed else "FAILED",
        "cases": summary.cases,
        "refused": summary.refused,
        "accepted_wrongly": summary.accepted_wrongly,
        "refused_otherwise": summary.refused_otherwise,
        "controls": summary.controls,
        "controls_accepted": summary.controls_accepted,
        "outcomes": [_row(outcome) for outcome in outcomes],
    }


def _row(outcome: Outcome) -> dict[str, object]:
    case, refusal = outcome.case, outcome.refusal
    return {
        "family": case.family,
        "name": case.name,
        "threat": case.threat,
        "says": case.says,
        "expected": case.expected.code if case.expected else None,
        "code": refusal.code if refusal else None,
        "error": refusal.error if refusal else None,
        "verdict": "ACCEPTED" if refusal is None else "REFUSED",
        "as_expected": outcome.as_expected,
    }
