"""Floor 5: what changed between two dumps of a process: what is new, what is gone, what has not moved."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from . import plain, text
from .dumps import Dump
from .growth import MAX_TEXT, Growth, growth_of
from .jobs import JobInfo
from .tasks import TaskInfo
from .tree import nodes
from .waits import WaitKind

MAX_CHANGES = 1_000
"""The most tasks and jobs listed under one heading; the totals count them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChange:
    """What became of a queue between two dumps."""

    name: str
    size: int
    """How many wait in it, in the later dump."""
    grown: int
    """How many more that is than in the earlier one."""
    put: int
    taken: int
    finished: int
    dropped: int

    @property
    def stalled(self) -> bool:
        """Whether jobs wait and none was taken or finished."""
        return self.size > 0 and not self.taken and not self.finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The difference of two dumps; lists hold at most MAX_CHANGES each."""

    seconds: float
    """Between the two."""
    new: tuple[TaskInfo, ...]
    gone: tuple[TaskInfo, ...]
    unmoved: tuple[TaskInfo, ...]
    """Those that wait for the very same thing as before, not just in the same line: they have not run in between."""
    totals: dict[str, int]
    """How many are new, gone and unmoved, and how many jobs are open in both."""
    coroutines: dict[str, int]
    """By how many the tasks of a coroutine function have grown, the largest first; those that did not are left out."""
    grown: tuple[Growth, ...]
    """Those of them that have more than before: where the new tasks stand, and in whose jobs they were started."""
    jobs: tuple[JobInfo, ...]
    """Those that were open in both, as of the later."""
    queues: tuple[QueueChange, ...]

    def text(self) -> str:
        """Return it for people."""
        return "\n".join(_lines(self)) + "\n"

    def json(self) -> str:
        """Return it for programs, in the shape that the documentation describes."""
        known: plain.Known = {}
        return json.dumps(
            {
                "shape": plain.SHAPE,
                "seconds": round(self.seconds, 6),
                "totals": self.totals,
                "coroutines": self.coroutines,
                "grown": [each.json() for each in self.grown],
                "new": [plain.of_task(each, known) for each in self.new],
                "gone": [plain.of_task(each, known) for each in self.gone],
                "unmoved": [plain.of_task(each, known) for each in self.unmoved],
                "jobs": [plain.of_job(each) for each in self.jobs],
                "queues": [{**asdict(each), "stalled": each.stalled} for each in self.queues],
            }
        )

    def __str__(self) -> str:
        return self.text()


def diff(before: Dump, after: Dump) -> Diff:
    """Return what changed from one dump or snapshot of this process to a later one.

    Only what both have is compared. A task or job beyond the limit of one of them looks new or gone.

    Raises TypeError for what is no Dump, ValueError for dumps of two processes and for the later one first.
    """
    for each in (before, after):
        if not isinstance(each, Dump):
            raise TypeError(f"diff() takes two dumps, as snapshot() and dump() return them, got {each!r}")
    if before.pid != after.pid:
        raise ValueError(f"the dumps are of two processes, {before.pid} and {after.pid}: numbers mean nothing there")
    if before.at > after.at:
        raise ValueError(f"the first dump is {before.at - after.at:.3f} s younger than the second: swap the two")
    old, now = _tasks(before), _tasks(after)
    new = [task for number, task in now.items() if number not in old]
    gone = [task for number, task in old.items() if number not in now]
    unmoved = [task for number, task in now.items() if number in old and _same_wait(old[number], task)]
    jobs = _open_in_both(before, after)
    coroutines = _growth(old.values(), now.values())
    return Diff(
        seconds=after.at - before.at,
        new=tuple(new[:MAX_CHANGES]),
        gone=tuple(gone[:MAX_CHANGES]),
        unmoved=tuple(unmoved[:MAX_CHANGES]),
        totals={"new": len(new), "gone": len(gone), "unmoved": len(unmoved), "jobs": len(jobs)},
        coroutines=coroutines,
        grown=growth_of(coroutines, new),
        jobs=tuple(jobs[:MAX_CHANGES]),
        queues=tuple(_queues(before, after)),
    )


def _tasks(dump: Dump) -> dict[int, TaskInfo]:
    return {} if dump.tasks is None else {task.number: task for task in dump.tasks}


def _same_wait(old: TaskInfo, now: TaskInfo) -> bool:
    return old.wait is not None and now.wait is not None and 0 < old.wait.number == now.wait.number


def _growth(old: Iterable[TaskInfo], now: Iterable[TaskInfo]) -> dict[str, int]:
    grown = Counter(task.coroutine for task in now)
    grown.subtract(Counter(task.coroutine for task in old))
    return {name: count for name, count in grown.most_common() if count}


def _open_in_both(before: Dump, after: Dump) -> list[JobInfo]:
    known = {job.id for job in _jobs(before)}
    found = {job.id: job for job in _jobs(after) if job.id in known}
    return sorted(found.values(), key=lambda job: -(job.seconds or 0.0))


def _jobs(dump: Dump) -> Iterator[JobInfo]:
    for task in () if dump.tasks is None else dump.tasks:
        yield from task.jobs
    for queue in dump.queues or ():
        yield from queue.jobs


def _queues(before: Dump, after: Dump) -> Iterator[QueueChange]:
    known = {queue.number: queue.stats for queue in before.queues or ()}
    for queue in after.queues or ():
        old, now = known.get(queue.number), queue.stats
        if old is not None:
            yield QueueChange(
                name=now.name,
                size=now.size,
                grown=now.size - old.size,
                put=now.put - old.put,
                taken=now.taken - old.taken,
                finished=now.finished - old.finished,
                dropped=now.dropped - old.dropped,
            )


def _lines(change: Diff) -> Iterator[str]:
    yield f"in {change.seconds:.3f} s"
    for queue in change.queues:
        stalled = "; it stands still" if queue.stalled else ""
        yield (
            f"  queue {queue.name!r}: {queue.put} put, {queue.taken} taken, {queue.finished} finished, "
            f"{queue.dropped} dropped; {queue.size} wait ({queue.grown:+d}){stalled}"
        )
    yield f"jobs open all the time: {change.totals['jobs']}"
    yield from (f"  {line}" for line in text.jobs(change.jobs[: text.MAX_NODES], change.totals["jobs"], None))
    yield "asyncio tasks: " + ", ".join(f"{change.totals[each]} {each}" for each in ("new", "gone", "unmoved"))
    grown = {each.coroutine: each for each in change.grown[:MAX_TEXT]}
    for name, count in list(change.coroutines.items())[: text.MAX_NODES]:
        yield f"  {count:+d} {name}"
        if name in grown:
            yield from (f"      {line}" for line in grown[name].lines())
    idle = sum(_idle(task) for task in change.unmoved)
    if change.unmoved:
        yield f"unmoved, but for {idle} that wait for a queue to have something" if idle else "unmoved"
    stuck = {task.number: task for task in change.unmoved if not _idle(task)}
    yield from text.tree(nodes(stuck.values()), stuck.__getitem__, change.totals["unmoved"] - idle)


def _idle(task: TaskInfo) -> bool:
    """Say whether a task does no more than wait for its next job, as consumers may for ever."""
    return task.wait is not None and task.wait.kind is WaitKind.QUEUE_GET and not task.jobs
