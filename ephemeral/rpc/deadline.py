"""How long a handler may work."""

from datetime import timedelta
from typing import Protocol


class Timed(Protocol):
    """What a servicer context says about time, sync or asyncio."""

    def time_remaining(self) -> float | None:
        """Return the seconds left, or None without a deadline."""
        ...


def deadline(context: Timed, most: timedelta) -> timedelta:
    """Return the time left for a call: what its client allows, at most `most`, at least nothing.

    A client that sets no deadline gets `most`: gRPC then says None, or 9.2e18 s in a sync server.
    """
    left = context.time_remaining()
    return most if left is None or left >= most.total_seconds() else timedelta(seconds=max(left, 0.0))
