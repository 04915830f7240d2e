"""Floor 5: a job that runs far longer than jobs of its kind do."""

import weakref
from typing import Any

from ..._core.finding import FindingKind
from ..._core.job import Job
from .history import Durations
from .scene import Detector, Found, Scene, found
from .seat import task_words
from .trail import trail

LEAST = 1.0
"""Seconds: what runs for less is nobody's concern, however quick its kind is."""
AT_ONCE = 5
"""How many of one queue are told of in one look; the next look finds the others."""


def limit(p99: float | None, factor: float, least: float = LEAST) -> float | None:
    """Return from how many seconds on a job is slow; None where its kind is not known well enough."""
    return None if p99 is None else max(least, factor * p99)


class SlowJob(Detector):
    """Tells of jobs that run longer than *factor* times the p99 of their queue and name; once for each job."""

    def __init__(self, factor: float, least: float = LEAST) -> None:
        self._factor = factor
        self._least = least
        self._told: weakref.WeakSet[Job[Any]] = weakref.WeakSet()

    def queue(self, scene: Scene, ledger: Any) -> list[Found]:
        """Look at the open jobs of one queue, the oldest first."""
        limits = self._limits(scene, ledger)
        least = min(limits.values(), default=None)
        now = ledger.now()
        result: list[Found] = []
        for job in ledger.open if least is not None else ():
            if job.taken_at is None:
                continue
            run = now - job.taken_at
            if run <= least:  # jobs stand in the order in which they were taken
                break
            # one that is settled by its clock has gone on to the next get(): it only waits for its end
            if job.settled_at is not None or run <= limits.get(job.name, run) or job in self._told:
                continue
            self._told.add(job)
            held = scene.allowed(FindingKind.SLOW_JOB, ledger.name, job.name)
            durations = scene.knowledge.history.of(ledger.name, job.name)
            if held is not None and durations is not None:
                result.append(_slow(scene, job, run, durations, held))
                if len(result) >= AT_ONCE:
                    break
        return result

    def _limits(self, scene: Scene, ledger: Any) -> dict[str, float]:
        """Return from how many seconds on the jobs of each name are slow, for those whose kind is known."""
        result = {}
        for name in tuple(ledger.all_series):
            durations = scene.knowledge.history.of(ledger.name, name)
            most = None if durations is None else limit(durations.p99(), self._factor, self._least)
            if most is not None:
                result[name] = most
        return result


def _slow(scene: Scene, job: Job[Any], run: float, durations: Durations, held: int) -> Found:
    p99 = durations.p99() or 0.0
    task = next(iter(scene.working_on(job)), None)
    place, stack = trail(task)
    where = "" if task is None else f" in asyncio task {task_words(task)}"
    sentence = (
        f"Job {job.id} of queue {job.queue!r} ({job.name}) has been running for {run:.3g} s{where}; 99 of 100 such "
        f"jobs take {p99:.3g} s at most. "
        + (f"It waits in {place}: give that a time-out. " if place else "")
        + "If such a job may take so long, raise slow_factor."
    )
    facts: dict[str, str | int | float | bool] = {"job": job.name, "job_id": job.id, "run": run, "p99": p99}
    facts["jobs_measured"] = durations.total
    if task is not None:
        facts["task"] = task.get_name()
    return found(FindingKind.SLOW_JOB, sentence, queue=job.queue, held=held, facts=facts, stack=stack, job=job)
