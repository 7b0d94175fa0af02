"""Tokens off the event loop: a thread of its own, and a session's texts one slice at a time."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from ephemeral.errors import EphemeralError, RequestRefused
from ephemeral_enclave.engine import Engine, Tokens
from ephemeral_enclave.handoff import Handoff
from ephemeral_enclave.outcomes import failed, report, tokenized

SLICE_TEXTS: Final = 32
SLICE_CHARACTERS: Final = 16_384


@dataclass(slots=True, eq=False, repr=False)  # it holds texts: it does not print
class _Slice:
    engine: Engine
    texts: Sequence[str]
    done: "asyncio.Future[list[Tokens]]"


class Tokenizing:
    """Makes tokens of the texts of many sessions, each of which has one slice in the thread's line at most."""

    def __init__(self, closing: Callable[[], EphemeralError]) -> None:
        """Take what callers are told when this was closed."""
        self._closing = closing
        self._closed = False
        self._line: deque[_Slice] = deque()
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._handoff = Handoff("tokenizer", self._take, _read, _deliver, self._failed)

    async def tokens(self, engine: Engine, texts: Sequence[str], session: Hashable) -> deque[tuple[int, Tokens]]:
        """Return the tokens of each text with its place.

        Raises:
            RequestRefused: a text cannot be read.
            EphemeralError: closed before the answer.
        """
        rows: deque[tuple[int, Tokens]] = deque()
        async with self._turns.setdefault(session, asyncio.Lock()):
            for part in _slices(texts):
                rows.extend(enumerate(await self._read(engine, part), len(rows)))
        return rows

    async def _read(self, engine: Engine, part: Sequence[str]) -> list[Tokens]:
        if self._closed:
            raise self._closing()
        waiting = _Slice(engine, part, asyncio.get_running_loop().create_future())
        with self._handoff.lock:
            self._line.append(waiting)
        self._handoff.wake()
        try:
            return await waiting.done
        finally:
            self._leave(waiting)
            del waiting  # it has the error, whose traceback has this frame, and the texts

    def close(self) -> None:
        """Take no more, tell those who wait, and return when the thread is done with what it was at."""
        with self._handoff.lock:
            self._closed = True
            left = list(self._line)
            self._line.clear()
        self._handoff.close()
        for waiting in left:
            _fail(waiting, self._closing())

    def _leave(self, waiting: _Slice) -> None:
        """Take a caller's slice along when it left: nobody counts the texts any more."""
        if waiting.done.cancelled():
            with self._handoff.lock, suppress(ValueError):
                self._line.remove(waiting)

    def _take(self) -> _Slice | None:
        return self._line.popleft() if self._line else None

    def _failed(self, part: _Slice | None, error: BaseException) -> None:
        """Tell of a fault of this code: its own caller, or everybody in line."""
        report(error)
        for waiting in list(self._line) if part is None else (part,):
            _fail(waiting, failed())


def _read(part: _Slice) -> list[Tokens] | RequestRefused:
    return tokenized(part.engine, part.texts)


def _deliver(part: _Slice, tokens: list[Tokens] | RequestRefused) -> None:
    if isinstance(tokens, RequestRefused):
        _fail(part, tokens)
    elif not part.done.done():
        part.done.set_result(tokens)


def _fail(part: _Slice, error: EphemeralError) -> None:
    if not part.done.done():
        part.done.set_exception(error)


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into slices: at least one text, at most SLICE_TEXTS, about SLICE_CHARACTERS together."""
    part: list[str] = []
    for text in texts:
        if part and (len(part) == SLICE_TEXTS or sum(map(len, part)) + len(text) > SLICE_CHARACTERS):
            yield part
            part = []
        part.append(text)
    yield part
