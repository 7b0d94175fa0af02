"""The host's counters as Prometheus text over HTTP."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ephemeral.errors import AddressError
from ephemeral.transport import Address, Scheme
from ephemeral_host.telemetry import Reading, Telemetry

_PREFIX = "ephemeralml_"


class _Counters(Collector):
    """Reads the telemetry whenever somebody asks."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterable[Metric]:
        """Return one family per instrument."""
        return [_family(reading) for reading in self._telemetry.readings()]


def _family(reading: Reading) -> Metric:
    name = _PREFIX + reading.name.replace(".", "_")
    labels = sorted({label for attributes, _ in reading.points for label in attributes})
    kind = CounterMetricFamily if reading.monotonic else GaugeMetricFamily
    family = kind(name, reading.description, labels=labels)
    for attributes, value in reading.points:
        family.add_metric([str(attributes[label]) for label in labels], value)
    return family


@contextmanager
def serving_metrics(address: Address, telemetry: Telemetry) -> Iterator[Address]:
    """Serve GET /metrics at a TCP address; give the one that is bound.

    Raises:
        AddressError: it cannot be bound.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counters(telemetry))
    try:
        server, thread = start_http_server(address.port, address.host, registry)
    except OSError as error:
        raise AddressError(f"cannot listen on {address}: {error.strerror}") from None
    try:
        yield Address(Scheme.TCP, address.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
