"""Who may wait for the engine: so many jobs, characters and tokens in flight, and a share of them for one session."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from ephemeral.errors import Overloaded
from ephemeral.protocol import LONGEST_RETRY_AFTER

MOST_CHARACTERS: Final = 16 * 1024 * 1024
MOST_TOKENS: Final = 128 * 1024  # about ten seconds of two cores with a small model
_SHARE: Final = 4  # one session may hold this part of everything
_LEAST_SECONDS: Final = 0.05
_MOST_SECONDS: Final = LONGEST_RETRY_AFTER.total_seconds()
_TOKENS_AT_START: Final = 5_000.0  # of a second, until the engine's own speed is known
_MEMORY: Final = 0.9  # what is left of older batches with each new one


@dataclass(slots=True, eq=False)
class Place:
    """What one job holds while it is in flight."""

    session: Hashable
    characters: int
    tokens: int


class Admission:
    """Counts what is in flight, before any work is done for it."""

    def __init__(self, most_jobs: int, most_characters: int = MOST_CHARACTERS, most_tokens: int = MOST_TOKENS) -> None:
        self._most_jobs = most_jobs
        self._most_characters = most_characters
        self._most_tokens = most_tokens
        self._jobs: Counter[Hashable] = Counter()
        self._tokens: Counter[Hashable] = Counter()
        self._all_jobs = self._all_tokens = self._characters = 0
        self._computed = _TOKENS_AT_START
        self._seconds = 1.0

    def require_room(self, session: Hashable) -> None:
        """Return if one more job of a session may be admitted, were it small enough.

        Raises:
            Overloaded: as `admit`.
        """
        if self._all_jobs >= self._most_jobs or self._jobs[session] >= max(1, self._most_jobs // _SHARE):
            raise self._overloaded()

    def admit(self, session: Hashable, characters: int, tokens: int) -> Place:
        """Give a job its place; `tokens` may be an upper bound, which `correct` replaces.

        A job larger than its session's share counts as that share: it is computed in turns, so that it keeps others
        waiting no longer than a smaller one.

        Raises:
            Overloaded: no room, or none for this session; `retry_after` is when the queue will have drained.
        """
        self.require_room(session)
        share = self._most_tokens // _SHARE
        tokens = min(tokens, share)
        full = (
            self._characters + characters > self._most_characters
            or self._all_tokens + tokens > self._most_tokens
            or self._tokens[session] + tokens > share
        )
        if full:
            raise self._overloaded()
        place = Place(session, characters, tokens)
        self._jobs[session] += 1
        self._tokens[session] += tokens
        self._all_jobs += 1
        self._all_tokens += tokens
        self._characters += characters
        return place

    def correct(self, place: Place, tokens: int) -> None:
        """Replace the bound by what the tokenizer counted; never by more."""
        over = max(0, place.tokens - tokens)
        self._tokens[place.session] -= over
        self._all_tokens -= over
        place.tokens -= over

    def release(self, place: Place) -> None:
        """Free the place of a job that ended, whichever way."""
        self._characters -= place.characters
        self._all_jobs -= 1
        self._all_tokens -= place.tokens
        self._jobs[place.session] -= 1
        self._tokens[place.session] -= place.tokens
        if not self._jobs[place.session]:
            del self._jobs[place.session], self._tokens[place.session]

    def computed(self, tokens: int, seconds: float) -> None:
        """Learn the engine's speed from a batch; small batches, slow per token as they are, say little about it."""
        self._computed = _MEMORY * self._computed + tokens
        self._seconds = _MEMORY * self._seconds + seconds

    def _overloaded(self) -> Overloaded:
        error = Overloaded("the enclave is busy; try again", code="QUEUE_FULL")
        wait = self._all_tokens * self._seconds / max(self._computed, 1.0)
        error.retry_after = min(max(wait, _LEAST_SECONDS), _MOST_SECONDS)
        return error
