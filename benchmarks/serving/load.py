"""Load of two kinds, and what came of it. Nothing here knows a protocol.

Closed loop: each client sends its next request when the last one was answered. Open loop: requests come at random times
whether or not the last ones were answered, as strangers send them; a latency then begins when its request was due.
"""

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.serving.texts import Text

Vector = npt.NDArray[np.float32]
REFUSED: Final = "refused"
UNSENT: Final = "refused by the client"
_SETTLE_SECONDS: Final = 60.0
_FAULT_CHARACTERS: Final = 120


class Refused(Exception):
    """There is no room, and in how many seconds there will be, if that was said.

    Said by the server, or by its client, which sent nothing because it had been told so before.
    """

    def __init__(self, retry_after: float = 0.0, *, by_client: bool = False) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after
        self.by_client = by_client


class WrongAnswer(Exception):
    """An answer that is not the vector of its text."""


class Client(Protocol):
    """Something that gets a text embedded."""

    async def embed(self, text: str) -> Callable[[], Vector]:
        """Return the answer, to be parsed only if somebody looks at it.

        Raises:
            Refused: the server has no room.
        """


Check = Callable[[int, Callable[[], Vector]], None]
"""Given a text's number and its answer: raises WrongAnswer, or accepts it; looks at a sample."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, in seconds of the monotonic clock; `fault` is empty when it was answered.

    `retry_after` is how many seconds from then its client should not ask again.
    """

    begun: float
    ended: float
    tokens: int
    fault: str
    retry_after: float = 0.0

    def part(self, start: float, end: float) -> float:
        """Return the part of its time that lies between two moments, 0 to 1."""
        took = self.ended - self.begun
        return (
            max(0.0, min(self.ended, end) - max(self.begun, start)) / took if took else float(self.within(start, end))
        )

    def within(self, start: float, end: float) -> bool:
        """Return whether it ended between two moments."""
        return start <= self.ended < end


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened in the window: answers, tokens of answered texts, latencies of answers in milliseconds.

    In a closed loop, an answer under way when the window opened or closed counts by the part of its time within:
    answers come a batch at a time, and a batch more or less is a tenth of what a short window holds. In an open loop
    more and more are under way, so that counting parts would flatter: what ended within counts.
    """

    seconds: float
    answered: float
    tokens: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    faults: dict[str, int]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def refused(self) -> int:
        """Requests that were told at once that there is no room, those included that were not sent."""
        return self.faults.get(REFUSED, 0) + self.unsent

    @property
    def unsent(self) -> int:
        """Requests that the client refused by itself, because it had been told that there is no room."""
        return self.faults.get(UNSENT, 0)

    @property
    def failures(self) -> int:
        """Requests that were neither answered nor refused."""
        return sum(self.faults.values()) - self.refused


def summary(outcomes: Sequence[Outcome], start: float, seconds: float, *, in_parts: bool) -> Summary:
    """Sum up the window: answers as Summary says, latencies and faults of what ended within."""
    end = start + seconds
    counted = Outcome.part if in_parts else Outcome.within
    parts = [(counted(outcome, start, end), outcome.tokens) for outcome in outcomes if not outcome.fault]
    within = [outcome for outcome in outcomes if outcome.within(start, end)]
    latencies = sorted(1000 * (outcome.ended - outcome.begun) for outcome in within if not outcome.fault)
    return Summary(
        seconds,
        math.fsum(part for part, _ in parts),
        math.fsum(part * tokens for part, tokens in parts),
        percentile(latencies, 50),
        percentile(latencies, 95),
        percentile(latencies, 99),
        dict(Counter(outcome.fault for outcome in within if outcome.fault)),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least value that at least `percent` of all are no greater than (nearest rank); NaN of nothing."""
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1] if ordered else math.nan


async def closed_loop(
    clients: Sequence[Client], texts: Sequence[Text], check: Check, *, warm: float, seconds: float
) -> Summary:
    """Let every client send one request after the other, and wait when it is told to.

    The window opens `warm` seconds after each had an answer.
    """
    outcomes: list[Outcome] = []
    numbers, over = itertools.count(), asyncio.Event()

    async def keep_sending(client: Client, answered: asyncio.Event) -> None:
        while not over.is_set():
            outcome = await _request(client, texts, next(numbers), check, time.monotonic())
            outcomes.append(outcome)
            answered.set()
            if outcome.retry_after:
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), outcome.retry_after)

    first = [asyncio.Event() for _ in clients]
    sending = [asyncio.create_task(keep_sending(*each)) for each in zip(clients, first, strict=True)]
    await asyncio.wait_for(asyncio.gather(*(answered.wait() for answered in first)), _SETTLE_SECONDS)
    await asyncio.sleep(warm)
    start = time.monotonic()
    await asyncio.sleep(seconds)
    over.set()
    await asyncio.gather(*sending)  # what is under way is answered, so that the next load finds nothing waiting
    return summary(outcomes, start, seconds, in_parts=True)


async def open_loop(
    clients: Sequence[Client], texts: Sequence[Text], check: Check, *, rate: float, warm: float, seconds: float
) -> Summary:
    """Send at `rate` requests a second in all, at random times (Poisson); the clients take turns and may overlap."""
    outcomes: list[Outcome] = []
    random, under_way = Random(rate), set[asyncio.Task[None]]()  # noqa: S311 - nothing secret
    begin = due = time.monotonic()

    async def send(number: int, due: float) -> None:
        outcomes.append(await _request(clients[number % len(clients)], texts, number, check, due))

    for number in itertools.count():
        due += random.expovariate(rate)
        if due >= begin + warm + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(send(number, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return summary(outcomes, begin + warm, seconds, in_parts=False)


async def _request(client: Client, texts: Sequence[Text], number: int, check: Check, begun: float) -> Outcome:
    number %= len(texts)
    fault, retry_after = "", 0.0
    try:
        answer = await client.embed(texts[number].text)
        ended = time.monotonic()
        check(number, answer)
    except Refused as refused:
        fault, ended = UNSENT if refused.by_client else REFUSED, time.monotonic()
        retry_after = refused.retry_after
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and named
        fault, ended = f"{type(error).__name__}: {error}"[:_FAULT_CHARACTERS], time.monotonic()
    return Outcome(begun, ended, texts[number].tokens, fault, retry_after)
