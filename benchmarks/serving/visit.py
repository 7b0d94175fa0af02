"""A round: every server is up, their load windows take turns, and each server has its visit of what came of them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
_TURN_WARM: Final = 0.25  # from when every client has had an answer


@dataclass(frozen=True, slots=True)
class Point:
    """Clients in a closed loop, how long their texts are, and how long they are counted in a round, in turns."""

    lengths: str
    clients: int
    seconds: float
    turns: int

    @property
    def window(self) -> float:
        """Seconds of one turn."""
        return self.seconds / self.turns

    def __str__(self) -> str:
        texts = "mixed lengths" if self.lengths == MIXED else f"{self.lengths} tokens"
        return f"{texts}, {self.clients} client{'s' if self.clients > 1 else ''}"


ALONE: Final = Point("16", 1, 3.0, turns=2)
SHORT: Final = Point("16", 64, 6.0, turns=4)
LONG: Final = Point("128", 64, 6.0, turns=2)
MIX: Final = Point(MIXED, 64, 8.0, turns=2)
POINTS: Final = (ALONE, SHORT, LONG, MIX)

OVERLOAD: Final = 5.0
POLITE: Final = 10
_POLITE_RATE: Final = 3.0  # of each of them, a second: together a tenth of what the engine can do, or less
_POLITE_WARM: Final = 2.0  # the flood is at its height by then
_POLITE_SECONDS: Final = 8.0
_FLOOD: Final = Load("128", 1, 0.0, _POLITE_WARM + _POLITE_SECONDS, in_flight=32)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one server did in one round: a sample for each turn; the last five only where they were asked for."""

    samples: Mapping[Point, Sequence[Sample]]
    peak_bytes: int
    model_peak_bytes: int
    overload: Sample | None = None
    patient: Sample | None = None
    idle: Sample | None = None
    flooded: Sample | None = None
    strangers: Sample | None = None


def visit_all(
    starts: Mapping[str, Start], reference: Path, progress: Progress, *, under_stress: str
) -> dict[str, Visit]:
    """Start the servers, let their loads take turns, put one of them under stress beside idle ones, and stop them."""
    with ExitStack() as running:
        servers = {name: running.enter_context(start()) for name, start in starts.items()}
        progress.say(f"{', '.join(servers)} listen")
        with ExitStack() as connected:
            clients = {name: connected.enter_context(generator(server, reference)) for name, server in servers.items()}
            samples = _in_turns(clients, progress)
            peak = samples[under_stress][MIX][-1]
            overload = _overload(clients[under_stress], peak, progress)
            patient = _patient(clients[under_stress], progress)
        strangers = _strangers(servers[under_stress], reference, peak, progress)
        idle, flooded = _fairness(servers[under_stress], reference, progress)
        visits = {name: _visit(server, samples[name]) for name, server in servers.items()}
    stressed = replace(
        visits[under_stress], overload=overload, patient=patient, idle=idle, flooded=flooded, strangers=strangers
    )
    return visits | {under_stress: stressed}


def _visit(server: Running, samples: Mapping[Point, Sequence[Sample]]) -> Visit:
    return Visit(samples, peak_bytes(server.pids), peak_bytes(server.model_pids))


def order(names: Sequence[str], turn: int) -> list[str]:
    """Return whose window comes when: every second turn the last one backwards, and then another begins.

    Over such a pair of turns all have the same mean place, so that a machine that gets slower slows them alike.
    """
    first = turn // 2 % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if turn % 2 else turned


def _in_turns(clients: Mapping[str, GeneratorProcess], progress: Progress) -> dict[str, dict[Point, list[Sample]]]:
    samples: dict[str, dict[Point, list[Sample]]] = {name: {point: [] for point in POINTS} for name in clients}
    for turn, point in enumerate(each for each in POINTS for _ in range(each.turns)):
        load = Load(point.lengths, point.clients, _TURN_WARM, point.window)
        for name in order(list(clients), turn):
            samples[name][point].append(clients[name].run(load))
        speeds = (f"{name} {samples[name][point][-1].summary.per_second:,.0f}/s" for name in clients)
        progress.say(f"{point}: {', '.join(speeds)}")
    return samples


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
