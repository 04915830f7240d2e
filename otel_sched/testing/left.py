"""Floor 6: what is left of jobs, in lines for a reader: compares the queues with what they were like before."""

import asyncio
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol

from .._core.census import ledgers
from .._core.job import DropReason, Job
from .._core.ledger import LEASED, Ledger
from ..diagnostics.detectors.seat import seat_of, task_words
from ..diagnostics.detectors.trail import trail

SHOWN = 20
"""How many jobs and tasks are listed."""


class Ended(Protocol):
    """Knows the jobs that have ended."""

    def words(self, ref: Any) -> str | None:
        """Return what one is called."""


class Books(NamedTuple):
    """The counts of one queue at one instant."""

    put: int = 0
    size: int = 0
    uncounted: int = 0
    """Jobs that were taken, are not finished, and of which nothing but this is known."""
    missing: int = 0
    """Jobs that are over, but for a task_done(): join() waits for it."""
    collected: int = 0


class Before:
    """What there was when the block began."""

    def __init__(self) -> None:
        self.books = {ledger: _books(ledger) for ledger in ledgers()}
        self.open = [weakref.ref(job) for ledger in self.books for job in tuple(ledger.open)]
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet(_tasks())


def left(before: Before, made: Iterable[Ledger], ended: Ended, allow_waiting: bool | Collection[str]) -> list[str]:
    """Return a line for each thing that is left; none where all is well."""
    tasks, working, outlived = _tasks(), defaultdict(list), []
    for task in tasks:
        seat = seat_of(task)
        if seat is None:
            continue
        if seat.job is not None and seat.job.outcome is None:
            working[id(seat.job)].append(task)
        elif not seat.takes and task not in before.tasks and (words := ended.words(seat.ref)) is not None:
            outlived.append(
                f"  asyncio task {_stands(task)} was started in {words}, which has ended: await it there, or cancel it"
            )
    old = {id(job) for ref in before.open if (job := ref()) is not None}
    lines: list[str] = []
    for ledger in sorted({*ledgers(), *made}, key=lambda each: each.name):
        waiting = allow_waiting is True or (allow_waiting is not False and ledger.name in allow_waiting)
        lines += _of_queue(ledger, before.books.get(ledger, Books()), old, working, waiting)
    return _bounded(lines + outlived)


def _of_queue(
    ledger: Ledger, before: Books, old: set[int], working: dict[int, list[Any]], allow_waiting: bool
) -> list[str]:
    now, name = _books(ledger), f"queue {ledger.name!r}"
    jobs = [job for job in tuple(ledger.open) if id(job) not in old]
    lines = [f"  {_job(job, working.get(id(job), []))}" for job in jobs]
    new = now.put - before.put
    waiting = min(now.size, new)
    if waiting > 0 and not allow_waiting:
        lines.append(f"  {name}: {_jobs(waiting)} still waiting, never taken")
    if (lost := min(now.collected - before.collected, new)) > 0 and not allow_waiting:
        lines.append(f"  {name}: {_jobs(lost)} still waiting when the queue itself was gone, never taken")
    if (uncounted := now.uncounted - before.uncounted) > 0:
        lines.append(f"  {name}: {_jobs(uncounted)} taken and not finished (nobody follows them: no more is known)")
    missing = now.missing - before.missing
    if missing > 0 and ledger.options.settle != "next_get":
        lines.append(
            f"  {name}: join() would not return: task_done() is missing for {_jobs(missing)} that was taken "
            '(for consumers that never call it, make the queue with settle="next_get")'
        )
    return lines


def _job(job: Job[Any], tasks: list[asyncio.Task[Any]]) -> str:
    head = f"job {job.id} of queue {job.queue!r}" + (f" ({job.name})" if job.name else "")
    if job.settled_at is not None:
        return f"{head}: its consumer has gone on to the next get() without task_done()"
    since = "" if job.taken_at is None else f" for {job.ledger.now() - job.taken_at:.3g} s"
    at = "; and ".join(f"asyncio task {_stands(task)}" for task in tasks[:3])
    if job.owner is LEASED:
        what = "It is still being worked on: wait for join(), or pass grace="
    elif tasks:
        what = "Call task_done() when its work is over; if it is still being worked on, wait for that, or pass grace="
    else:
        what = "Call task_done() when its work is over"
    return f"{head}: taken{since} and not finished; {at or 'no asyncio task works on it any more'}. {what}"


def _stands(task: asyncio.Task[Any]) -> str:
    if task is _current():
        return f"{task_words(task)}, which runs this very line"
    place, _ = trail(task)
    return task_words(task) + (f", which waits in {place}" if place else "")


def _books(ledger: Ledger) -> Books:
    snapshot, queue = ledger.snapshot(), ledger.queue()
    unfinished = 0 if queue is None or not snapshot.put else getattr(queue, "_unfinished_tasks", 0)
    uncounted = max(0, snapshot.active - len(ledger.open))
    missing = max(0, unfinished - snapshot.size - len(ledger.open) - uncounted)
    collected = snapshot.dropped.get(DropReason.COLLECTED.value, 0)
    return Books(snapshot.put, snapshot.size, uncounted, missing, collected)


def _tasks() -> list[asyncio.Task[Any]]:
    try:
        return sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    except RuntimeError:  # no loop runs
        return []


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _bounded(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more"]
