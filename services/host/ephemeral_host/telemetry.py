"""Counters of the host: how many and how much, never what.

They are OpenTelemetry instruments without an exporter; the host prints their sums when it stops, and a deployment that
wants them elsewhere hands its own readers to ``Telemetry``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource

from ephemeral.transport import SpliceEvent, Traffic

_SCOPE: Final = "ephemeral_host"


class Telemetry:
    """Counts what the relay, the services and their backends do."""

    def __init__(self, readers: Sequence[MetricReader] = ()) -> None:
        self._sums = InMemoryMetricReader()
        # No detectors: they would read the environment and the machine into every metric.
        resource = Resource({"service.name": _SCOPE})
        self._provider = MeterProvider([self._sums, *readers], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(_SCOPE)
        self._relay = self._meter.create_counter("relay.connections", unit="{event}")
        self._calls = self._meter.create_counter("services.calls", unit="{call}")
        self._backends = self._meter.create_counter("backends.outcomes", unit="{outcome}")

    def connection(self, event: SpliceEvent) -> None:
        """Count an event of a connection."""
        self._relay.add(1, {"event": event.kind.value})

    def call(self, method: str) -> None:
        """Count a call of one of the host's own methods."""
        self._calls.add(1, {"method": method})

    def backend(self, name: str, outcome: str) -> None:
        """Count what became of a call to KMS or S3."""
        self._backends.add(1, {"backend": name, "outcome": outcome})

    def traffic(self, read: Callable[[], Traffic]) -> None:
        """Count the relay's bytes, asking for them when they are wanted."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            moved = read()
            yield Observation(moved.to_upstream, {"direction": "to_enclave"})
            yield Observation(moved.to_client, {"direction": "to_client"})

        self._meter.create_observable_counter("relay.bytes", callbacks=[observe], unit="By")

    def summary(self) -> str:
        """Return all sums so far as one line of JSON."""
        data = self._sums.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        sums = {
            f"{metric.name}/{'/'.join(str(value) for value in (point.attributes or {}).values())}": point.value
            for metric in metrics
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }
        return json.dumps(sums, sort_keys=True)

    def shutdown(self) -> None:
        """Let readers flush, and stop."""
        self._provider.shutdown()
