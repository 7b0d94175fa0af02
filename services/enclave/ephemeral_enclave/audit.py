"""Security events on their way to the host: kinds, codes and model names, never content."""

import time

from ephemeral.errors import EphemeralError
from ephemeral.wire import AuditEvent, AuditKind, ServedModel
from ephemeral_enclave.host_client import HostClient


class AuditTrail:
    """Numbers one boot's events; a host that does not take them cannot stop the boot by it."""

    def __init__(self, host: HostClient) -> None:
        self._host = host
        self._sequence = 0
        self.lost = 0

    async def model(self, kind: "AuditKind.ValueType", served: ServedModel) -> None:
        """Hand over an event that concerns one version of a model."""
        await self.record(kind, model_id=served.model_id, model_version=served.version)

    async def record(
        self, kind: "AuditKind.ValueType", *, reason: str = "", model_id: str = "", model_version: int = 0
    ) -> None:
        """Hand one event to the host; count it as lost when the host does not take it."""
        self._sequence += 1
        event = AuditEvent(
            kind=kind,
            time_ms=time.time_ns() // 1_000_000,
            sequence=self._sequence,
            reason=reason,
            model_id=model_id,
            model_version=model_version,
        )
        try:
            await self._host.publish([event])
        except EphemeralError:
            self.lost += 1
