"""The SIMULATED security module as a process of its own: `python -m ephemeral_devstack.security_module`.

It answers the requests that the enclave's NSM driver sends to the kernel's device, over a UNIX socket. Whoever can open
the socket gets documents: what hardware would vouch for, nothing vouches for here.
"""

import argparse
import contextlib
import signal
import socket
import socketserver
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from ephemeral.trusted.cbor import CborError, decode_nsm, encode
from ephemeral_devstack.nsm import SimulatedNsm
from ephemeral_enclave.nsm import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES

_LENGTH: Final = struct.Struct(">I")
_FIELDS: Final = ("public_key", "user_data", "nonce")
_TIMEOUT_SECONDS: Final = 10.0


def socket_exchange(path: Path) -> Callable[[bytes], bytes]:
    """Return an exchange with the module behind the socket, for ephemeral_enclave.nsm.NitroSecurityModule."""

    def exchange(request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(_LENGTH.pack(len(request)) + request)
            return _receive(connection, MAX_RESPONSE_BYTES)

    return exchange


def answer(nsm: SimulatedNsm, request: bytes) -> bytes:
    """Answer one request in the module's own CBOR."""
    try:
        message = decode_nsm(request, max_bytes=MAX_REQUEST_BYTES)
    except CborError:
        return encode({"Error": "InputTooLarge" if len(request) > MAX_REQUEST_BYTES else "InvalidOperation"})
    match message:
        case {"Attestation": dict() as fields} if set(fields) <= set(_FIELDS):
            public_key, user_data, nonce = (cast("bytes | None", fields.get(name)) for name in _FIELDS)
            return encode({"Attestation": {"document": nsm.attest(public_key, user_data, nonce)}})
        case _:
            return encode({"Error": "InvalidOperation"})


def _receive(connection: socket.socket, most: int) -> bytes:
    size = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
    if size > most:
        raise OSError(f"{size} bytes announced, at most {most} are read")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise OSError("the connection ended early")
        parts += part
    return bytes(parts)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            response = answer(cast("_Server", self.server).nsm, _receive(self.request, MAX_REQUEST_BYTES))
            self.request.sendall(_LENGTH.pack(len(response)) + response)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, nsm: SimulatedNsm) -> None:
        super().__init__(str(path), _Handler)
        self.nsm = nsm


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the ready line names the root made for this run."""
    arguments = _parser().parse_args(argv)
    nsm = SimulatedNsm(dict(arguments.pcr))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _Server(arguments.socket, nsm) as server, contextlib.suppress(KeyboardInterrupt):
        print(f"ready root_sha256={nsm.root_sha256.hex()} SIMULATED security module", flush=True)  # noqa: T201
        server.serve_forever()
    return 0


def _register(text: str) -> tuple[int, bytes]:
    index, _, value = text.partition("=")
    return int(index), bytes.fromhex(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ephemeral_devstack.security_module")
    parser.add_argument("--socket", type=Path, required=True, help="UNIX socket to serve")
    pcr: dict[str, Any] = {"action": "append", "type": _register, "required": True, "metavar": "INDEX=HEX"}
    parser.add_argument("--pcr", help="a measurement register", **pcr)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
