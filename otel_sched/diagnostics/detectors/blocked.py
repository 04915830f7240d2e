"""Floor 5: whether an asyncio task can go on only when a full queue gets room, and which one."""

import asyncio
import gc
from collections.abc import Iterable, Mapping
from typing import Any

from .trail import innermost, timed

DEPTH = 5
"""Through how many tasks, groups and gather() a wait is followed."""


def puts_into(task: asyncio.Task[Any], putters: Mapping[int, int], depth: int = DEPTH) -> frozenset[int] | None:
    """Return the full queues one of which must get room before *task* can go on.

    None where it can go on by itself: it runs, it waits for something else, or it has set itself a time-out.

    Args:
        task: A suspended asyncio task.
        putters: The number of the queue for the id() of each future that waits for room in it.
        depth: How many more tasks may stand in between.
    """
    future = getattr(task, "_fut_waiter", None)
    if future is None or future.done():
        return None
    queue = putters.get(id(future))
    if queue is not None:
        return None if timed(task) else frozenset((queue,))
    if depth == 0:
        return None
    children = [each for each in awaited(task, future) if not each.done()]
    if not children or timed(task):
        return None
    found: set[int] = set()
    for child in children:  # all of them: one that goes on may fail, and so end the wait for the rest
        queues = puts_into(child, putters, depth - 1)
        if queues is None:
            return None
        found |= queues
    return frozenset(found)


def awaited(task: asyncio.Task[Any], future: Any) -> Iterable[asyncio.Task[Any]]:
    """Return the asyncio tasks that *task* waits for with *future*: one, gather()'s, a group's, or wait()'s."""
    if isinstance(future, asyncio.Task):
        return [future]
    children = getattr(future, "_children", None)
    if children is None:
        children = _members(innermost(task))
    tasks = [each for each in children if isinstance(each, asyncio.Task)]
    return tasks if len(tasks) == len(children) else []


def _members(coroutine: Any) -> list[Any]:
    code = getattr(coroutine, "cr_code", None)
    if code is None:
        return []
    held = gc.get_referents(coroutine)
    if code.co_name in ("__aexit__", "_aexit"):
        group = next((each for each in held if isinstance(each, asyncio.TaskGroup)), None)
        return [] if group is None else list(getattr(group, "_tasks", ()))
    if code is asyncio.tasks._wait.__code__:  # type: ignore[attr-defined]
        return [task for each in held if isinstance(each, (set, list)) for task in each]
    return []
