"""Floor 5: what is shown of an asyncio task, and how all of them are found."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from .jobs import JobInfo
from .origins import Origin
from .sightings import tasks as seen_tasks
from .sightings import waits as seen_waits
from .stacks import Stack, name_of
from .threads import LoopInfo
from .waits import WaitKind

MAX_TASKS = 10_000
"""The most asyncio tasks shown, unless another number is asked for; the rest is counted."""

MAX_HOLDERS = 100
"""The most holders listed of one semaphore."""


class TaskState(StrEnum):
    """What an asyncio task does."""

    RUNNING = "running"
    """Its code runs, or keeps the loop from turning."""
    READY = "ready"
    """It would run if the loop came to it."""
    WAITING = "waiting"
    UNKNOWN = "unknown"
    """It could not be looked at."""


class WaitInfo(NamedTuple):
    """What a suspended task waits for."""

    kind: WaitKind
    on: str
    """The name of the queue; else what and where it is, the same in all tasks that wait for the same."""
    seconds: float
    """At least so long: since a dump, a snapshot or `dump_on_signal` first saw this wait."""
    number: int
    """Of this one wait; the same number in two dumps says that the task has not moved in between."""
    held_by: tuple[int, ...] = ()
    """The tasks inside `async with` that lock or semaphore; for a join(), those that hold jobs of the queue."""


class TaskInfo(NamedTuple):
    """An asyncio task."""

    number: int
    """Given when first seen, and to no other task of this process ever."""
    name: str
    loop: str
    coroutine: str
    state: TaskState
    started: bool
    """False before its first line."""
    cancelling: int
    """How often it was asked to cancel and has not, yet."""
    age: float
    """Seconds, at least: since it was first seen by a dump, a snapshot, `dump_on_signal`, or taking its open job."""
    wait: WaitInfo | None
    stack: Stack
    jobs: tuple[JobInfo, ...]
    """First those that it took, then the one that it was started in."""
    jobs_total: int
    awaits: tuple[int, ...]
    """The tasks that it waits for, through gather(), a TaskGroup, ... too, or has in a TaskGroup that is open."""
    awaits_total: int
    awaited_by: tuple[int, ...]
    """Likewise, the other way round."""
    origin: Origin | None = None
    """The job that it was started in, if that has ended; else it is among `jobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """All asyncio tasks at one moment; iterate over it for those that are shown, running ones first."""

    loops: tuple[LoopInfo, ...]
    total: int
    states: dict[str, int]
    """How many are in which state, of all."""
    rows: list[tuple[Any, ...]] = field(repr=False)
    """What is shown, in the order of TaskInfo's fields, with the number of its stack.

    Tuples of strings and numbers cost the garbage collector nothing, ten thousand objects do.
    """
    stacks: list[Stack] = field(repr=False)
    held_by: dict[int, list[int]] = field(repr=False)
    """Who holds the lock that a task waits for, by that task's number."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TaskInfo]:
        return map(self._info, self.rows)

    def running(self) -> Iterator[TaskInfo]:
        """Yield those whose code runs: one for each loop that does not just wait."""
        return (self._info(row) for row in self.rows if row[4] == TaskState.RUNNING.value)

    def by_number(self) -> Callable[[int], TaskInfo]:
        """Return a function that returns the task of a number."""
        places = {row[0]: place for place, row in enumerate(self.rows)}
        return lambda number: self._info(self.rows[places[number]])

    def _info(self, row: tuple[Any, ...]) -> TaskInfo:
        return TaskInfo._make(row)._replace(
            state=TaskState(row[4]),
            wait=None if row[8] is None else self._wait(row[0], row[8]),
            stack=self.stacks[row[9]],
            jobs=tuple(map(JobInfo._make, row[10])),
            origin=None if row[15] is None else Origin(*row[15]),
        )

    def _wait(self, number: int, row: tuple[Any, ...]) -> WaitInfo:
        held_by = self.held_by.get(number)
        kind, on, seconds, wait, holders = row
        return WaitInfo(WaitKind(kind), on, seconds, wait, holders if held_by is None else tuple(held_by[:MAX_HOLDERS]))


def live_tasks() -> list[Any]:
    """Return the asyncio tasks of all loops that are not done; from any thread, whatever the loops do."""
    found: dict[int, Any] = {}
    for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):  # 3.11 has the first, later ones the others
        for each in _members(getattr(asyncio.tasks, name, ())):
            if each is not None and not each.done():
                found[id(each)] = each
    return list(found.values())


def note_tasks(now: float) -> None:
    """Note when tasks and what they wait for were first seen, so that a later dump knows how old they are."""
    for task in sorted(live_tasks(), key=birth):
        seen_tasks.see(task, now)
        future = getattr(task, "_fut_waiter", None)
        if future is not None:
            seen_waits.see(future, now)


MAX_DIGITS = 18
"""Of a number that asyncio can have given; Python refuses to read thousands."""


def birth(task: Any) -> float:
    """Return what puts tasks in the order of their birth where their names were given by asyncio."""
    prefix, _, number = name_of(task).partition("-")
    return int(number) if prefix == "Task" and number.isdecimal() and len(number) <= MAX_DIGITS else math.inf


def _members(tasks: Any) -> list[Any]:
    references = getattr(tasks, "data", None)  # of a WeakSet: walking over it would call Python, and another thread
    while True:
        try:
            return list(tasks) if references is None else [each() for each in tuple(references)]
        except RuntimeError:  # it changed size meanwhile
            continue
