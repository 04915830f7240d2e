"""Floor 3, HOT: what a bare queue can know of its jobs: whose they are, and when they end.

Nothing is guessed: a job runs in the asyncio task that itself awaited get(), and it ends as `docs/lifecycle.md` lists.
"""

import logging
import sys
import weakref
from typing import Any

from .complaint import complain
from .consumer import Consumer, classify, consumer_here, here, inheritors, known_consumer, pass_on, running_task, stray
from .job import DropReason, Job, Outcome
from .ledger import Ledger, Series, current
from .observer import Hook, Listener, hook

_OK = Outcome.OK
UNDECIDED_JOBS = 100
"""With settle="auto", after how many jobs without a task_done() a consumer is taken for one that never calls it."""
HELD_JOBS = 1000
"""How many open jobs one asyncio task may hold before the oldest ends as abandoned."""


class Tracker:
    """Follows the jobs of one queue from get() to their end and tells its listener."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.mode = ledger.options.settle
        self.auto = self.mode == "auto"
        self.never = ledger.options.process_spans == "never"
        self.left = 0
        self.listener: Listener | None = None
        self.blocked: Hook | None = None
        self.started: Hook | None = None
        self.waited: Hook | None = None
        self.passed: Hook | None = None
        self.settling: Hook | None = None
        self.settled: Hook | None = None
        self.warned = False
        self.failed = False
        self.entered: Consumer | None = None
        """Whom `entering` found where there was an item already, for the `deliver` that follows at once."""
        self.untracked = 0
        """Jobs that were taken while nobody listened, and whose task_done() is still to come."""

    def listen(self, listener: Listener | None) -> None:
        """Tell *listener* from now on; hooks that it does not override are never called."""
        self.listener = listener
        for name in ("blocked", "started", "waited", "passed", "settling", "settled"):
            setattr(self, name, hook(listener, name))
        self.ledger.started, self.ledger.settled = self.started, self.settled
        self.ledger.failed = self.fail
        self.ledger.identify = (listener or Listener()).identify

    def fail(self, name: str) -> None:
        """Take out a listener whose hook *name* raised: counted, and logged once.

        It is told the end of the jobs that it has begun, so that what it opened for them is closed.
        """
        self.ledger.errors += 1
        if self.failed:
            return
        self.failed = True
        settled, queue = self.settled, self.ledger.queue()
        if queue is None:
            self.listen(None)
        else:
            queue._otel_silence()
        self.settled = settled
        self.ledger.settled = self._tell_begun
        complain(
            logging.ERROR,
            "telemetry of queue %r failed in %s() and is switched off for it; the queue works on",
            self.ledger.name,
            name,
            error=sys.exception(),
        )

    def tell_blocked(self, seconds: float) -> None:
        """Tell that the put that follows had to wait."""
        if self.blocked is not None:
            try:
                self.blocked(seconds)
            except Exception:
                self.fail("blocked")

    def let_go(self) -> None:
        """End what is open as unobserved: the queue is not watched any more."""
        for job in tuple(self.ledger.open):
            self.ledger.settle(job, Outcome.UNOBSERVED)
        self.ledger.retire(DropReason.UNWATCHED)

    def _tell_begun(self, job: Job[Any]) -> None:
        """Tell a listener that was taken out of the end of what it has begun; the ledger minds its failures."""
        if self.settled is not None and job.trace is not None:
            self.settled(job)

    def deliver(self, job: Job[Any]) -> Any:
        """Hand a job to the caller of get(): it runs from here on, or nothing but its wait is known."""
        ledger = self.ledger
        job.taken_at = ledger.now()
        job.outcome = job.settled_at = job.error = job.error_type = None
        consumer, self.entered = self.entered, None
        if consumer is None:
            consumer = None if self.never else consumer_here()
        if consumer is None or not consumer.direct:
            return self._wait_only(job, consumer)
        jobs = consumer.jobs
        if jobs and not consumer.awaits:
            self._leave_all(consumer)
        job.owner = consumer
        job.outer = sys.exception()
        series = consumer.series
        if series is None or consumer.ledger is not ledger:
            series = consumer.series_of(ledger)
        job.series = series
        if self.started is not None:
            try:
                may = self.started(job, False)
            except Exception:
                self.fail("started")
                may = True
            if not may:
                job.owner = None
                return self._wait_only(job, consumer)
        series.taken += 1
        ledger.open[job] = None
        jobs.append(job)
        current.set(weakref.ref(job))
        if len(jobs) > HELD_JOBS:
            self._hold_less(consumer)
        return job.item

    def _hold_less(self, consumer: Consumer) -> None:
        """Find out that a consumer never calls task_done(), or give up its oldest job."""
        if self.mode == "auto":
            self._decide_next_get()
        if len(consumer.jobs) > HELD_JOBS:
            self._abandon_oldest(consumer)

    def _wait_only(self, job: Job[Any], consumer: Consumer | None) -> Any:
        if job.series is None:
            name = ("", "") if consumer is None or not consumer.direct else (consumer.name, consumer.function)
            job.series = self.ledger.series(name[0] or "unknown", name[1])
        job.series.taken += 1
        job.series.unobserved += 1
        job.settled_at, job.outcome = job.taken_at, Outcome.UNOBSERVED
        if self.waited is not None:
            try:
                self.waited(job)
            except Exception:
                self.fail("waited")
        job.trace = None
        return job.item

    def entering(self) -> Consumer | None:
        """Note that the calling asyncio task goes to get(): with "next_get" this is where its last job ends."""
        if self.never:
            return None
        consumer, task = here.get(), running_task()  # `consumer_here`, without the call
        if consumer is None or task is None or consumer.task() is not task:
            consumer = consumer_here()
        if consumer is not None:
            consumer.awaits = True
            if consumer.jobs:
                self._leave_all(consumer)
        return consumer

    def task_done(self) -> None:
        """Settle the job that a task_done() is about, as the exception being handled tells."""
        if self.auto:
            self.mode = "task_done"
        ref = current.get()
        job = None if ref is None else ref()
        if (
            job is None
            or job.outcome is not None
            or job.ledger is not self.ledger
            or type(owner := job.owner) is not Consumer
            or len(owner.jobs) != 1  # the only one that it holds: then nobody can mean another
        ):
            job = self._meant()
            if job is None:
                self._done_unseen()
                return
        else:
            owner.jobs.clear()  # `Consumer.release`, without the call
            job.owner = None
        error = sys.exception()
        if error is job.outer:
            error = None
        self.end(job, error, None)

    def _done_unseen(self) -> None:
        """Take note of a task_done() for a job that was not followed, or only waited for: that was finished then."""
        if self.untracked:
            self.untracked -= 1
            self.ledger.series("unknown", "").ok += 1
        elif self.passed is not None:
            try:
                self.passed()
            except Exception:
                self.fail("passed")

    def wake(self, silent: Series) -> None:
        """Begin to follow jobs: those that were taken before stay counted as they are.

        If none of many has had a task_done() so far, none will: they are over.
        """
        left = silent.taken - silent.ok - silent.unobserved
        if left < 0:  # task_done() without get(), as after `queue._queue.clear()`
            silent.ok += left
            left = 0
        if not silent.ok and left > UNDECIDED_JOBS:
            silent.unobserved += left
        else:
            self.untracked = left

    def end(self, job: Job[Any], error: BaseException | None, at: float | None) -> None:
        """Settle *job* by *error*, or by one that was logged or recorded under it and swallowed."""
        if error is None:
            if self.settling is not None:
                try:
                    self.settling(job)
                except Exception:
                    self.fail("settling")
            error = job.error
            if error is None and job.error_type is None:
                self.ledger.settle(job, _OK, None, None, at)
                return
        outcome, reason = classify(error or job.error_type)
        self.ledger.settle(job, outcome, error, reason, at)

    def _meant(self) -> Job[Any] | None:
        """Find the job that a task_done() means: an inherited one, else the oldest held here, else the oldest stray.

        Of those held here, one that a child works on is left to that child as long as there is another: a dispatcher
        calls task_done() itself for the sentinel that ends it.
        """
        consumer = known_consumer()
        ref = current.get()
        job = None if ref is None else ref()
        ours = job is not None and job.outcome is None and job.ledger is self.ledger
        if job is not None and ours and job.owner is not consumer:
            return job
        if consumer is not None:
            held = [each for each in consumer.jobs if each.ledger is self.ledger]
            if held:
                return held[0] if len(held) == 1 else next((each for each in held if not inheritors(each)), held[0])
        return next((each for each in tuple(self.ledger.open) if stray(each)), None)

    def _leave_all(self, consumer: Consumer) -> None:
        """Let the calling asyncio task go on from what it holds of this queue."""
        if self.mode == "task_done":
            return
        now = self.ledger.now()
        for job in [each for each in consumer.jobs if each.ledger is self.ledger]:
            if self.mode == "next_get":
                self._leave(job, now)
            elif job.settled_at is None:
                job.settled_at = now
                if inheritors(job) == []:  # one on which a child may work says nothing about task_done()
                    self.left += 1
        if self.mode == "auto" and self.left >= UNDECIDED_JOBS:
            self._decide_next_get()

    def _decide_next_get(self) -> None:
        """Take the consumers for ones that never call task_done(), and end what they have gone on from."""
        self.mode = "next_get"
        for job in tuple(self.ledger.open):
            if job.settled_at is not None:
                self._leave(job, job.settled_at)

    def _leave(self, job: Job[Any], at: float) -> None:
        """End *job* as its asyncio task has gone on, unless another inherited it and works on."""
        ref = current.get()
        if ref is not None and ref() is job:
            current.set(None)
        del ref
        heirs = inheritors(job)
        if heirs:
            pass_on(job, heirs)
        else:
            self.end(job, None, at)

    def _abandon_oldest(self, consumer: Consumer) -> None:
        if not self.warned:
            self.warned = True
            complain(
                logging.WARNING,
                "an asyncio task holds more than %d jobs of queue %r: does %s() call task_done()? "
                "The oldest are counted as abandoned from here on.",
                HELD_JOBS,
                self.ledger.name,
                consumer.name,
            )
        oldest = next((job for job in consumer.jobs if job.ledger is self.ledger), None)
        if oldest is not None:
            self.ledger.settle(oldest, Outcome.ABANDONED)
