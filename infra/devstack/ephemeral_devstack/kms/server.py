"""AWS JSON 1.1 over loopback HTTP: one POST, one JSON answer, the way every AWS SDK speaks to KMS."""

import json
import sys
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from ephemeral_devstack.kms.audit import SIMULATED
from ephemeral_devstack.kms.operations import Answer
from ephemeral_devstack.kms.refusal import Refusal
from ephemeral_devstack.kms.request import MAX_BODY_BYTES
from ephemeral_devstack.kms.service import KmsService

_IDLE_SECONDS: Final = 60


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: "KmsServer"

    def do_POST(self) -> None:
        request_id = str(uuid.uuid4())
        try:
            status, answer = self.server.service.answer(self._signed_view(), self._body(), request_id)
        except Refusal as refusal:
            self.close_connection = True  # the body was not read
            status, answer = refusal.status, {"__type": refusal.name, "message": refusal.message}
        except Exception:  # noqa: BLE001 - the last line of a server: a bug here is one failed call, told to the operator
            traceback.print_exc(file=sys.stderr)
            status, answer = 500, {"__type": "KMSInternalException", "message": "a defect here; see the log"}
        self._send(status, answer, request_id)

    def _signed_view(self) -> dict[str, str]:
        # A name that comes twice has no one value that could have been signed.
        names = [name.lower() for name in self.headers]
        if len(set(names)) != len(names) or self.path != "/":
            raise Refusal("IncompleteSignatureException", "a header occurs twice, or the path is not /")
        return {name.lower(): value for name, value in self.headers.items()}

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise Refusal("RequestEntityTooLargeException", f"Content-Length must be 0 to {MAX_BODY_BYTES}")
        try:
            return self.rfile.read(int(length))
        except OSError:
            raise Refusal("RequestTimeoutException", "the body did not come") from None

    def _send(self, status: int, answer: Answer, request_id: str) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", request_id)
        self.send_header("X-EphemeralML-Simulated", "kms")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Name the server in its Server header."""
        return SIMULATED

    def log_message(self, *_: object) -> None:
        """Stay silent: the audit log tells more."""


class KmsServer(ThreadingHTTPServer):
    """The HTTP server around one KmsService."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: KmsService) -> None:
        self.service = service
        super().__init__(address, _Handler)

    def handle_error(self, *_: object) -> None:
        """Say in one line that a connection broke; what a call did wrong was answered already."""
        print(f"{SIMULATED}: connection lost: {sys.exc_info()[1]!r}", file=sys.stderr)  # noqa: T201 - a program's log
