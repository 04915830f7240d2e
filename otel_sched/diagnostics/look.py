"""Floor 5: one look at all asyncio tasks, from any thread, while their loops turn or hang.

What it leaves behind are rows of strings and numbers. Ten thousand objects that live on would make the garbage
collector go through the whole process, which stops every thread for longer than the look does.
"""

import sys
import time
from collections import Counter
from typing import Any

from .holding import Locks
from .jobs import OpenJobs
from .links import Waiters, group_owner, linked, thread_call
from .origins import origin_of
from .sightings import tasks as seen_tasks
from .sightings import waits as seen_waits
from .stacks import Stacks, name_of, plain_name, running_frames, suspended, without_us
from .tasks import Tasks, TaskState, birth, live_tasks
from .threads import LoopInfo, Threads, kind_of
from .waits import LOCKS, Place, WaitKind, described, lock_of, place

MAX_LINKS = 100
"""The most tasks listed that one task waits for, or that wait for it; those it waits for are counted too."""
MAX_TEXT = 200
"""The most characters of a name."""
_NOTHING: tuple[Any, ...] = ((), 0, (), 0, (), None)
"""In a row: no jobs, nobody waited for, nobody who waits, no job that it was started in."""
ATTEMPTS = 3
"""How often a task is looked at that moves on meanwhile."""


