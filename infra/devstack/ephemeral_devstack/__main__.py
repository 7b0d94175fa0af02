"""``python -m ephemeral_devstack``: every zone on this machine, until Ctrl-C.

It prints where everything listens, writes the client's trust file, and shows commands that work in a second terminal.
"""

import argparse
import signal
import sys
import threading
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ephemeral.errors import EphemeralError
from ephemeral.trusted.handshake import Greeting
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import MODEL_ID, Stack, StackOptions
from ephemeralml.publishing.release import Release

BANNER = "SIMULATED: no hardware vouches for anything here. For development and evaluation only."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stack until SIGINT or SIGTERM; return 0 when it was stopped, 3 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m ephemeral_devstack", description=__doc__)
    parser.add_argument(
        "--state", type=Path, default=Path(".devstack"), help="folder for logs, keys and the trust file"
    )
    parser.add_argument(
        "--listen", default="tcp://127.0.0.1:7443", help="where clients connect; port 0 takes a free one"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        type=_model,
        metavar="ID=FOLDER",
        help="publish and serve this sentence-transformers folder too; may be repeated",
    )
    arguments = parser.parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold yellow]{BANNER}[/]")
    stopping = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _number, _frame: stopping.set())
    try:
        state, models = arguments.state.absolute(), dict(arguments.model)
        options = StackOptions(state=state, listen=arguments.listen, more_models=models)
        with Stack.start(options, lambda what, seconds: console.print(f"  {seconds:5.1f} s  {what}")) as stack:
            describe(stack, console)
            stopping.wait()
            console.print("stopping …")
    except EphemeralError as error:
        print(f"devstack: {error.code}: {error.detail}", file=sys.stderr)  # noqa: T201
        return 3
    return 0


def _model(text: str) -> tuple[str, Path]:
    model_id, _, folder = text.partition("=")
    try:
        Release(model_id, 1)
    except EphemeralError as error:
        raise argparse.ArgumentTypeError(f"write ID=FOLDER; {error.detail}") from None
    if model_id == MODEL_ID:
        raise argparse.ArgumentTypeError(f"{MODEL_ID} is served already")
    if not folder or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder!r} is not a folder; write ID=FOLDER")
    return model_id, Path(folder).absolute()


def describe(stack: Stack, console: Console) -> None:
    """Print addresses, files, and commands that work against this stack."""
    scripts = Path(sys.executable).parent
    plain = stack.address.replace("tcp://", "http://")
    hello = Greeting(TrustPolicy.load(stack.trust)).request.client_hello
    console.print(f"\n[bold]ready[/]: clients connect to [bold]{stack.address}[/]")
    console.print(f"  trust file   {stack.trust}")
    console.print(f"  publisher    {stack.publisher_key}, {stack.publisher_environment}")
    console.print(f"  logs         {stack.logs}")
    console.print("\nIn a second terminal:\n")
    options = f"--address {stack.address} --trust {stack.trust}"
    models = stack.options.models
    for model_id in models:
        which = f" --model {model_id}" if len(models) > 1 else ""
        console.print(f'  {scripts}/ephemeralml embed {options}{which} "A text that only the enclave can read."')
    console.print(f"  {scripts}/ephemeralml attest {options}")
    buf = f"{scripts}/buf curl --protocol grpc --http2-prior-knowledge"
    console.print("\nThe same port with reflection, which only the development stack serves:\n")
    console.print(f"  {buf} --list-methods {plain}")
    console.print(
        f'  {buf} -d \'{{"clientHello":"{b64encode(hello).decode()}"}}\' {plain}/ephemeralml.v1.SessionService/Hello'
    )
    console.print("\nCtrl-C stops everything.")


if __name__ == "__main__":
    raise SystemExit(main())
