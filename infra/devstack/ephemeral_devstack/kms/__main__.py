"""Run the SIMULATED KMS: `python -m ephemeral_devstack.kms --root-sha256 HEX --state DIRECTORY`.

Prints one line `ready http://HOST:PORT ...` when it accepts calls; the roles' access keys are then in
DIRECTORY/credentials.json.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ephemeral.errors import ConfigError
from ephemeral.trusted.policy import AWS_NITRO_ROOT_G1, RootOfTrust
from ephemeral_devstack.credentials import RoleCredentials, issue_credentials, role_arn, save_credentials
from ephemeral_devstack.kms.audit import SIMULATED, AuditLog
from ephemeral_devstack.kms.faults import FaultPlan
from ephemeral_devstack.kms.operations import Operations
from ephemeral_devstack.kms.server import KmsServer
from ephemeral_devstack.kms.service import KmsService
from ephemeral_devstack.loopback import parse_loopback

PUBLISHER: Final = "publisher"
HOST: Final = "host"
CREDENTIALS_FILE: Final = "credentials.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status (2: a wrong argument)."""
    arguments = _parser().parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            _serve(arguments, stack)
    except (ConfigError, OSError) as error:
        print(f"{SIMULATED}: {error}", file=sys.stderr)  # noqa: T201 - a command line program
        return 2
    return 0


def _serve(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    roots = tuple(_development_root(text) for text in arguments.root_sha256)
    roles = _issue_roles(arguments.role or [])
    operations = Operations(roots, key_creators={roles[PUBLISHER].arn})
    audit = sys.stderr if arguments.audit is None else stack.enter_context(arguments.audit.open("a", encoding="utf-8"))
    service = KmsService(
        operations,
        {role.access_key_id: role for role in roles.values()},
        FaultPlan(arguments.fault_plan),
        AuditLog(audit),
    )
    server = stack.enter_context(KmsServer(parse_loopback(arguments.listen), service))
    arguments.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_credentials(roles, arguments.state / CREDENTIALS_FILE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address, port = server.server_address[:2]
    pinned = ", ".join(arguments.root_sha256)
    print(f"ready http://{address!s}:{port} SIMULATED KMS, trusting root {pinned}", flush=True)  # noqa: T201
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ephemeral_devstack.kms", description=f"{SIMULATED}: a SIMULATED KMS"
    )
    parser.add_argument("--listen", default="127.0.0.1:0", help="loopback HOST:PORT; port 0 takes a free one")
    parser.add_argument(
        "--root-sha256", action="append", required=True, metavar="HEX", help="SHA-256 of a development root (DER)"
    )
    parser.add_argument("--state", type=Path, required=True, help="directory for credentials.json (made 0700)")
    parser.add_argument("--role", action="append", metavar="NAME=ARN", help="a role; publisher and host always exist")
    parser.add_argument("--audit", type=Path, help="append audit lines here instead of to stderr")
    parser.add_argument("--fault-plan", type=Path, help="JSON list of {operation, nth, fault}; read again when changed")
    return parser


def _development_root(text: str) -> RootOfTrust:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        raise ConfigError("--root-sha256 is not hexadecimal") from None
    if digest == AWS_NITRO_ROOT_G1.sha256:
        raise ConfigError("--root-sha256 names AWS's root: a simulated KMS has nothing to release to real enclaves")
    return RootOfTrust("development", digest, evaluation=True)


def _issue_roles(given: Sequence[str]) -> Mapping[str, RoleCredentials]:
    arns = {PUBLISHER: role_arn(PUBLISHER), HOST: role_arn(HOST)}
    for pair in given:
        name, separator, arn = pair.partition("=")
        if not separator or not name.isidentifier():
            raise ConfigError("--role takes NAME=ARN")
        arns[name] = arn
    return {name: issue_credentials(arn) for name, arn in arns.items()}


if __name__ == "__main__":
    raise SystemExit(main())
