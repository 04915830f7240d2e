"""Floor 5: a job that runs far longer than jobs of its kind do."""

import weakref
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..._core.finding import FindingKind
from ..._core.job import Job
from .history import Durations, stalled
from .scene import Detector, Found, Scene, found
from .seat import task_words
from .trail import trail

LEAST = 1.0
"""Seconds: what runs for less is nobody's concern, however quick its kind is."""
DOUBT = 60.0
"""Seconds after which a job is slow though so many others run as long that this may be what such jobs take."""
EACH = 3
"""For how many each late one stands: if none of N was slow, up to 3 of N may well be (the rule of three)."""
ENOUGH_LATE = 1000
"""How many late jobs are counted: there are never 100 times as many that have ended, for these are forgotten."""
AT_ONCE = 5
"""How many of one queue are told of in one look; the next look finds the others."""
MOST = 500
"""How many are found in one look, those that are held back included: a look is to be short."""


def limit(p99: float | None, factor: float, least: float = LEAST) -> float | None:
    """Return from how many seconds on a job is slow; None where its kind is not known well enough."""
    return None if p99 is None else max(least, factor * p99)


class SlowJob(Detector):
    """Tells of jobs that run longer than *factor* times the p99 of their queue and name; once for each job."""

    def __init__(self, factor: float, least: float = LEAST) -> None:
        self._factor = factor
        self._least = least
        self._told: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
        self._limits_of_all: dict[tuple[str, str], float] = {}

    def queue(self, scene: Scene, ledger: Any) -> list[Found]:
        """Look at the open jobs of one queue, the oldest first."""
        limits = self._limits(scene, ledger)
        least = min(limits.values(), default=None)
        now, many = ledger.now(), 0
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
            limits[job.name] = self._limit_of_all(scene, ledger.name, job.name)
            if run <= limits[job.name]:
                continue
            many += 1
            self._told.add(job)
            held = scene.allowed(FindingKind.SLOW_JOB, ledger.name, job.name)
            durations = scene.knowledge.history.of(ledger.name, job.name)
            if held is not None and durations is not None:
                result.append(_slow(scene, job, run, durations, held))
            if len(result) >= AT_ONCE or many >= MOST:
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

    def end(self, scene: Scene) -> list[Found]:
        """Forget what was true for this look."""
        self._limits_of_all.clear()
        return []

    def _limit_of_all(self, scene: Scene, queue: str, name: str) -> float:
        """Return from how many seconds on a job is slow if those that run are counted besides those that have ended."""
        known = self._limits_of_all.get((queue, name))
        if known is None:
            durations = scene.knowledge.history.of(queue, name)
            known = 0.0 if durations is None else self._reckoned(scene, queue, name, durations)
            self._limits_of_all[queue, name] = known
        return known

    def _reckoned(self, scene: Scene, queue: str, name: str, durations: Durations) -> float:
        p99 = durations.p99()
        own = limit(p99, self._factor, self._least) or 0.0
        late = sorted(islice(self._late(scene, queue, name, p99 or 0.0), ENOUGH_LATE))
        stuck = stalled([taken_at for taken_at, _ in late], durations.recent)
        if stuck > 1 or stuck == len(late):  # one of several is nothing: the last was taken after all others
            del late[-stuck:]
        everyone = limit(durations.p99([run for _, run in late] * EACH), self._factor, self._least) or 0.0
        return max(own, min(everyone, DOUBT))

    def _late(self, scene: Scene, queue: str, name: str, p99: float) -> Iterator[tuple[float, float]]:
        """Yield when each job that runs for longer than most was taken, and how long it has run."""
        for ref in scene.books.get(queue, ()):
            ledger = ref()
            now = 0.0 if ledger is None else ledger.now()
            for job in () if ledger is None else ledger.open:
                if job.taken_at is None or job.settled_at is not None:
                    continue
                if now - job.taken_at <= p99:
                    break  # jobs stand in the order in which they were taken
                if job.name == name and job not in self._told:
                    yield job.taken_at, now - job.taken_at


def _slow(scene: Scene, job: Job[Any], run: float, durations: Durations, held: int) -> Found:
    p99 = durations.p99() or 0.0
    task = next(iter(scene.working_on(job)), None)
    place, stack = trail(task)
    where = "" if task is None else f" in asyncio task {task_words(task)}"
    sentence = (
        f"Job {job.id} of queue {job.queue!r} ({job.name}) has been running for {run:.3g} s{where}; of the last "
        f"{durations.total} such jobs that have ended, 99 of 100 took {p99:.3g} s at most. "
        + (f"It waits in {place}: give that a time-out. " if place else "")
        + "If such a job may take so long, raise slow_factor."
    )
    facts: dict[str, str | int | float | bool] = {"job": job.name, "job_id": job.id, "run": run, "p99": p99}
    facts["jobs_measured"] = durations.total
    if task is not None:
        facts["task"] = task.get_name()
    return found(FindingKind.SLOW_JOB, sentence, queue=job.queue, held=held, facts=facts, stack=stack, job=job)
