"""The load generator's process: reads loads from standard input, writes what came of them, one JSON object a line.

`python -m benchmarks.serving.generator PROTOCOL ADDRESS --reference FILE [--trust FILE]`. Clients stay connected
between loads, so that what is measured is serving and not connecting.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.serving.grpc_clients import SealedClient, UnsealedClient
from benchmarks.serving.http_client import HttpClient
from benchmarks.serving.load import Client, Summary, Vector, closed_loop, open_loop
from benchmarks.serving.reference import checker
from benchmarks.serving.texts import texts

MODEL: Final = "all-MiniLM-L6-v2"
STRANGERS: Final = "strangers"
"""The sealed protocol, by clients that do not listen when they are told to wait."""


@dataclass(frozen=True, slots=True)
class Load:
    """Texts of such lengths over so many connections: `in_flight` on each at any time, or `rate` a second over all."""

    lengths: str
    connections: int
    warm: float
    seconds: float
    in_flight: int = 1
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """What came of a load in its window; of the whole load, the cores that the generator took and answers a second."""

    summary: Summary
    generator_cores: float
    pace: float

    @classmethod
    def parse(cls, line: str) -> "Generated":
        """Read what the generator's process wrote."""
        fields = json.loads(line)
        return cls(Summary(**fields.pop("summary")), **fields)


class Generator:
    """Clients of one server, and the loads they send."""

    def __init__(self, connect: Callable[[], Awaitable[Client]], reference: Path) -> None:
        self._connect = connect
        self._reference = np.load(reference)
        self._clients: list[Client] = []

    async def run(self, load: Load) -> Generated:
        """Send a load."""
        while len(self._clients) < load.connections:
            self._clients.append(await self._connect())
        clients, sent = self._clients[: load.connections], texts(load.lengths)
        look, answers = checker(self._reference[load.lengths]), itertools.count()

        def check(number: int, answer: Callable[[], Vector]) -> None:
            next(answers)
            look(number, answer)

        begun, busy = time.monotonic(), time.process_time()
        if load.rate is None:
            result = await closed_loop(clients * load.in_flight, sent, check, warm=load.warm, seconds=load.seconds)
        else:
            result = await open_loop(clients, sent, check, rate=load.rate, warm=load.warm, seconds=load.seconds)
        took = time.monotonic() - begun
        return Generated(result, (time.process_time() - busy) / took, next(answers) / took)


def connector(protocol: str, address: str, trust: Path | None) -> Callable[[], Awaitable[Client]]:
    """Return what makes one more client."""
    if protocol in ("sealed", STRANGERS):
        assert trust is not None
        return lambda: SealedClient.connect(address, trust, heeds=protocol != STRANGERS)
    if protocol == "unsealed":
        return lambda: _unsealed(address)
    host, _, port = address.removeprefix("http://").partition(":")
    return lambda: HttpClient.connect(host, int(port), MODEL)


async def _unsealed(address: str) -> Client:
    return UnsealedClient(address)


async def _serve(generator: Generator) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(asdict(await generator.run(Load(**json.loads(line))))), flush=True)


def main() -> None:
    """Run the loads that standard input asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.generator")
    parser.add_argument("protocol", choices=("sealed", STRANGERS, "unsealed", "http"))
    parser.add_argument("address")
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--trust", type=Path)
    options = parser.parse_args()
    connect = connector(options.protocol, options.address, options.trust)
    asyncio.run(_serve(Generator(connect, options.reference)))


if __name__ == "__main__":
    main()
