"""One server in one round: every load it is given, and what its processes used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.serving.generating import GeneratorProcess, Sample, generator
from benchmarks.serving.generator import STRANGERS, Load
from benchmarks.serving.progress import Progress
from benchmarks.serving.servers import Running, Start
from benchmarks.serving.texts import MIXED
from benchmarks.serving.usage import peak_bytes

WARM: Final = 0.5
SECONDS: Final = 4.0
LONG_SECONDS: Final = 8.0  # answers of a batch come together, and a window should hold several batches


@dataclass(frozen=True, slots=True)
class Point:
    """Clients in a closed loop, how long their texts are, and how long the load lasts."""

    lengths: str
    clients: int
    seconds: float = SECONDS

    def __str__(self) -> str:
        texts = "mixed lengths" if self.lengths == MIXED else f"{self.lengths} tokens"
        return f"{texts}, {self.clients} client{'s' if self.clients > 1 else ''}"


ALONE: Final = Point("16", 1)
SHORT: Final = Point("16", 64)
LONG: Final = Point("128", 64, LONG_SECONDS)
MIX: Final = Point(MIXED, 64, LONG_SECONDS)
POINTS: Final = (ALONE, SHORT, LONG, MIX)

OVERLOAD: Final = 5.0
POLITE: Final = 10
_POLITE_RATE: Final = 3.0  # of each of them, a second: together a tenth of what the engine can do, or less
_POLITE_WARM: Final = 2.0  # the flood is at its height by then
_POLITE_SECONDS: Final = 8.0
_FLOOD: Final = Load("128", 1, 0.0, _POLITE_WARM + _POLITE_SECONDS, in_flight=32)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one server did in one round; the last five only where they were asked for."""

    samples: Mapping[Point, Sample]
    peak_bytes: int
    model_peak_bytes: int
    overload: Sample | None = None
    patient: Sample | None = None
    idle: Sample | None = None
    flooded: Sample | None = None
    strangers: Sample | None = None


def visit(start: Start, reference: Path, progress: Progress, *, under_stress: bool) -> Visit:
    """Start a server, send every load, and stop it."""
    with start() as server:
        progress.say("listens")
        with generator(server, reference) as clients:
            samples = {point: _sample(clients, point, progress) for point in POINTS}
            overload = _overload(clients, samples[MIX], progress) if under_stress else None
            patient = _patient(clients, progress) if under_stress else None
        strangers = _strangers(server, reference, samples[MIX], progress) if under_stress else None
        idle, flooded = _fairness(server, reference, progress) if under_stress else (None, None)
        peaks = peak_bytes(server.pids), peak_bytes(server.model_pids)
        return Visit(samples, *peaks, overload, patient, idle, flooded, strangers)


def _sample(clients: GeneratorProcess, point: Point, progress: Progress) -> Sample:
    sample = clients.run(Load(point.lengths, point.clients, WARM, point.seconds))
    progress.say(f"{point}: {sample.summary.per_second:,.0f}/s")
    return sample


def _overload(clients: GeneratorProcess, peak: Sample, progress: Progress) -> Sample:
    """Ask for five times what was just answered at most, at random times, and count what is answered now."""
    rate = OVERLOAD * peak.summary.per_second
    sample = clients.run(Load(MIX.lengths, MIX.clients, 2 * WARM, MIX.seconds, rate=rate))
    progress.say(f"{rate:,.0f}/s offered: {sample.summary.per_second:,.0f}/s answered")
    return sample


def _strangers(server: Running, reference: Path, peak: Sample, progress: Progress) -> Sample:
    """Send the same as clients that do not listen when they are told to wait."""
    with generator(replace(server, protocol=STRANGERS), reference) as clients:
        return _overload(clients, peak, progress)


def _patient(clients: GeneratorProcess, progress: Progress) -> Sample:
    """Keep five times as many requests in flight, of clients that wait as long as they are told when refused."""
    sample = clients.run(Load(MIX.lengths, MIX.clients, 2 * WARM, MIX.seconds, in_flight=int(OVERLOAD)))
    progress.say(f"{OVERLOAD:g} in flight of each client: {sample.summary.per_second:,.0f}/s answered")
    return sample


def _fairness(server: Running, reference: Path, progress: Progress) -> tuple[Sample, Sample]:
    """Ten clients with a text now and then: among themselves, then beside one that keeps all it may in flight."""
    load = Load("16", POLITE, _POLITE_WARM, _POLITE_SECONDS, rate=POLITE * _POLITE_RATE)
    with generator(server, reference) as polite, generator(server, reference) as flooder:
        idle = polite.run(load)
        flooder.begin(_FLOOD)
        flooded = polite.run(load)
        flooder.end()
    progress.say(f"polite p99 {idle.summary.p99_ms:.0f} ms idle, {flooded.summary.p99_ms:.0f} ms beside a flooder")
    return idle, flooded
