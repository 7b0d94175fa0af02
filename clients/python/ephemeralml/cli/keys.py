"""``ephemeralml keys new | show``: a signing key in a file of its own, and its public half."""

from pathlib import Path

import click

from ephemeral.trusted.manifest import key_id
from ephemeralml.cli.options import JSON
from ephemeralml.cli.steps import show_json
from ephemeralml.key_file import create_signing_key, read_signing_key


@click.group()
def keys() -> None:
    """Signing keys, kept in files that only you can read."""


@keys.command()
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), metavar="FILE", help="A new file.")
def new(out: Path) -> None:
    """Make an Ed25519 key in a new file (PEM, mode 600) and print its public half."""
    click.echo(f"public key {create_signing_key(out).raw.hex()}")
    click.echo(f"private key in {out}: keep it offline; whoever has it decides what your clients trust", err=True)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--hex", "only_hex", is_flag=True, help="Print the public key's hex and nothing else, for a script.")
@JSON
def show(file: Path, *, only_hex: bool, as_json: bool) -> None:
    """Print the public half of the key in FILE, which trust policies and enclaves name; never the private one."""
    key = read_signing_key(file).verifying_key
    if only_hex:
        click.echo(key.raw.hex())
    elif as_json:
        show_json({"public_key": key.raw.hex(), "key_id": key_id(key).hex()})
    else:
        click.echo(f"public key {key.raw.hex()}")
        click.echo(f"key id     {key_id(key).hex()}")
