"""The relay: clients on one side, enclaves on the other, bytes in between.

It parses nothing and could not: no message type and no cipher is importable from here. What it adds to the splice is
the choice of an enclave per connection. A client keeps one connection per session, so a session stays where it began.
"""

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ephemeral.transport import Address, EventKind, Splice, SpliceEvent, SpliceLimits

_LEAVES: Final = frozenset({EventKind.UNREACHABLE, EventKind.CLOSED})


class EnclavePool:
    """Orders the enclaves for the next connection: reachable ones first, of those the least connected."""

    def __init__(self, enclaves: Sequence[Address]) -> None:
        if not enclaves:
            raise ValueError("a relay needs an enclave")
        self._enclaves = tuple(enclaves)
        self._connections: Counter[Address] = Counter()
        self._down: set[Address] = set()

    def order(self) -> Sequence[Address]:
        """Return all enclaves, best first.

        One that could not be reached last time has no connections; without going last, it would attract all of them.
        """
        return sorted(self._enclaves, key=lambda enclave: (enclave in self._down, self._connections[enclave]))

    def note(self, event: SpliceEvent) -> None:
        """Learn from what happened to a connection."""
        if event.upstream is None:
            return
        if event.kind is EventKind.DIALLED:
            self._connections[event.upstream] += 1
        elif event.kind in _LEAVES:
            self._connections[event.upstream] -= 1
        if event.kind is EventKind.UNREACHABLE:
            self._down.add(event.upstream)
        elif event.kind is EventKind.OPENED:
            self._down.discard(event.upstream)


def relay(
    listening: socket.socket,
    enclaves: Sequence[Address],
    limits: SpliceLimits,
    *,
    observe: Callable[[SpliceEvent], object] | None = None,
) -> Splice:
    """Return the splice from a listening socket to the enclaves; ``async with`` runs it, ``drain`` ends it."""
    pool = EnclavePool(enclaves)

    def note(event: SpliceEvent) -> None:
        pool.note(event)
        if observe is not None:
            observe(event)

    return Splice(listening, pool.order, limits, observe=note)
