"""Floor 5: one asyncio task as detectors see it: the job that it works on, and the queues that it takes from."""

import asyncio
import sys
import weakref
from collections.abc import Callable
from typing import Any

from ..._core.consumer import Consumer, _context_of, here
from ..._core.job import Job
from ..._core.ledger import current
from ..._core.runner import Worker, worker_of


class Seat:
    """An asyncio task that takes jobs, or was started in one. It lives for one step of a look, and holds the task."""

    __slots__ = ("consumer", "job", "ref", "task", "waits_at", "weak", "worker")

    def __init__(
        self,
        task: asyncio.Task[Any],
        ref: "weakref.ref[Job[Any]] | None",
        consumer: Any,
        worker: Worker | None,
        waits_at: Any,
    ) -> None:
        self.task = task
        self.weak: Callable[[], asyncio.Task[Any] | None] = _nothing
        """A weak reference to the task that exists anyway: ten thousand new ones would call for garbage collection."""
        self.ref = ref
        """The job of its context, as its context holds it."""
        self.consumer: Consumer | None = consumer
        """The consumer that it is, or that one of those was in which it was started."""
        self.worker = worker
        self.waits_at = waits_at
        """The books of the queue in whose get() it waits: that makes it a consumer, before its first job too."""
        self.job: Job[Any] | None = worker.job if worker is not None else None if ref is None else ref()

    @property
    def takes(self) -> bool:
        """Whether it takes jobs itself, so that the job of its context is its own and not inherited."""
        if self.worker is not None or self.waits_at is not None:
            return True
        return self.consumer is not None and self.consumer.task() is self.task

    def ledgers(self) -> list[Any]:
        """Return the books of the queues that it is known to take from."""
        if self.worker is not None:
            return [self.worker.broker.ledger]
        found, consumer = [self.waits_at], self.consumer
        if consumer is not None and consumer.task() is self.task:
            found += [consumer.ledger, *(job.ledger for job in consumer.jobs)]
        return [each for each in dict.fromkeys(found) if each is not None]

    def name(self) -> str:
        """Return the task's name and its coroutine function, as a reader would look for them."""
        return task_words(self.task)


def _nothing() -> None:
    return None


def seat_of(task: asyncio.Task[Any], waits_at: Any = None) -> Seat | None:
    """Return *task*, which waits in get() of the queue with the books *waits_at*, as a Seat.

    None for one that has nothing to do with jobs.
    """
    context = _context_of(task)
    ref, consumer, worker = context.get(current), context.get(here), worker_of(task)
    own = worker is not None or waits_at is not None or (consumer is not None and consumer.task() is task)
    return Seat(task, ref, consumer, worker, waits_at) if own or ref is not None else None


def task_words(task: asyncio.Task[Any]) -> str:
    """Name a task for a sentence: its name and the coroutine function that it runs; a pool's worker by its handler."""
    coroutine, worker = task.get_coro(), worker_of(task)
    function = getattr(coroutine, "__qualname__", type(coroutine).__name__) if worker is None else worker.handles
    function = function.rpartition("<locals>.")[2]
    return f"{task.get_name()!r} ({function})"


def waiting_tasks(futures: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks that wait for *futures*, as their callbacks tell."""
    found: list[asyncio.Task[Any]] = []
    for future in futures:
        for entry in getattr(future, "_callbacks", None) or ():
            task = getattr(entry[0], "__self__", None)
            if isinstance(task, asyncio.Task):
                found.append(task)
    return found


def all_tasks(loop: asyncio.AbstractEventLoop) -> list["weakref.ref[asyncio.Task[Any]]"]:
    """Return weak references to all asyncio tasks, those of other loops too, where that can be had at once.

    asyncio.all_tasks() looks at each of them, which stops the loop for 10 ms where there are 20 000.
    """
    known: Any = getattr(asyncio.tasks, "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks", None)
    if sys.version_info < (3, 14) and isinstance(known, weakref.WeakSet):
        return list(known.data)  # type: ignore[attr-defined]
    return [weakref.ref(task) for task in asyncio.all_tasks(loop)]