class Look:
    """One look. It holds the tasks, so it must not outlive the making of the dump."""

    def __init__(self, limit: int) -> None:
        self.now = time.monotonic()
        self.limit = limit
        self.threads = Threads()
        self.stacks = Stacks()
        self.jobs = OpenJobs(self.now)
        tasks = sorted(live_tasks(), key=birth)
        self.seen = {id(task): seen_tasks.see(task, self.now) for task in tasks}
        self.tasks = sorted(tasks, key=lambda task: (not _runs(task), self.seen[id(task)]))
        self.waiters = Waiters()
        self.awaited_by: dict[int, tuple[int, ...]] = {}
        self.awaits: dict[int, list[int]] = {}
        self.through: set[int] = set()
        """The tasks that wait for another one through a future, not just for a TaskGroup's end."""
        self.locks = Locks()
        self.loops = {id(loop): loop for loop in (task.get_loop() for task in tasks)}
        self.loop_names = {key: f"loop-{number}" for number, key in enumerate(self.loops, 1)}
        for task in tasks:
            self.waiters.add(getattr(task, "_fut_waiter", None), self.seen[id(task)][0])
        if self.jobs.pools:
            for task in tasks:
                self.jobs.note_worker(task, self.seen[id(task)][0])

    def result(self) -> Tasks:
        """Return what is shown of all tasks."""
        for task in self.tasks:
            self._link(task)
        rows = [self._row(task) for task in self.tasks[: self.limit]]
        self.locks.find(self.tasks, self.seen)
        states = Counter(row[4] for row in rows)
        states.update(_state(task, getattr(task, "_fut_waiter", None)).value for task in self.tasks[self.limit :])
        return Tasks(
            loops=self.loop_infos(),
            rows=rows,
            stacks=self.stacks.all,
            held_by=self.locks.waits,
            total=len(self.tasks),
            states={state.value: states[state.value] for state in TaskState if states[state.value]},
        )

    def loop_infos(self) -> tuple[LoopInfo, ...]:
        """Return what is shown of the loops."""
        counts = Counter(id(task.get_loop()) for task in self.tasks)
        running = {id(task.get_loop()): task for task in self.tasks if _runs(task)}
        return tuple(
            LoopInfo(
                name=self.loop_names[key],
                kind=kind_of(loop),
                thread=self.threads.of_loop(loop, running.get(key)) if loop.is_running() else None,
                closed=loop.is_closed(),
                tasks=counts[key],
            )
            for key, loop in self.loops.items()
        )

    def _link(self, task: Any) -> None:
        """Note who waits for *task*."""
        number = self.seen[id(task)][0]
        links = linked(task)
        found = self.waiters.of(task, links)
        self.through |= found
        owner = self.seen.get(id(group_owner(links))) if links else None
        if owner is not None:
            found.add(owner[0])
        if found:
            self.awaited_by[number] = tuple(sorted(found))
            for parent in found:
                self.awaits.setdefault(parent, []).append(number)

    def _row(self, task: Any) -> tuple[Any, ...]:
        number, seen_at = self.seen[id(task)]
        name, loop = cut(name_of(task)), self.loop_names[id(task.get_loop())]
        age = self.now - seen_at
        try:
            coroutine = task.get_coro()
            state, started, stack, wait = self._standing(task, number, coroutine)
            jobs, total = self.jobs.rows(task, number)
            asked, origin = task.cancelling(), origin_of(task)
        except Exception:  # a task of a class of its own may answer in any way
            return (number, name, loop, "", "unknown", True, 0, age, None, self.stacks.index([]), *_NOTHING)
        for job in jobs:
            if job[6] == number and job[5] is not None and job[5] > age:
                age = job[5]
        awaits = self.awaits.get(number, ())
        shown = awaits if len(awaits) <= MAX_LINKS else awaits[:MAX_LINKS]
        coroutine_name = cut(plain_name(getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__))
        return (
            *(number, name, loop, coroutine_name, state, started, asked, age, wait, stack, jobs, total),
            *(tuple(shown), len(awaits), self.awaited_by.get(number, ())[:MAX_LINKS], origin),
        )

    def _standing(self, task: Any, number: int, coroutine: Any) -> tuple[str, bool, int, Any]:
        """Return its state, whether it has begun, its stack, and what it waits for."""
        state, started, stack, wait = TaskState.UNKNOWN, True, 0, None
        for _ in range(ATTEMPTS):
            future = task._fut_waiter
            state = _state(task, future)
            started = getattr(coroutine, "cr_suspended", True) or state is TaskState.RUNNING
            if state is TaskState.RUNNING:
                stack = self.stacks.index(without_us(running_frames(coroutine, sys._current_frames().values())))
            else:
                frames, owners = suspended(coroutine)
                stack = self.stacks.index(frames)
                waits = state is TaskState.WAITING
                wait = self._wait(number, future, place(frames, owners)) if waits else None
            if task._fut_waiter is future:  # so it has not taken a step meanwhile
                break
        return state.value, started, stack, wait

    def _wait(self, number: int, future: Any, found: Place | None) -> tuple[Any, ...]:
        sighting = seen_waits.see(future, self.now)
        held_by: tuple[int, ...] = ()
        other = self.seen.get(id(future))
        if other is not None:
            kind, on = WaitKind.TASK, f"task {other[0]}"
        elif found is not None and found.kind is not WaitKind.TASKS:
            kind, on = found.kind, described(found)
            if kind in LOCKS:
                self.locks.wait(number, found, lock_of(found.on))
            elif kind is WaitKind.QUEUE_JOIN:
                held_by = self.jobs.holders(found.on)[:MAX_LINKS]
        elif found is not None or number in self.through:
            tasks = self.awaits.get(number, ())
            kind, on = WaitKind.TASKS, f"task {tasks[0]}" if len(tasks) == 1 else f"{len(tasks)} tasks"
        elif (call := thread_call(future)) is not None:
            kind, on = WaitKind.THREAD, call
        else:
            kind, on = WaitKind.FUTURE, described(Place(WaitKind.FUTURE, future))
        return kind.value, cut(on), self.now - sighting[1], sighting[0], held_by


def cut(text: str) -> str:
    """Return *text*, shortened to MAX_TEXT characters."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _runs(task: Any) -> bool:
    return getattr(task.get_coro(), "cr_running", False) is True


def _state(task: Any, future: Any) -> TaskState:
    if _runs(task):
        return TaskState.RUNNING
    return TaskState.READY if future is None or future.done() else TaskState.WAITING
