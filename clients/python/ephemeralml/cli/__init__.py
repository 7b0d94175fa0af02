"""The command line: ``ephemeralml embed | attest | verify | policy | keys | kms | model | selftest``.

Exit codes, for every command:

== ============================================================================================================
0  everything required was verified, and the command did what it says
1  a verdict: the enclave, the session, the receipt, the model or a policy is not what it must be
2  usage: an option, file, address, policy or text is wrong
3  infrastructure: nothing answers, too late, too busy, AWS refuses, or the system fails, a full disk for example
4  a bug of ours
== ============================================================================================================
"""

import sys

import click

from ephemeral.errors import ConfigError, EphemeralError, ReleaseError, RequestRefused, ServiceError, StorageError
from ephemeralml.cli.attest import attest
from ephemeralml.cli.embed import embed
from ephemeralml.cli.keys import keys
from ephemeralml.cli.kms import kms
from ephemeralml.cli.model import model
from ephemeralml.cli.policy import POLICY_VERDICTS, policy
from ephemeralml.cli.receipt import receipt
from ephemeralml.cli.selftest import selftest
from ephemeralml.cli.verify import verify

_USAGE, _VERDICT, _INFRASTRUCTURE, _BUG = 2, 1, 3, 4


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EPHEMERALML"})
@click.version_option(package_name="ephemeralml")
def cli() -> None:
    """Confidential ML inference: verify the enclave first, then send it text that only it can read."""


cli.add_command(attest)
cli.add_command(embed)
cli.add_command(keys)
cli.add_command(kms)
cli.add_command(model)
cli.add_command(policy)
cli.add_command(receipt)
cli.add_command(selftest)
cli.add_command(verify)


def main() -> None:
    """Run the command line; whatever goes wrong is one line on standard error and a documented exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        cli.main(arguments, prog_name="ephemeralml", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except EphemeralError as error:
        _say(f"{error.code}: {error.detail}")
        return exit_code(error)
    except OSError as error:
        _say(f"SYSTEM: {error.strerror or type(error).__name__}")
        return _INFRASTRUCTURE
    except Exception as error:  # noqa: BLE001  # the last line of defence: users get no traceback
        _say(f"INTERNAL: {type(error).__name__}: this is a bug; please report what you ran")
        return _BUG
    return 0


def exit_code(error: EphemeralError) -> int:
    """Return the documented exit code for an error."""
    if error.claimed:  # a peer's words are no verdict of ours
        return _INFRASTRUCTURE
    if error.code in POLICY_VERDICTS:
        return _VERDICT
    if isinstance(error, ConfigError | RequestRefused):
        return _USAGE
    return _INFRASTRUCTURE if isinstance(error, ServiceError | ReleaseError | StorageError) else _VERDICT


def _say(text: str) -> None:
    click.echo(f"ephemeralml: {' '.join(text.split())}", err=True)
