"""Writes docs/parsers.md, what the costliest input costs each parser: python -m fuzz.limits; --print only shows it."""

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.nasty import inputs
from fuzz.targets import TARGETS

REPORT: Final = Path(__file__).parents[1] / "docs" / "parsers.md"
_ROUNDS: Final = 3
_PATIENCE: Final = 300


@dataclass(frozen=True, slots=True)
class Cost:
    """What one input cost one parser; memory is what the process grew by at most."""

    description: str
    size: int
    seconds: float
    megabytes: float
    accepted: bool


def measure(name: str, description: str, raw: bytes) -> Cost:
    """Parse in a child process, so that memory can be told apart: three times, with nothing cached at first."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(name, raw, sender))
    child.start()
    sender.close()
    if not receiver.poll(_PATIENCE):
        child.kill()
        raise TimeoutError(f"{name}: {description} takes more than {_PATIENCE} s")
    seconds, megabytes, accepted = receiver.recv()
    child.join()
    return Cost(description, len(raw), seconds, megabytes, accepted)


def _child(name: str, raw: bytes, sender: "multiprocessing.connection.Connection") -> None:
    target = TARGETS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        accepted = target.accepts(raw)
        times.append(time.process_time() - begin)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send((max(times), (after - before) / 1024, accepted))
    os._exit(0)


def worst(name: str) -> Cost:
    """Return the slowest input of one target, with the largest memory of any."""
    costs = [measure(name, description, raw) for description, raw in inputs(name).items()]
    slowest = max(costs, key=lambda cost: cost.seconds)
    most = max(cost.megabytes for cost in costs)
    return Cost(slowest.description, slowest.size, slowest.seconds, most, slowest.accepted)


def rows() -> Iterator[str]:
    """Yield the table."""
    yield "| parser | cap, bytes | worst ms | peak MB | slowest input, bytes | ends as |"
    yield "|---|--:|--:|--:|---|---|"
    for name, target in TARGETS.items():
        cost = worst(name)
        print(f"{name:18} {cost.seconds * 1000:9.1f} ms {cost.megabytes:7.1f} MB  {cost.description}", file=sys.stderr)
        ends = "a value" if cost.accepted else "its error"
        yield (
            f"| {name} | {target.cap:,} | {cost.seconds * 1000:,.1f} | {cost.megabytes:,.1f} "
            f"| {cost.description} ({cost.size:,}) | {ends} |"
        )


def report() -> str:
    """Return the whole document."""
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    return "\n".join([_HEAD, *rows(), "", f"Measured on {machine}.", ""])


_HEAD: Final = """\
# What hostile bytes cost

Each parser that sees bytes of strangers, at its size cap: the slowest input that we know, and the most memory that any
of our inputs took. Times are those of the processor, the slowest of three runs in a process of its own; memory is what
that process grew by, as the system counts it. They are facts of one machine, and no promise. How each input is made is
in `fuzz/nasty.py`, what each parser is called with in `fuzz/`. Larger inputs are refused before they are parsed.

`tokenizer`, `strict_json`, `safetensors` and `architecture` see files that a trusted publisher signed, `finished` what
a verified enclave sealed, `policy`, `pcr_file`, `enclave_config` and `host_config` what an operator wrote. All others
see bytes of whoever holds the network.

Remake this page, on a machine with nothing else to do:

```sh
.venv/bin/python -m fuzz.limits
```
"""


if __name__ == "__main__":
    text = report()
    if "--print" in sys.argv:
        print(text)
    else:
        REPORT.write_text(text)
