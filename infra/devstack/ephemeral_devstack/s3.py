"""Run a SIMULATED S3: `python -m ephemeral_devstack.s3 [--bucket NAME]`; moto's S3 and nothing else of moto.

moto's KMS ignores Recipient and hands out plaintext, so none of its other services is reachable here. Objects live in
this process and end with it. Prints one line `ready http://HOST:PORT ...` when it accepts calls.
"""

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from ephemeral.errors import ConfigError
from ephemeral_devstack.credentials import REGION
from ephemeral_devstack.loopback import parse_loopback


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status (2: a wrong argument)."""
    arguments = _parser().parse_args(argv)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line per range read is too many
    try:
        host, port = parse_loopback(arguments.listen)
        server = make_server(host, port, create_backend_app("s3"), threaded=True, request_handler=MotoRequestHandler)
    except (ConfigError, OSError) as error:
        print(f"SIMULATED S3: {error}", file=sys.stderr)  # noqa: T201 - a command line program
        return 2
    for name in arguments.bucket or []:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(name, REGION)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"ready http://{host}:{server.port} SIMULATED S3", flush=True)  # noqa: T201
    with contextlib.closing(server.socket), contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ephemeral_devstack.s3", description="a SIMULATED S3")
    parser.add_argument("--listen", default="127.0.0.1:0", help="loopback HOST:PORT; port 0 takes a free one")
    parser.add_argument("--bucket", action="append", metavar="NAME", help="create this bucket at the start")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
