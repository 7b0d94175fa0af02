"""``ephemeralml kms``: write the key policy of a model's KMS key, find what is wrong with one, put one in place."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ephemeral.errors import ConfigError
from ephemeralml.cli.options import read_file, write_file
from ephemeralml.cli.steps import show_json
from ephemeralml.kms import Finding, KeyRoles, build_key_policy, lint_policy
from ephemeralml.measurements import read_builds

if TYPE_CHECKING:
    from ephemeralml.kms.apply import KeyPolicySlot

_MAX_FILE_BYTES: Final = 262_144
_PATH: Final = click.Path(path_type=Path)
_COLOURS: Final = {"+": "green", "-": "red"}
_UNSAFE: Final = "--unsafe-accept-findings"


@click.group()
def kms() -> None:
    """KMS key policies: who gets a model's data key, and who must not."""


@kms.command()
@click.option(
    "--measurements",
    "-m",
    "sources",
    required=True,
    multiple=True,
    type=_PATH,
    metavar="FILE",
    help="Accepted builds: nitro-cli's JSON or a trust policy (TOML); may be repeated.",
)
@click.option("--host-role", required=True, metavar="ARN", help="Role of the hosts: they ask for their enclaves.")
@click.option("--publisher-role", required=True, metavar="ARN", help="Role that makes data keys for new models.")
@click.option("--admin-role", required=True, metavar="ARN", help="Role that keeps the key, and opens nothing.")
@click.option("--model", "models", required=True, multiple=True, metavar="ID", help="A model id; may be repeated.")
@click.option("--out", "-o", type=_PATH, metavar="FILE", help="Write here instead of to standard output.")
def policy(
    sources: tuple[Path, ...],
    host_role: str,
    publisher_role: str,
    admin_role: str,
    models: tuple[str, ...],
    out: Path | None,
) -> None:
    """Write the key policy: data keys go to the enclaves of these builds, and to nobody else."""
    builds = read_builds(sources)
    text = build_key_policy(builds, KeyRoles(host_role, publisher_role, admin_role), models)
    if out is None:
        click.echo(text)
        return
    write_file(out, "the key policy", text.encode() + b"\n")
    names = ", ".join(build.label for build in builds)
    click.echo(f"wrote {out}: {len(models)} models, released to {names}")


@kms.command()
@click.argument("file", type=_PATH)
@click.option(
    "--measurements", "-m", "sources", multiple=True, type=_PATH, metavar="FILE", help="Builds it should accept."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def lint(file: Path, sources: tuple[Path, ...], *, as_json: bool) -> None:
    """Find every way around the attestation in the key policy in FILE.

    Exit code 0: there is none that this linter knows. It judges the key policy alone: grants that exist already, and
    what IAM says in accounts that the policy names, are not in it.
    """
    findings = lint_policy(_read(file), read_builds(sources))
    if as_json:
        rows = [_row(finding) for finding in findings]
        show_json({"verdict": "FINDINGS" if findings else "CLEAN", "compared": bool(sources), "findings": rows})
    else:
        _show(findings)
        if not sources:
            click.echo("SKIP  which builds it accepts was not compared: give --measurements")
    _refuse(findings)


@kms.command()
@click.argument("file", type=_PATH)
@click.option("--key", "key_arn", required=True, metavar="ARN", help="The KMS key, by ARN.")
@click.option("--endpoint-url", metavar="URL", help="Another KMS than AWS's, such as the development stack's.")
@click.option(
    "--measurements", "-m", "sources", multiple=True, type=_PATH, metavar="FILE", help="Builds it should accept."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(_UNSAFE, "unsafe", is_flag=True, help="Put it in place whatever was found. For experiments.")
def apply(
    file: Path, key_arn: str, endpoint_url: str | None, sources: tuple[Path, ...], *, yes: bool, unsafe: bool
) -> None:
    """Put the key policy in FILE in place, after showing what changes.

    A policy with findings is refused. Credentials and the like are boto3's own: AWS_PROFILE and the other AWS_*.
    """
    text = _read(file)
    findings = lint_policy(text, read_builds(sources))
    if findings:
        _show(findings)
        if not unsafe:
            _refuse(findings)
        click.secho(f"UNSAFE: {_UNSAFE} was given: whoever the findings name can read data keys", fg="red", err=True)
    slot = _slot(key_arn, endpoint_url)
    if _show_difference(slot.read(), text):
        if not yes:
            click.confirm(f"replace the policy of {key_arn}?", abort=True)
        slot.put(text)
    click.echo(f"in place: {key_arn} has the policy of {file}")


def _slot(key_arn: str, endpoint_url: str | None) -> "KeyPolicySlot":
    try:
        from ephemeralml.kms.apply import KeyPolicySlot  # noqa: PLC0415 - boto3 comes with the extra `aws` alone
    except ImportError:
        text = "this needs boto3: pip install 'ephemeralml[aws]'"
        raise ConfigError(text, code="EXTRA_MISSING") from None
    return KeyPolicySlot.open(key_arn, endpoint_url)


def _show_difference(present: str, wanted: str) -> bool:
    from ephemeralml.kms.apply import policy_diff  # noqa: PLC0415 - as above

    lines = policy_diff(present, wanted)
    for line in lines:
        click.secho(line, fg=_COLOURS.get(line[:1]))
    return bool(lines)


def _read(file: Path) -> str:
    raw = read_file(file, "the key policy", _MAX_FILE_BYTES)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"the key policy {file} is not UTF-8 text", code="KMS_POLICY_SYNTAX") from None


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        head = click.style(finding.rule.id, fg="red")
        click.echo(f"{head}  {finding.statement}: {finding.rule.title}")
        click.echo(f"         found   {finding.detail}")
        click.echo(f"         attack  {finding.rule.attack}")
        click.echo(f"         fix     {finding.rule.fix}")
    if not findings:
        click.secho("CLEAN  data keys go to attested enclaves of the builds it names, and to nobody else", fg="green")


def _row(finding: Finding) -> dict[str, str]:
    rule = finding.rule
    texts = {"title": rule.title, "attack": rule.attack, "fix": rule.fix}
    return {"id": rule.id, "statement": finding.statement, "detail": finding.detail, **texts}


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        sys.stdout.flush()
        raise click.ClickException(f"{len(findings)} findings: this key policy does not protect what it should")
