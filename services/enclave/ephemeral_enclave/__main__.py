"""``python -m ephemeral_enclave --config FILE``: the measured enclave, on the Nitro Security Module."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ephemeral_enclave.nsm import DEVICE, NitroSecurityModule, device_exchange
from ephemeral_enclave.server import run


def main(argv: Sequence[str] | None = None) -> int:
    """Boot and serve; see server.run for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m ephemeral_enclave", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the configuration baked into the image (TOML)")
    arguments = parser.parse_args(argv)
    return run(arguments.config, NitroSecurityModule(device_exchange(DEVICE)))


if __name__ == "__main__":
    raise SystemExit(main())
