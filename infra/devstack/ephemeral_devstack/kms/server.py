"""AWS JSON 1.1 over loopback HTTP: one POST, one JSON answer, the way every AWS SDK speaks to KMS."""

import json
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from ephemeral_devstack.credentials import RoleCredentials
from ephemeral_devstack.kms.audit import SIMULATED, AuditLog
from ephemeral_devstack.kms.call import KmsCall
from ephemeral_devstack.kms.faults import FaultKind, FaultPlan
from ephemeral_devstack.kms.operations import Answer, Operations, forged_answer
from ephemeral_devstack.kms.refusal import Refusal
from ephemeral_devstack.kms.request import MAX_BODY_BYTES, Parameters
from ephemeral_devstack.kms.signature import authenticate

_TARGET_PREFIX: Final = "TrentService."  # what KMS is called on the wire (botocore's targetPrefix)
_IDLE_SECONDS: Final = 60


class KmsService:
    """One call from its headers and body to its answer, with the audit line on the way."""

    def __init__(
        self, operations: Operations, roles: Mapping[str, RoleCredentials], faults: FaultPlan, audit: AuditLog
    ) -> None:
        """Serve `roles`, keyed by access key id."""
        self._operations = operations
        self._roles = roles
        self._faults = faults
        self._audit = audit

    def answer(self, headers: Mapping[str, str], body: bytes, request_id: str) -> tuple[int, Answer]:
        """Return the HTTP status and the JSON answer; header names come in lower case."""
        entry: dict[str, object] = {"request_id": request_id, "operation": headers.get("x-amz-target", "")[:100]}
        try:
            answer = self._perform(headers, body, entry)
        except Refusal as refusal:
            self._audit.write({**entry, "outcome": "refused", "error": refusal.name, "detail": refusal.message[:500]})
            return refusal.status, {"__type": refusal.name, "message": refusal.message}
        self._audit.write({**entry, "outcome": "answered"})
        return 200, answer

    def _perform(self, headers: Mapping[str, str], body: bytes, entry: dict[str, object]) -> Answer:
        now = datetime.now(UTC)
        role = authenticate(headers, body, self._roles, now)
        operation = headers["x-amz-target"].removeprefix(_TARGET_PREFIX)
        call = KmsCall(operation, role, Parameters.parse(body), now)
        try:
            return self._perform_or_fail(call, entry)
        finally:
            entry |= call.audit()

    def _perform_or_fail(self, call: KmsCall, entry: dict[str, object]) -> Answer:
        fault = self._faults.next(call.operation)
        if fault is None:
            return self._operations.perform(call)
        entry["fault"] = fault.kind.value
        match fault.kind:
            case FaultKind.THROTTLE:
                raise Refusal("ThrottlingException", "Rate exceeded (planned fault)")
            case FaultKind.ERROR_500:
                raise Refusal("KMSInternalException", "planned fault")
            case FaultKind.DENY:
                raise Refusal("AccessDeniedException", "planned fault")
            case FaultKind.FORGE_CMS:
                self._operations.admit_recipient(call)
                return forged_answer(call)
            case FaultKind.SWAP_WRAPPED_KEY:
                swapped = {**call.parameters.values, "CiphertextBlob": self._operations.swapped_blob(call)}
                call.parameters = Parameters(swapped)
            case FaultKind.DELAY:
                time.sleep(fault.seconds)
        return self._operations.perform(call)


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
            status, answer = (
                500,
                {"__type": "KMSInternalException", "message": "a defect of the simulation; see its log"},
            )
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
