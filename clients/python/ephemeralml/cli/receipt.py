"""``ephemeralml receipt verify``: another name of ``ephemeralml verify receipt``."""

import click

from ephemeralml.cli import verify


@click.group()
def receipt() -> None:
    """Receipts: what ran, signed by what was attested."""


receipt.add_command(verify.receipt, "verify")
