"""Floor 5: how many jobs a loop that does not turn keeps from running: those that somebody is free to take."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from .._core.census import ledgers
from .._core.consumer import MANY_TASKS
from .stacks import suspended
from .tasks import live_tasks
from .waits import WaitKind, place


def jobs_delayed(loop: asyncio.AbstractEventLoop | None) -> int:
    """Return for how many waiting jobs a consumer of *loop* waits, was woken, or is a pool's without a job; any thread.

    With very many asyncio tasks those that were woken are not looked for. 0 where all moves on meanwhile.
    """
    try:
        return _count(loop)
    except RuntimeError:  # something changed its size while it was walked over
        return 0


def _count(loop: asyncio.AbstractEventLoop | None) -> int:
    waiting: list[tuple[Any, int, int]] = []
    for ledger in ledgers():
        queue, free = ledger.queue(), _free_workers(ledger)
        own = getattr(queue, "_loop", None)  # None until somebody has waited there: a pool may only just have begun
        if ledger.waiting is not None and (own is loop or (own is None and free)):
            with contextlib.suppress(Exception):  # a container of the program's own
                waiting.append((queue, len(ledger.waiting), free))
    if not any(number for _, number, _ in waiting):
        return 0
    woken = _woken(loop)
    return sum(min(number, max(free, _waiting(queue) + woken[id(queue)])) for queue, number, free in waiting if number)


def _free_workers(ledger: Any) -> int:
    """Return how many workers of pools have no job."""
    free = 0
    for series, limit in tuple(ledger.limits.items()):
        free += max(0, limit - (series.taken - sum(series.outcomes().values())))
    return free


def _waiting(queue: Any) -> int:
    return sum(not each.done() for each in tuple(getattr(queue, "_getters", ())))


def _woken(loop: asyncio.AbstractEventLoop | None) -> "Counter[int]":
    """Count those by queue whose get() is about to return."""
    found: Counter[int] = Counter()
    tasks = list(live_tasks())
    for task in tasks if len(tasks) <= MANY_TASKS else ():
        with contextlib.suppress(Exception):  # it moves on meanwhile, or is of a class of its own
            future = getattr(task, "_fut_waiter", None)
            if task.get_loop() is not loop or task.done() or (future is not None and not future.done()):
                continue
            coroutine = task.get_coro()
            at = None if coroutine.cr_running else place(*suspended(coroutine))
            if at is not None and at.kind is WaitKind.QUEUE_GET:
                found[id(at.on)] += 1
    return found
