"""``ephemeralml keys new``: a signing key in a file of its own."""

from pathlib import Path

import click

from ephemeralml.key_file import create_signing_key


@click.group()
def keys() -> None:
    """Signing keys, kept in files that only you can read."""


@keys.command()
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), metavar="FILE", help="A new file.")
def new(out: Path) -> None:
    """Make an Ed25519 key in a new file (PEM, mode 600) and print its public half."""
    click.echo(f"public key {create_signing_key(out).raw.hex()}")
    click.echo(f"private key in {out}: keep it offline; whoever has it decides what your clients trust", err=True)
