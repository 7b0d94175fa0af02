"""``ephemeralml policy``: look at a trust policy, add a build to it, sign it, verify a signed one."""

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from ephemeral.errors import ConfigError, PolicyError
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey
from ephemeral.trusted.policy import Measurements, TrustPolicy, is_signed, sign_policy, verify_policy
from ephemeral.trusted.policy.file import MAX_POLICY_BYTES
from ephemeral.trusted.policy.signed import MAX_SIGNED_POLICY_BYTES
from ephemeralml.cli.options import read_file
from ephemeralml.cli.policy_view import policy_json, policy_lines
from ephemeralml.cli.steps import show_json
from ephemeralml.key_file import read_signing_key
from ephemeralml.pcr_file import MAX_PCR_FILE_BYTES, append_build, read_measurements, require_registers_set
from ephemeralml.policy_state import PolicyState, Remembered, refuse_other_name, replace_file

# What a signed policy can be found to be: a verdict, unlike a file that was written wrongly.
POLICY_VERDICTS: Final = frozenset(
    {"POLICY_FORGED", "POLICY_ROLLBACK", "POLICY_EQUIVOCATION", "POLICY_EXPIRED", "POLICY_OTHER_NAME"}
)
_PATH: Final = click.Path(path_type=Path)
_FILE_MODE: Final = 0o644
_NEW: Final = "# Trust policy: what this client accepts. See `ephemeralml policy show`.\nversion = 1\n"


@click.group()
def policy() -> None:
    """Trust policies: which roots, builds, models and publishers are accepted."""


