"""One call from its headers and body to its answer: who asks, which fault is planned, what KMS says, the audit line."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from ephemeral_devstack.credentials import RoleCredentials
from ephemeral_devstack.kms.audit import AuditLog
from ephemeral_devstack.kms.call import KmsCall
from ephemeral_devstack.kms.faults import FaultKind, FaultPlan
from ephemeral_devstack.kms.operations import Answer, Operations, forged_answer
from ephemeral_devstack.kms.refusal import Refusal
from ephemeral_devstack.kms.request import Parameters
from ephemeral_devstack.kms.signature import authenticate

_TARGET_PREFIX: Final = "TrentService."  # what KMS is called on the wire (botocore's targetPrefix)


class KmsService:
    """Answers calls; safe for the server's threads."""

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
