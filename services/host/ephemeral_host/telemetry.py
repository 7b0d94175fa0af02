"""Counters of the host: how many and how much, never what.

They are OpenTelemetry instruments. The host prints their sums when it stops, ``metrics`` shows them to Prometheus, and
a deployment that wants them elsewhere hands its own readers to ``Telemetry``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, MetricReader, NumberDataPoint, Sum
from opentelemetry.sdk.resources import Resource

from ephemeral.transport import SpliceEvent, Traffic

_SCOPE: Final = "ephemeral_host"
_ENCLAVE: Final = {
    "requests": "Requests, by what became of them; in steps of 16.",
    "texts": "Texts of answered requests; in steps of 64.",
    "tokens": "Tokens of answered requests; in steps of 4096.",
    "tokenize_seconds": "Seconds that answered requests spent becoming tokens.",
    "queue_seconds": "Seconds that answered requests waited for the engine.",
    "compute_seconds": "Seconds of the batches that answered requests were computed in.",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One instrument: its name, what it counts, whether it only grows, and its values by attributes."""

    name: str
    description: str
    monotonic: bool
    points: list[tuple[dict[str, str], float]]


class Telemetry:
    """Counts what the relay, the services and their backends do."""

    def __init__(self, readers: Sequence[MetricReader] = ()) -> None:
        self._sums = InMemoryMetricReader()
        # No detectors: they would read the environment and the machine into every metric.
        resource = Resource({"service.name": _SCOPE})
        self._provider = MeterProvider([self._sums, *readers], resource=resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(_SCOPE)
        self._relay = self._meter.create_counter(
            "relay.connections", unit="{event}", description="Events of client connections, by kind."
        )
        self._calls = self._meter.create_counter(
            "services.calls", unit="{call}", description="Calls of enclaves, by method."
        )
        self._backends = self._meter.create_counter(
            "backends.outcomes", unit="{outcome}", description="Calls to KMS and S3, by what became of them."
        )
        self._enclave = {
            name: self._meter.create_counter(f"enclave.{name}", description=text) for name, text in _ENCLAVE.items()
        }

    def connection(self, event: SpliceEvent) -> None:
        """Count an event of a connection."""
        self._relay.add(1, {"event": event.kind.value})

    def call(self, method: str) -> None:
        """Count a call of one of the host's own methods."""
        self._calls.add(1, {"method": method})

    def backend(self, name: str, outcome: str) -> None:
        """Count what became of a call to KMS or S3."""
        self._backends.add(1, {"backend": name, "outcome": outcome})

    def enclave(self, name: str, count: int, attributes: dict[str, str]) -> None:
        """Add to one of the sums that enclaves report."""
        self._enclave[name].add(count, attributes)

    def gauge(self, name: str, read: Callable[[], int], description: str) -> None:
        """Show a value of now, asking for it when it is wanted."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            yield Observation(read())

        self._meter.create_observable_gauge(name, callbacks=[observe], description=description)

    def traffic(self, read: Callable[[], Traffic]) -> None:
        """Count the relay's bytes, asking for them when they are wanted."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            moved = read()
            yield Observation(moved.to_upstream, {"direction": "to_enclave"})
            yield Observation(moved.to_client, {"direction": "to_client"})

        self._meter.create_observable_counter(
            "relay.bytes", callbacks=[observe], unit="By", description="Bytes the relay moved."
        )

    def readings(self) -> list[Reading]:
        """Return every instrument that has a value."""
        data = self._sums.get_metrics_data()
        return [
            _reading(metric)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def summary(self) -> str:
        """Return all values so far as one line of JSON."""
        values = {
            f"{reading.name}/{'/'.join(attributes.values())}": value
            for reading in self.readings()
            for attributes, value in reading.points
        }
        return json.dumps(values, sort_keys=True)

    def shutdown(self) -> None:
        """Let readers flush, and stop."""
        self._provider.shutdown()


def _reading(metric: Metric) -> Reading:
    points = [
        ({key: str(value) for key, value in (point.attributes or {}).items()}, point.value)
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    ]
    monotonic = isinstance(metric.data, Sum) and metric.data.is_monotonic
    return Reading(metric.name, metric.description or "", monotonic, points)
