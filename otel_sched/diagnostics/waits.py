"""Floor 5: what a suspended asyncio task waits for, as its innermost frames tell."""

import asyncio
import gc
import os
from asyncio import Queue as AsyncioQueue  # by value: some programs put another class in its place
from asyncio import locks, streams, tasks
from collections.abc import Iterator
from enum import StrEnum
from types import CodeType, FrameType
from typing import Any, NamedTuple

from .. import _core
from .._core.blocking import Blocking
from .._core.dropin import DropIn
from .._core.observed import Observed
from .._core.queue import Queue
from .._core.watch import Watched


class WaitKind(StrEnum):
    """What an asyncio task can wait for: one word each."""

    TASK = "task"
    """Another asyncio task."""
    TASKS = "tasks"
    """Several, through gather(), wait(), a TaskGroup and the like; or one through shield() or wait_for()."""
    QUEUE_GET = "queue_get"
    QUEUE_PUT = "queue_put"
    QUEUE_JOIN = "queue_join"
    LOCK = "lock"
    SEMAPHORE = "semaphore"
    CONDITION = "condition"
    EVENT = "event"
    BARRIER = "barrier"
    SLEEP = "sleep"
    STREAM = "stream"
    THREAD = "thread"
    """A call in a thread or process of an executor."""
    FUTURE = "future"
    """Anything else; the stack says where."""


class Place(NamedTuple):
    """What the frames of a suspended task say of its wait."""

    kind: WaitKind
    on: Any
    """The queue, lock, ... itself, or a number of seconds."""
    entering: bool = False
    """Whether `async with` waits to get in."""


def _codes(*functions: Any) -> Iterator[CodeType]:
    for function in functions:
        code = getattr(function, "__code__", None)
        if code is not None:
            yield code


_KINDS: dict[CodeType, WaitKind] = {
    code: kind
    for kind, functions in {
        WaitKind.QUEUE_GET: (AsyncioQueue.get, Blocking.get, DropIn.get, Queue.get, Watched.get, Observed.take),
        WaitKind.QUEUE_PUT: (AsyncioQueue.put, Blocking.put, DropIn.put, Queue.put, Watched.put),
        WaitKind.QUEUE_JOIN: (AsyncioQueue.join,),
        WaitKind.LOCK: (locks.Lock.acquire,),
        WaitKind.SEMAPHORE: (locks.Semaphore.acquire,),
        WaitKind.CONDITION: (locks.Condition.wait,),
        WaitKind.EVENT: (locks.Event.wait,),
        WaitKind.BARRIER: (locks.Barrier.wait,),
        WaitKind.SLEEP: (tasks.sleep,),
        WaitKind.TASKS: (asyncio.TaskGroup.__aexit__,),
        WaitKind.STREAM: (streams.StreamReader._wait_for_data, streams.StreamWriter.drain),  # type: ignore[attr-defined]
    }.items()
    for code in _codes(*functions)
}
_LIBRARIES = tuple(os.path.dirname(package.__file__ or "") + os.sep for package in (asyncio, _core))
LOCKS = frozenset({WaitKind.LOCK, WaitKind.SEMAPHORE, WaitKind.CONDITION})
"""What somebody may hold."""


def place(frames: list[FrameType], owners: list[Any]) -> Place | None:
    """Return what a suspended task waits for as far as asyncio's and our own frames tell; None where they do not.

    Args:
        frames: Of the task, outermost first.
        owners: The coroutines that they are of.
    """
    found: Place | None = None
    for number in range(len(frames) - 1, -1, -1):
        code = frames[number].f_code
        kind = _KINDS.get(code)
        if kind is not None:
            found = Place(kind, _first_argument(owners[number], code))
        elif code.co_name == "_wait_for_one":  # as_completed() waits for tasks, by way of a queue
            return None
        elif not code.co_filename.startswith(_LIBRARIES):
            break
        elif found is not None and code.co_name == "__aenter__":
            found = found._replace(entering=True)
    return found


def described(found: Place) -> str:
    """Return a name for what is waited for: that of a queue, else what and where it is."""
    if found.kind is WaitKind.SLEEP:
        return f"{found.on:g} s" if isinstance(found.on, (int, float)) else "an unknown time"
    ledger = getattr(found.on, "_otel_ledger", None)
    return f"{type(found.on).__name__} at {id(found.on):#x}" if ledger is None else str(ledger.name)


def lock_of(primitive: Any) -> Any:
    """Return what is held inside `async with primitive`: of a condition, its lock."""
    return getattr(primitive, "_lock", primitive) if isinstance(primitive, locks.Condition) else primitive


def _first_argument(coroutine: Any, code: CodeType) -> Any:
    """Return the first argument of a suspended coroutine function.

    Not by the frame's `f_locals`: up to 3.12 that makes a dict which stays, and keeps every local value alive.
    """
    referents = gc.get_referents(coroutine)
    for number in range(len(referents) - 2, -1, -1):  # the code, then the locals
        if referents[number] is code:
            return referents[number + 1]
    return None
