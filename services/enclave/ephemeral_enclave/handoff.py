"""Work for threads, and its results back in the event loop, with as few switches between the two as possible.

A thread that is asked for one thing at a time idles while the event loop is busy with something else. These take what
waits for as long as anything does, and what they finished in the meantime is delivered in one go.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Handoff(Generic[T, R]):
    """Threads between `take` and `work`, which run in them, and `deliver`, which runs in the event loop.

    `take` is called with `lock` held, and returns None when nothing waits. Whoever changes what it looks at holds the
    lock, too. When one of the three raises, `failed` gets what was taken and the error in the event loop. It gets no
    more than the error when that was `take`: the thread then stops until the next wake(), and `failed` has to see to
    what waits.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[], T | None],
        work: Callable[[T], R],
        deliver: Callable[[T, R], None],
        failed: Callable[[T | None, BaseException], None],
        *,
        threads: int = 1,
    ) -> None:
        self.lock = Lock()
        self.working = 0  # threads that have taken something, and are not done with it
        self._awake = 0  # those, and threads that are about to look for something
        self._take, self._work, self._deliver, self._failed = take, work, deliver, failed
        self._threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._finished: deque[tuple[T, R]] = deque()
        self._announced = False

    def wake(self, things: int = 1) -> None:
        """Let idle threads take what waits, as many as there are `things`, in the running event loop."""
        with self.lock:
            idle = min(things, self._threads - self._awake)
            self._awake += idle
        for _ in range(idle):
            self._pool.submit(self._run, asyncio.get_running_loop())

    def close(self) -> None:
        """Return when the threads are done with what they were at; from now on, `take` must return None."""
        self._pool.shutdown(wait=True)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._step(loop):
            pass

    def _step(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Work on one thing, and let go of it with this frame; return whether there was one."""
        item = None
        try:
            item = self._next()
            if item is not None:
                self._finished.append((item, self._worked(item)))
        except BaseException as error:  # noqa: BLE001  # whatever it is, those who wait are told
            loop.call_soon_threadsafe(self._failed, item, error)
            return item is not None
        if item is not None and not self._announced:
            self._announced = True
            loop.call_soon_threadsafe(self._deliver_all)
        return item is not None

    def _next(self) -> T | None:
        item = None
        with self.lock:
            try:
                item = self._take()
            finally:
                self._awake -= item is None
                self.working += item is not None
        return item

    def _worked(self, item: T) -> R:
        try:
            return self._work(item)
        finally:
            with self.lock:
                self.working -= 1

    def _deliver_all(self) -> None:
        self._announced = False  # before looking: what is finished from here on announces itself again
        while self._finished:
            item, result = self._finished.popleft()
            try:
                self._deliver(item, result)
            except Exception as error:  # noqa: BLE001  # and those behind it get theirs
                self._failed(item, error)
