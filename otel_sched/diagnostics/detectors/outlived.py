"""Floor 5: asyncio tasks that were started in jobs and are still there when these have long ended.

One that stays is the normal case: the first job opens a client, which keeps its connection alive. A leak grows. So
tasks are told of by kind, with their number, and again when that has doubled.
"""

import logging
from collections.abc import Callable
from typing import Any

from ..._core.finding import FindingKind
from ..._core.job import Job
from .origin import Origin
from .scene import Detector, Found, Scene, found
from .seat import Seat, task_words
from .steady import Steady
from .trail import trail
from .words import counted

MANY = 5
"""From so many tasks of one kind on, left by more than one job, they are taken for a leak."""
MAX_KINDS = 1000
"""How many kinds are remembered as told of; names should be few, but nobody is made to keep them so."""
ADVICE = (
    "A job should await what it starts (a TaskGroup does), or cancel it. What is meant to stay, such as a client's "
    "keep-alive: open it before the jobs, or start it with create_task(..., context=contextvars.Context())."
)


def outlives(takes: bool, inherited: bool, job: Job[Any] | None) -> bool:
    """Say whether a task goes on after its job: one that it inherited, and that has ended or is gone altogether."""
    return inherited and not takes and (job is None or job.outcome is not None)


def level_of(tasks: int, jobs: int) -> int:
    """Return how bad it is that so many *tasks* of one kind, started in so many *jobs*, go on."""
    return logging.WARNING if tasks >= MANY and jobs > 1 else logging.INFO


class _Kind:
    """Tasks of one coroutine function, started in jobs of one queue and name, in one look."""

    __slots__ = ("first", "jobs", "origin", "seconds", "tasks")

    def __init__(self, origin: Origin, first: Callable[[], Any], seconds: float) -> None:
        self.origin = origin
        self.first = first
        self.seconds = seconds
        self.tasks = 0
        self.jobs: set[int] = set()


class Outlived(Detector):
    """Tells of tasks that go on *patience* seconds after their job has ended; once for each kind, until it doubles."""

    def __init__(self, patience: float) -> None:
        self._steady = Steady(patience)
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._told: dict[tuple[str, str, str], int] = {}

    def task(self, scene: Scene, seat: Seat) -> list[Found]:
        """Count one task that works on a job."""
        if not outlives(seat.takes, seat.ref is not None, seat.job):
            return []
        seconds = self._steady.lasts(seat.task, seat.ref, scene.now)
        if seconds is not None:
            origin = scene.knowledge.origins.of(seat)
            function = getattr(seat.task.get_coro(), "__qualname__", "")
            kind = self._kinds.setdefault((origin.queue, origin.job, function), _Kind(origin, seat.weak, seconds))
            kind.tasks += 1
            kind.jobs.add(id(seat.ref))
        return []

    def end(self, scene: Scene) -> list[Found]:
        """Tell of the kinds that are new, and of those that have grown."""
        kinds, self._kinds = self._kinds, {}
        result = []
        for key, kind in kinds.items():
            before = self._told.get(key, 0)
            if before and kind.tasks < 2 * before:
                continue
            self._told[key] = kind.tasks
            while len(self._told) > MAX_KINDS:
                del self._told[next(iter(self._told))]
            held = scene.allowed(FindingKind.OUTLIVED, kind.origin.queue, key[2])
            if held is not None:
                result.append(_told(kind, key[2], before, held))
        return result


def _told(kind: _Kind, function: str, before: int, held: int) -> Found:
    task, origin = kind.first(), kind.origin
    place, stack = trail(task)
    after = f"more than {kind.seconds:.3g} s after the end of "
    facts: dict[str, str | int | float | bool] = {"since": kind.seconds, "tasks": kind.tasks, "jobs": len(kind.jobs)}
    if task is not None:
        facts["task"] = task.get_name()
    if kind.tasks == 1:
        name = function if task is None else task_words(task)
        by = f" ({origin.job})" if origin.job else ""
        sentence = f"Asyncio task {name} was started in {origin.words()}{by} and still runs, {after}that job"
        sentence += f"; it waits in {place}. " if place else ". "
        facts |= {key: value for key, value in origin._asdict().items() if key != "queue" and value}
    else:
        jobs = "that job" if len(kind.jobs) == 1 else "those jobs"
        sentence = (
            f"{counted(kind.tasks, 'asyncio task')} ({function.rpartition('<locals>.')[2]}) were started in "
            f"{_jobs(origin, len(kind.jobs))} and still run, {after}{jobs}"
            + (f"; when this was last told there were {before}" if before else "")
            + (f"; {task.get_name()!r} waits in {place}. " if task is not None and place else ". ")
        )
        if origin.job:
            facts["job"] = origin.job
    level, sentence = level_of(kind.tasks, len(kind.jobs)), sentence + ADVICE
    return found(FindingKind.OUTLIVED, sentence, queue=origin.queue, held=held, facts=facts, stack=stack, level=level)


def _jobs(origin: Origin, number: int) -> str:
    of = f" of queue {origin.queue!r} ({origin.job})" if origin.queue else ""
    which = f"job {origin.id}" if number == 1 and origin.id else counted(number, "job")
    return f"{which}{of}"
