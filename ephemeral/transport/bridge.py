"""Bridges for software that opens UNIX sockets but not VSock: gRPC, as its wheels are built.

A bridge is a splice with one end in a directory that only this user can enter. ``async with`` runs it in the running
loop, ``with`` in a thread of its own; both give the UNIX address to hand to gRPC.
"""

import asyncio
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ephemeral.transport.address import Address, Scheme
from ephemeral.transport.sockets import listen
from ephemeral.transport.splice import Splice, SpliceEvent, SpliceLimits

T = TypeVar("T")


class _Bridge:
    def __init__(self, limits: SpliceLimits, observe: Callable[[SpliceEvent], object] | None) -> None:
        self._limits = limits
        self._observe = observe
        self._stack = AsyncExitStack()
        self._splice: Splice | None = None
        self._thread: _LoopThread | None = None

    async def __aenter__(self) -> Address:
        if self._splice is not None:
            raise RuntimeError("a bridge opens once")
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ephemeral-"))
        private = Address(Scheme.UNIX, str(Path(folder, "bridge")))
        listening, upstream = self._sides(private)
        self._splice = Splice(listening, lambda: (upstream,), self._limits, observe=self._observe)
        await self._stack.enter_async_context(self._splice)
        return private

    def _sides(self, private: Address) -> tuple[socket.socket, Address]:
        raise NotImplementedError

    async def drain(self, grace: timedelta) -> int:
        """Accept no more, give open connections `grace` to end, reset the others and return how many those were."""
        return await self._splice.drain(grace) if self._splice is not None else 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def __enter__(self) -> Address:
        self._thread = _LoopThread()
        try:
            return self._thread.call(self.__aenter__())
        except BaseException:
            self._thread.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._thread.call(self.__aexit__(kind, error, trace))
        self._thread.stop()


class LocalBridge(_Bridge):
    """Gives a private UNIX address at which a client reaches `address`."""

    def __init__(
        self,
        address: Address,
        limits: SpliceLimits | None = None,
        *,
        observe: Callable[[SpliceEvent], object] | None = None,
    ) -> None:
        super().__init__(limits or SpliceLimits(), observe)
        self._address = address

    def _sides(self, private: Address) -> tuple[socket.socket, Address]:
        return listen(private), self._address


class ServerBridge(_Bridge):
    """Gives a private UNIX address for a server to bind, which clients reach through the socket `listening`."""

    def __init__(
        self,
        listening: socket.socket,
        limits: SpliceLimits | None = None,
        *,
        observe: Callable[[SpliceEvent], object] | None = None,
    ) -> None:
        super().__init__(limits or SpliceLimits(), observe)
        self._listening = listening

    def _sides(self, private: Address) -> tuple[socket.socket, Address]:
        return self._listening, private


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ephemeral-bridge", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
