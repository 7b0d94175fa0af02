"""What a server's processes use: processor time, and the most memory they ever had."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

_KIB: Final = 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes and their children have taken."""
    times = [process.cpu_times() for process in _trees(pids)]
    return float(sum(time.user + time.system for time in times))


def peak_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the peak resident sizes (VmHWM) of processes and their children."""
    return sum(_peak(Path(f"/proc/{process.pid}/status")) for process in _trees(pids))


def _trees(pids: Iterable[int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return [process for root in roots for process in (root, *root.children(recursive=True))]


def _peak(status: Path) -> int:
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * _KIB
