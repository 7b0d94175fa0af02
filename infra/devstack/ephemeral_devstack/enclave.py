"""The enclave of the development stack: the product's own boot and server, on a SIMULATED security module.

What differs from ``python -m ephemeral_enclave`` is the security module, and gRPC reflection for grpcurl and buf curl.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from ephemeral_devstack.security_module import socket_exchange
from ephemeral_enclave.nsm import NitroSecurityModule
from ephemeral_enclave.server import run

_SERVICES = (
    "ephemeralml.v1.SessionService",
    "ephemeralml.v1.InferenceService",
    health.SERVICE_NAME,
    reflection.SERVICE_NAME,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Boot and serve until SIGTERM; see ephemeral_enclave.server.run for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m ephemeral_devstack.enclave")
    parser.add_argument("--config", type=Path, required=True, help="the baked configuration (TOML)")
    parser.add_argument("--security-module", type=Path, required=True, help="UNIX socket of the SIMULATED module")
    arguments = parser.parse_args(argv)
    module = NitroSecurityModule(socket_exchange(arguments.security_module))
    return run(arguments.config, module, extend=_reflect)


def _reflect(server: grpc.aio.Server) -> None:
    reflection.enable_server_reflection(_SERVICES, server)


if __name__ == "__main__":
    raise SystemExit(main())
