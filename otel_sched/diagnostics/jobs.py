"""Floor 5: the jobs that asyncio tasks work on."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from .._core.census import ledgers
from .._core.consumer import Consumer, _context_of
from .._core.job import Job
from .._core.ledger import current
from .._core.runner import worker_of
from .sightings import tasks as seen_tasks

MAX_JOBS = 20
"""The most jobs shown of one asyncio task and of one queue; the rest is counted."""


class JobInfo(NamedTuple):
    """An open job. Its item is not shown: it may hold anything."""

    queue: str
    name: str
    """Of the function that works on it."""
    id: str
    trace_id: str | None
    """In hexadecimal, as everywhere; None where nobody follows its trace."""
    span_id: str | None
    seconds: float | None
    """How long it has been running, on its queue's clock; None where nobody listens, so that jobs are only counted."""
    task: int | None
    """The number of the asyncio task that took it; None where that is gone or unknown."""


class OpenJobs:
    """All jobs that are open at one moment, by queue and by the task that took them."""

    __slots__ = ("by_task", "ledgers", "owners", "pools")

    def __init__(self, now: float) -> None:
        self.ledgers = sorted(ledgers(), key=lambda each: str(each.name))
        self.pools = any(ledger.limits for ledger in self.ledgers)
        self.owners: dict[int, int] = {}
        """The number of the task that took a job, by the job's id()."""
        self.by_task: dict[int, tuple[Job[Any], ...]] = {}
        for ledger in self.ledgers:
            for job in tuple(ledger.open):
                owner = job.owner
                task = owner.task() if isinstance(owner, Consumer) else None
                if task is not None:
                    self.note(seen_tasks.see(task, now)[0], job)

    def note(self, task: int, job: Job[Any]) -> None:
        """Remember which task took *job*."""
        self.owners[id(job)] = task
        self.by_task[task] = (*self.by_task.get(task, ()), job)

    def note_worker(self, task: Any, number: int) -> None:
        """Remember the job of *task* if it is the worker of a pool: its jobs have no owner that says so."""
        worker = worker_of(task)
        job = None if worker is None else worker.job
        if job is not None and job.outcome is None:
            self.note(number, job)

    def rows(self, task: Any, number: int) -> tuple[tuple[Any, ...], int]:
        """Return rows of the jobs that *task* took and of the one that it inherited, and how many there are."""
        found = self.by_task.get(number, ())
        ref = _context_of(task).get(current) if self.ledgers else None
        job = None if ref is None else ref()
        if job is not None and job.outcome is None and all(each is not job for each in found):
            found = (*found, job)
        return tuple([self.row(each) for each in found[:MAX_JOBS]]), len(found)

    def row(self, job: Job[Any]) -> tuple[Any, ...]:
        """Return what is shown of *job*, in the order of JobInfo's fields."""
        identity = job.ledger.identify(job)
        taken_at = job.taken_at
        return (
            job.queue,
            job.name,
            job.id,
            None if identity is None else f"{identity[0]:032x}",
            None if identity is None else f"{identity[1]:016x}",
            None if taken_at is None else max(0.0, job.ledger.now() - taken_at),
            self.owners.get(id(job)),
        )

    def infos(self, jobs: Iterable[Job[Any]]) -> tuple[JobInfo, ...]:
        """Return what is shown of the first MAX_JOBS of *jobs*."""
        return tuple(JobInfo._make(self.row(job)) for job in tuple(jobs)[:MAX_JOBS])

    def holders(self, queue: Any) -> tuple[int, ...]:
        """Return the tasks that hold jobs of *queue*: its join() waits for them, if for nothing else."""
        ledger = getattr(queue, "_otel_ledger", None)
        held = () if ledger is None else tuple(ledger.open)
        return tuple(sorted({self.owners[id(job)] for job in held if id(job) in self.owners}))
