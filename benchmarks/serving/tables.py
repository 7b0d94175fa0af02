"""The serving figures as Markdown, as plain data, and as what the drawing needs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Final

from benchmarks.serving.environments import release
from benchmarks.serving.generating import Sample
from benchmarks.serving.load import Summary
from benchmarks.serving.targets import MEBI, Serving, Target, middle, targets
from benchmarks.serving.visit import LONG, MIX, OVERLOAD, POINTS, SHORT, Point, Visit

NAMES: Final[Mapping[str, str]] = {
    "sealed": "sealed, through the relay",
    "unsealed": "same engine, unsealed",
    "infinity": f"infinity-emb {release('infinity', 'infinity_emb')}",
    "fastapi": f"FastAPI {release('fastapi', 'fastapi')}, plain",
}
DRAWING: Final = "serving.svg"


def markdown(serving: Serving) -> str:
    """Return targets, loads and stress as tables."""
    parts = [_targets(targets(serving)), f"![Tokens per second and latency of every server]({DRAWING})"]
    parts += [f"### {_capital(str(point))}\n\n{_loads(serving, point)}" for point in POINTS]
    parts.append(f"### Processor time of an answer, 64 clients\n\n{_costs(serving)}")
    parts.append(f"### Under stress\n\n{_stress(serving.visits['sealed'])}")
    parts.append(f"### Memory\n\n{_memory(serving)}")
    parts.append(f"### In process\n\n{_in_process(serving)}")
    return "\n\n".join(parts)


def plain(serving: Serving) -> dict[str, object]:
    """Return everything, for programs."""
    return {
        "targets": [asdict(target) | {"met": target.met} for target in targets(serving)],
        "in_process": asdict(serving.in_process),
        "visits": {name: [_visit(visit) for visit in visits] for name, visits in serving.visits.items()},
    }


def drawn(serving: Serving) -> dict[str, object]:
    """Return what the drawing shows: medians, by server and point."""

    def medians(value: Callable[[Sample], float]) -> dict[str, list[float]]:
        return {name: [_of(visits, point, value) for point in POINTS] for name, visits in serving.visits.items()}

    return {
        "names": NAMES,
        "points": [str(point) for point in POINTS],
        "tokens_per_second": medians(_tokens),
        "p50_ms": medians(lambda sample: sample.summary.p50_ms),
        "p99_ms": medians(lambda sample: sample.summary.p99_ms),
    }


def _targets(found: Sequence[Target]) -> str:
    head = "| target | measured | asked for | |\n|---|--:|--:|---|"
    rows = [
        f"| {t.name} | {t.figure:.{_digits(t.unit)}f} {t.unit} | {'≥' if t.at_least else '≤'} {t.bound:g} {t.unit} "
        f"| {'met' if t.met else 'NOT met'} |"
        for t in found
    ]
    return "\n".join(["### Targets\n", head, *rows])


def _loads(serving: Serving, point: Point) -> str:
    head = (
        "| server | answers/s | tokens/s | p50 | p95 | p99 | failed | server | generator |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    return "\n".join([head, *(_load(name, serving.visits[name], point) for name in serving.visits)])


def _load(name: str, visits: Sequence[Visit], point: Point) -> str:
    speed, tokens, p50, p95, p99, server, generator = (_of(visits, point, value) for value in _COLUMNS)
    failed = sum(sample.summary.failures for visit in visits for sample in visit.samples[point])
    return (
        f"| {NAMES[name]} | {speed:,.1f} | {tokens:,.0f} | {p50:,.1f} ms | {p95:,.1f} ms | {p99:,.1f} ms | {failed} "
        f"| {server:.2f} cores | {generator:.2f} cores |"
    )


def _costs(serving: Serving) -> str:
    points = (SHORT, MIX, LONG)
    head = "| server |" + "".join(f" {point.lengths} tokens: server | generator |" for point in points)
    rows = []
    for name, visits in serving.visits.items():
        spent = [_of(visits, point, cost) for point in points for cost in (_server_ms, _generator_ms)]
        rows.append(f"| {NAMES[name]} |" + "".join(f" {each:.2f} ms |" for each in spent))
    return "\n".join([head, "|---|" + "--:|" * 2 * len(points), *rows])


def _server_ms(sample: Sample) -> float:
    return 1000 * sample.server_cores / sample.pace if sample.pace else math.nan


def _generator_ms(sample: Sample) -> float:
    return 1000 * sample.generator_cores / sample.pace if sample.pace else math.nan


def _stress(visits: Sequence[Visit]) -> str:
    head = (
        "| load | asked for/s | answered/s | refused/s | of these unsent | failed | p50 | p99 |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    peak = median(visit.samples[MIX][-1].summary.per_second for visit in visits)
    rows: Sequence[tuple[str, Callable[[Visit], Sample | None]]] = (
        (f"{MIX}, {OVERLOAD:g} times the load above ({OVERLOAD * peak:,.0f}/s)", lambda visit: visit.overload),
        ("the same, of strangers who do not listen when they are told to wait", lambda visit: visit.strangers),
        (f"{MIX}, {OVERLOAD:g} requests of each in flight, refused ones again when told", lambda visit: visit.patient),
        ("10 polite clients, 16 tokens, alone", lambda visit: visit.idle),
        ("the same beside a flooder, 128 tokens, 32 requests in flight", lambda visit: visit.flooded),
    )
    return "\n".join([head, *(_stressed(name, visits, of) for name, of in rows)])


def _stressed(name: str, visits: Sequence[Visit], of: Callable[[Visit], Sample | None]) -> str:
    summaries = [sample.summary for visit in visits if (sample := of(visit)) is not None]
    asked, answered, refused, unsent, p50, p99 = (median(map(value, summaries)) for value in _STRESS_COLUMNS)
    failed = sum(s.failures for s in summaries)
    return (
        f"| {name} | {asked:,.0f} | {answered:,.0f} | {refused:,.0f} | {unsent:,.0f} | {failed} "
        f"| {p50:,.1f} ms | {p99:,.1f} ms |"
    )


def _memory(serving: Serving) -> str:
    head = "| server | all its processes | the one with the model |\n|---|--:|--:|"
    rows = [
        f"| {NAMES[name]} | {median(v.peak_bytes for v in visits) / MEBI:,.0f} MiB "
        f"| {median(v.model_peak_bytes for v in visits) / MEBI:,.0f} MiB |"
        for name, visits in serving.visits.items()
    ]
    return "\n".join([head, *rows])


def _in_process(serving: Serving) -> str:
    alone = serving.in_process
    return (
        f"The products of the encoder's layers alone: {alone.limit:,.0f} GFLOP/s. The engine, from texts to vectors: "
        f"{alone.engine:,.0f} GFLOP/s, {100 * alone.of_limit:.0f} % of it."
    )


def _visit(visit: Visit) -> dict[str, object]:
    return asdict(replace(visit, samples={})) | {
        "samples": {str(point): [asdict(sample) for sample in turns] for point, turns in visit.samples.items()}
    }


def _of(visits: Sequence[Visit], point: Point, value: Callable[[Sample], float]) -> float:
    return middle(value(sample) for visit in visits for sample in visit.samples[point])


def _tokens(sample: Sample) -> float:
    return sample.summary.tokens / sample.summary.seconds


_COLUMNS: Final[Sequence[Callable[[Sample], float]]] = (
    lambda sample: sample.summary.per_second,
    _tokens,
    lambda sample: sample.summary.p50_ms,
    lambda sample: sample.summary.p95_ms,
    lambda sample: sample.summary.p99_ms,
    lambda sample: sample.server_cores,
    lambda sample: sample.generator_cores,
)


_STRESS_COLUMNS: Final[Sequence[Callable[[Summary], float]]] = (
    lambda summary: (summary.answered + sum(summary.faults.values())) / summary.seconds,
    lambda summary: summary.per_second,
    lambda summary: summary.refused / summary.seconds,
    lambda summary: summary.unsent / summary.seconds,
    lambda summary: summary.p50_ms,
    lambda summary: summary.p99_ms,
)


def _digits(unit: str) -> int:
    return {"times": 2, "ms": 2}.get(unit, 0)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
