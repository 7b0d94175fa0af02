"""The engine alone against the matrix products that it cannot do without, in one process, in turns.

`python -m benchmarks.serving.in_process ROUNDS` prints JSON. The limit is the best that PyTorch offers for the products
of one encoder layer, each weight at 32 x 32 rows: plain `linear` or oneDNN's prepacked one.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

import torch
from torch.nn import functional

from benchmarks.serving.engine import load_engine
from benchmarks.serving.texts import texts

ROWS, TOKENS = 32, 32
_WIDTH, _INNER, _LAYERS = 384, 1536, 6
_PRODUCTS: Final = ((_WIDTH, 3 * _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, _INNER), (_INNER, _WIDTH))
_WEIGHTS: Final = sum(inputs * outputs for inputs, outputs in _PRODUCTS)
_WARM_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class InProcess:
    """Speeds in 10^9 floating-point operations a second; `of_limit` is the median over rounds of their ratio."""

    limit: float
    engine: float
    of_limit: float


def measure(rounds: int) -> InProcess:
    """Time both in turns; the engine from texts to vectors, tokenizing included."""
    engine = load_engine()
    sent = [text.text for text in texts(str(TOKENS), ROWS)]
    products = _products()
    attention = _LAYERS * 4 * _WIDTH * TOKENS  # two products with each of the text's tokens, for each token
    work = ROWS * TOKENS * (2 * _WEIGHTS * _LAYERS + attention)
    _warm(lambda: engine.compute(engine.tokenize(sent)))
    limits, speeds = [], []
    with torch.inference_mode():
        for _ in range(rounds):
            least = sum(min(_seconds(way) for way in ways) for ways in products)
            limits.append(2 * ROWS * TOKENS * _WEIGHTS / least / 1e9)
            speeds.append(work / _seconds(lambda: engine.compute(engine.tokenize(sent))) / 1e9)
    of_limit = median(own / limit for own, limit in zip(speeds, limits, strict=True))
    return InProcess(median(limits), median(speeds), of_limit)


def _products() -> list[list[Callable[[], object]]]:
    """Return, for each product of a layer, the ways to compute it."""
    return [_ways(torch.randn(ROWS * TOKENS, inputs), torch.randn(outputs, inputs)) for inputs, outputs in _PRODUCTS]


def _ways(rows: torch.Tensor, weight: torch.Tensor) -> list[Callable[[], object]]:
    bias = torch.zeros(len(weight))
    ways: list[Callable[[], object]] = [lambda: functional.linear(rows, weight, bias)]
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, len(rows))  # noqa: SLF001 - as the engine does
        prepacked = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        prepacked(rows, packed, bias, "none", [], "")
    except (RuntimeError, AttributeError, NotImplementedError):
        return ways
    return [*ways, lambda: prepacked(rows, packed, bias, "none", [], "")]


def _seconds(run: Callable[[], object], repeats: int = 3) -> float:
    begun = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begun) / repeats


def _warm(run: Callable[[], object]) -> None:
    until = time.perf_counter() + _WARM_SECONDS
    while time.perf_counter() < until:
        run()


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    print(json.dumps(asdict(measure(int(arguments[0])))))


if __name__ == "__main__":
    main(sys.argv[1:])
