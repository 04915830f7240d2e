"""Floor 5: dumps: what all asyncio tasks, queues and threads of this process do at one moment, as text and JSON."""

import asyncio
import functools
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from . import collector, plain, text
from .look import Look
from .queues import QueueInfo, queue_infos
from .tasks import MAX_TASKS, Tasks
from .threads import ThreadInfo

FIRST_TURN = 1.0
"""Seconds that a dump waits for the loop which it was asked from to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """A process at one moment, in plain values: it keeps nothing alive. `text()` is for people, `json()` for programs.

    Parts that were not asked for are None.
    """

    when: datetime
    at: float
    """The same on the monotonic clock, in seconds."""
    pid: int
    python: str
    seconds: float
    """How long the look took."""
    tasks: Tasks | None = None
    queues: tuple[QueueInfo, ...] | None = None
    queues_total: int = 0
    threads: tuple[ThreadInfo, ...] | None = None
    threads_total: int = 0
    interrupted: str = ""
    """The threads when the signal came, as `faulthandler` wrote them without waiting for the interpreter."""

    def text(self) -> str:
        """Return it for people: asyncio tasks as a tree of who waits for whom, like ones together."""
        return text.of_dump(self)

    def json(self) -> str:
        """Return it for programs, in the shape that the documentation describes; a line for each task."""
        return plain.of_dump(self)

    def __str__(self) -> str:
        return self.text()


def dump_tasks(*, limit: int = MAX_TASKS) -> Dump:
    """Return what every asyncio task of every loop does and whom it waits for; from any thread.

    In the thread of a loop it stops that loop for as long as it takes; `dump_tasks_async` does not.

    Args:
        limit: The most tasks shown; running ones come first, then the oldest. The rest is counted.
    """
    return _made(limit, tasks=True)


def dump_queues() -> Dump:
    """Return the numbers of every observed queue, who waits at it, and its open jobs; from any thread."""
    return _made(MAX_TASKS, queues=True)


def dump(*, limit: int = MAX_TASKS) -> Dump:
    """Return all there is to know of this process: asyncio tasks, queues and threads; from any thread.

    In the thread of a loop it stops that loop for as long as it takes; `dump_async` does not.

    Args:
        limit: The most tasks shown; running ones come first, then the oldest. The rest is counted.
    """
    return _made(limit, tasks=True, queues=True, threads=True)


def snapshot() -> Dump:
    """Return asyncio tasks and queues, to be compared by `diff` with a later one; from any thread.

    It is a dump of up to a hundred thousand tasks, without the threads.
    """
    return _made(10 * MAX_TASKS, tasks=True, queues=True)


async def dump_tasks_async(*, limit: int = MAX_TASKS) -> Dump:
    """Do as `dump_tasks` does, in a thread of its own, while the loop turns on."""
    return await _in_thread(functools.partial(dump_tasks, limit=limit))


async def dump_async(*, limit: int = MAX_TASKS) -> Dump:
    """Do as `dump` does, in a thread of its own, while the loop turns on."""
    return await _in_thread(functools.partial(dump, limit=limit))


def checked_limit(limit: Any) -> int:
    """Return *limit* if it is a number of tasks; raise TypeError or ValueError if not."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be a number of tasks, an int, got {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be 1 task or more, got {limit}")
    return limit


async def _in_thread(make: Callable[[], Dump]) -> Dump:
    # Not the loop's own executor: that all of its threads are busy may be what is wrong.
    executor = ThreadPoolExecutor(1, thread_name_prefix="otel_sched dump")
    loop, turned = asyncio.get_running_loop(), threading.Event()
    loop.call_soon(turned.set)

    def made() -> Dump:
        turned.wait(FIRST_TURN)  # else the task that asks would be seen as it starts this thread
        return make()

    try:
        return await loop.run_in_executor(executor, made)
    finally:
        executor.shutdown(wait=False)


def _made(limit: int, *, tasks: bool = False, queues: bool = False, threads: bool = False) -> Dump:
    began, limit = perf_counter(), checked_limit(limit)
    with collector.held_off():
        return _looked(Look(limit), began, tasks, queues, threads)


def _looked(look: Look, began: float, tasks: bool, queues: bool, threads: bool) -> Dump:
    result = look.result() if tasks else None
    return Dump(
        when=datetime.now(UTC),
        at=look.now,
        pid=os.getpid(),
        python=platform.python_version(),
        tasks=result,
        queues=queue_infos(look.jobs, look.waiters) if queues else None,
        queues_total=len(look.jobs.ledgers),
        threads=look.threads.infos(look.stacks, look.loop_infos()) if threads else None,
        threads_total=len(look.threads.frames),
        seconds=perf_counter() - began,
    )
