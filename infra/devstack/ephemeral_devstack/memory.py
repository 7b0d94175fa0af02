"""Looking for known bytes in another process, from outside: a scan from inside would copy what it looks for."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_WINDOW: Final = 16 * 1024 * 1024


def find_in_memory(pid: int, needles: Iterable[bytes]) -> set[bytes]:
    """Return those `needles` that occur in any readable mapping of process `pid` (Linux, needs ptrace permission)."""
    wanted, found = set(needles), set[bytes]()
    for window in mapped_windows(pid, overlap=max(map(len, wanted), default=1) - 1):
        found |= {needle for needle in wanted if needle in window}
    return found


def mapped_windows(pid: int, *, overlap: int) -> Iterator[bytes]:
    """Yield all readable memory of process `pid` in pieces; what is `overlap` bytes long lies whole in one of them."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in _mappings(pid):
            for at in range(start, end, _WINDOW):
                yield _read(memory.fileno(), at, min(_WINDOW + overlap, end - at))


def _mappings(pid: int) -> list[tuple[int, int]]:
    ranges = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, *_ = line.split()
        if mode.startswith("r") and not line.endswith(("[vvar]", "[vsyscall]")):
            start, end = (int(part, 16) for part in span.split("-"))
            ranges.append((start, end))
    return ranges


def _read(descriptor: int, at: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, at)
    except (OSError, OverflowError):
        return b""