@policy.command()
@click.argument("file", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def show(file: Path, *, as_json: bool) -> None:
    """Check the policy in FILE (TOML) and say what it accepts now."""
    raw = read_file(file, "the policy", MAX_POLICY_BYTES)
    accepted, now = TrustPolicy.decode(raw, str(file)), datetime.now(UTC)
    if as_json:
        show_json(policy_json(accepted, raw, now))
        return
    for line in policy_lines(accepted, raw, now):
        click.echo(line)


@policy.command()
@click.argument("file", type=_PATH)
@click.option(
    "--from", "source", required=True, type=_PATH, metavar="PCRFILE", help="PCRs (JSON), as nitro-cli prints."
)
@click.option("--label", "-l", metavar="TEXT", help="Name of the build; without one, PCR0 gives it.")
@click.option("--not-before", metavar="TIME", help="Accept it from then on, as in 2030-01-31T00:00:00Z.")
@click.option("--not-after", metavar="TIME", help="Accept it until then.")
def add(file: Path, source: Path, label: str | None, not_before: str | None, not_after: str | None) -> None:
    """Add a build to the policy in FILE, at its end; a FILE that is not there is made.

    Nothing else in the file changes, and it is replaced in one step, so a live client never reads half of it.
    """
    raw = read_file(source, "the PCR file", MAX_PCR_FILE_BYTES)
    build = read_measurements(raw, label, not_before=_time(not_before), not_after=_time(not_after))
    require_registers_set(source, build)
    mode = _mode(file)
    before = _NEW.encode() if mode is None else read_file(file, "the policy", MAX_POLICY_BYTES)
    after = _with_build(before, build, file)
    _write(file, after, _FILE_MODE if mode is None else mode)
    accepted = TrustPolicy.decode(after, str(file))
    click.echo(f"added {build.label!r} to {file}: it accepts {len(accepted.measurements)} builds now")
    if accepted.serial is not None:
        click.echo(f"its serial is still {accepted.serial}: raise it before you sign", err=True)


@policy.command()
@click.argument("file", type=_PATH)
@click.option("--key", "-k", required=True, type=_PATH, metavar="KEYFILE", help="Ed25519 key (PEM or seed), mode 600.")
@click.option("--out", "-o", required=True, type=_PATH, metavar="FILE", help="The signed policy.")
def sign(file: Path, key: Path, out: Path) -> None:
    """Sign the policy in FILE, which must have a name, a serial and an expiry.

    A signed policy that is already in the output file is replaced only by one with a higher serial.
    """
    toml = read_file(file, "the policy", MAX_POLICY_BYTES)
    if is_signed(toml):
        raise PolicyError(f"{file} is signed already: sign the TOML text", code="POLICY_SIGNED")
    now, signer = datetime.now(UTC), read_signing_key(key)
    raw = sign_policy(toml, signer, now=now)
    signed = Remembered.of(verify_policy(raw, signer.verifying_key, now=now))
    _refuse_older(out, signer.verifying_key, signed)
    _write(out, raw, _FILE_MODE)
    click.echo(f"signed {signed.name!r} serial {signed.serial}, sha256 {signed.sha256}")
    click.echo(f"signer {signed.signer}")


@policy.command()
@click.argument("file", type=_PATH)
@click.option("--signer", "-s", required=True, metavar="HEX", help="The pinned public key, 64 hex characters.")
@click.option("--state", type=_PATH, metavar="FILE", help="Remember the serial here, and refuse an older one.")
@click.option("--name", metavar="TEXT", help="The policy wanted, for a signer of several.")
@click.option("--out", "-o", type=_PATH, metavar="FILE", help="Write the verified TOML, to use it with --trust.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def verify(file: Path, signer: str, state: Path | None, name: str | None, out: Path | None, *, as_json: bool) -> None:
    """Verify the signed policy in FILE under the pinned key."""
    now = datetime.now(UTC)
    verified = verify_policy(read_file(file, "the policy", MAX_SIGNED_POLICY_BYTES), _signer(signer), now=now)
    refuse_other_name(name, verified.version.name)
    if state is not None:
        PolicyState(state).accept(verified, name=name)
    if out is not None:
        _write(out, verified.toml, _FILE_MODE)
    checks = [
        ("PASS", "POL-01", f"signature: Ed25519 by the pinned signer {signer.lower()[:16]}… over these exact bytes"),
        ("PASS", "POL-02", f"rules: policy {verified.version.name!r}, serial {verified.version.serial}, loads"),
        ("PASS", "POL-03", f"expiry: holds until {verified.policy.not_after:%Y-%m-%d %H:%M:%S %Z}"),
        ("SKIP", "POL-04", "rollback: not checked, because no --state remembers which serial was accepted before")
        if state is None
        else ("PASS", "POL-04", f"rollback: {state} remembers no higher serial, and remembers this one now"),
    ]
    if as_json:
        rows = [dict(zip(("verdict", "id", "detail"), check, strict=True)) for check in checks]
        show_json({"verdict": "VERIFIED", "checks": rows, "policy": policy_json(verified.policy, verified.toml, now)})
        return
    for verdict, identifier, detail in checks:
        click.echo(f"{click.style(verdict, fg='green' if verdict == 'PASS' else 'yellow')}  {identifier}  {detail}")
    click.echo(f"VERIFIED policy sha256 {verified.digest.hex()}")


def _with_build(before: bytes, build: Measurements, file: Path) -> bytes:
    if is_signed(before):
        raise PolicyError(f"{file} is signed: add the build to the TOML it was made from", code="POLICY_SIGNED")
    try:
        text = before.decode()
    except UnicodeDecodeError:
        raise PolicyError(f"the policy {file} is not UTF-8 text", code="POLICY_UNREADABLE") from None
    after = append_build(text, build)
    try:
        TrustPolicy.parse(after)
    except PolicyError as error:
        raise PolicyError(f"{file} was not changed. With this build, {error.detail}", code=error.code) from None
    return after.encode()


def _refuse_older(out: Path, signer: VerifyingKey, signed: Remembered) -> None:
    """Keep a signer from putting an older policy over a newer one; whatever else is there is simply replaced."""
    if _mode(out) is None:
        return
    try:
        present = verify_policy(
            read_file(out, "the signed policy", MAX_SIGNED_POLICY_BYTES), signer, now=datetime.min.replace(tzinfo=UTC)
        )
    except ConfigError:
        return
    if present.version.name == signed.name:
        Remembered.of(present).refuse_older(signed)


def _signer(text: str) -> VerifyingKey:
    try:
        return VerifyingKey(bytes.fromhex(text))
    except KeyRejected as error:
        raise ConfigError(f"--signer: {error}", code="SIGNER_KEY") from None
    except ValueError:
        raise ConfigError("--signer is 64 hex characters: the signer's public key", code="SIGNER_KEY") from None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no time: write 2030-01-31T00:00:00Z", code="POLICY_TIME") from None


def _mode(path: Path) -> int | None:
    """Return the mode of a file; None if there is none.

    Raises:
        ConfigError: it cannot be known.
    """
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", code="FILE_UNREADABLE") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        replace_file(path.resolve(), content, mode)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", code="FILE_UNWRITABLE") from None
