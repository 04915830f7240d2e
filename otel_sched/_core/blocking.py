"""Floor 2: the halves of put() and get() that wait, and shutdown() where Python does not have it yet (3.11, 3.12).

The behaviour is that of CPython 3.13's asyncio.Queue, whose own test suite is run against it on every Python.
"""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from .clock import Clock, monotonic
from .errors import QueueShutDown

T = TypeVar("T")


async def wait_in(queue: Any, waiters: "deque[asyncio.Future[None]]", busy: Callable[[], bool]) -> None:
    """Wait among *waiters* to be woken; one who is cancelled after that wakes the next in its place."""
    waiter = queue._get_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except BaseException:
        waiter.cancel()
        with contextlib.suppress(ValueError):
            waiters.remove(waiter)
        if not busy() and not waiter.cancelled():
            queue._wakeup_next(waiters)
        raise


async def await_item(queue: Any) -> None:
    """Return when *queue* has an item; raise QueueShutDown when it never will."""
    while queue.empty():
        if getattr(queue, "_is_shutdown", False):
            raise QueueShutDown
        await wait_in(queue, queue._getters, queue.empty)


async def await_room(queue: Any, now: Clock) -> float:
    """Return when *queue* has room, with the seconds it took; raise QueueShutDown if it was shut down meanwhile."""
    since = now()
    while queue.full():
        if getattr(queue, "_is_shutdown", False):
            raise QueueShutDown
        await wait_in(queue, queue._putters, queue.full)
    if getattr(queue, "_is_shutdown", False):
        raise QueueShutDown
    return now() - since


if sys.version_info >= (3, 13):

    class Blocking(asyncio.Queue[T]):
        """asyncio's queue, which has shutdown()."""

else:

    class Blocking(asyncio.Queue[T]):
        """asyncio's queue with the shutdown() of Python 3.13."""

        _is_shutdown = False
        # asyncio's own, which typeshed leaves out
        _getters: "deque[asyncio.Future[None]]"
        _putters: "deque[asyncio.Future[None]]"
        _unfinished_tasks: int
        _finished: asyncio.Event

        def _format(self) -> str:
            return super()._format() + (" shutdown" if self._is_shutdown else "")

        async def put(self, item: T) -> None:
            if self.full():
                await await_room(self, monotonic)
            self.put_nowait(item)

        def put_nowait(self, item: T) -> None:
            if self._is_shutdown:
                raise QueueShutDown
            super().put_nowait(item)

        async def get(self) -> T:
            await await_item(self)
            return self.get_nowait()

        def get_nowait(self) -> T:
            if self._is_shutdown and self.empty():
                raise QueueShutDown
            return super().get_nowait()

        def shutdown(self, immediate: bool = False) -> None:
            """Refuse puts from now on, and gets once the queue is empty; with *immediate*, drop what waits in it."""
            self._is_shutdown = True
            if immediate:
                while not self.empty():
                    self._get()
                    self._unfinished_tasks = max(0, self._unfinished_tasks - 1)
                if not self._unfinished_tasks:
                    self._finished.set()
            for waiters in (self._getters, self._putters):
                while waiters:
                    waiter = waiters.popleft()
                    if not waiter.done():
                        waiter.set_result(None)
