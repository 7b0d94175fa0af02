"""Options that several commands share, and how their values are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ephemeral.errors import ConfigError
from ephemeral.trusted.ed25519 import KeyRejected, VerifyingKey

_ADDRESS: Final = click.option(
    "--address", "-a", required=True, metavar="ADDR", help="The service: tcp://host:port or unix:///path."
)
_TRUST: Final = click.option(
    "--trust",
    "-t",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Trust policy (TOML): roots and measurements you accept.",
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
_TIMEOUT: Final = click.option("--timeout", default=60.0, show_default=True, metavar="S", help="Seconds for each call.")
Command = Callable[..., Any]


def trust_option(command: Command) -> Command:
    """Add --trust and --json."""
    return _TRUST(JSON(command))


def connection_options(command: Command) -> Command:
    """Add --address, --trust, --timeout and --json."""
    return _ADDRESS(trust_option(_TIMEOUT(command)))


def read_publisher(text: str) -> VerifyingKey:
    """Read the value of --publisher.

    Raises:
        click.BadParameter: not hex, or not a public key of Ed25519.
    """
    try:
        return VerifyingKey(bytes.fromhex(text))
    except KeyRejected as error:
        raise click.BadParameter(str(error), param_hint="--publisher") from None
    except ValueError:
        raise click.BadParameter("must be hex characters", param_hint="--publisher") from None


def read_file(path: Path, what: str, most: int) -> bytes:
    """Read a file of at most `most` bytes; - is standard input.

    Raises:
        ConfigError: unreadable or too large.
    """
    try:
        with click.open_file(path, "rb") as file:
            raw: bytes = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}", code="FILE_UNREADABLE") from None
    if len(raw) > most:
        raise ConfigError(f"{what} {path} has more than {most:,} bytes", code="FILE_TOO_LARGE")
    return raw


def write_file(path: Path, what: str, contents: bytes) -> None:
    """Write a file.

    Raises:
        ConfigError: not writable.
    """
    try:
        path.write_bytes(contents)
    except OSError as error:
        raise ConfigError(f"cannot write {what} {path}: {error.strerror}", code="FILE_UNWRITABLE") from None
