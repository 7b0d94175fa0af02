"""The replay window: a request's sequence number is taken once."""

from dataclasses import dataclass

from ephemeral.errors import FrameRejected
from ephemeral.protocol import MAX_REQUESTS, REPLAY_WINDOW
from ephemeral.trusted.channel.lane import REFUSED


@dataclass(slots=True)
class ReplayWindow:
    """Which of the last 1,024 sequence numbers were seen; older ones count as seen (RFC 4303 section 3.4.3)."""

    _highest: int = 0
    _seen: int = 0  # bit i: highest - i

    def check(self, sequence: int) -> None:
        """Return if `sequence` is new.

        Raises:
            FrameRejected: seen before, too old, 0, or above the session's limit.
        """
        age = self._highest - sequence
        if not 0 < sequence <= MAX_REQUESTS or age >= REPLAY_WINDOW or (age >= 0 and self._seen >> age & 1):
            raise FrameRejected(REFUSED)

    def mark(self, sequence: int) -> None:
        """Record `sequence`; only after its frame was authenticated."""
        if sequence > self._highest:
            self._seen = (self._seen << (sequence - self._highest)) & ((1 << REPLAY_WINDOW) - 1)
            self._highest = sequence
        self._seen |= 1 << (self._highest - sequence)
