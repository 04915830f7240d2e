"""Floor 5: jobs followed while detectors look: without an SDK a queue only counts, and nobody knows whose a job is.

The queue's own tracker does the following, as it does for an SDK; one call more at each end of a job notes its run.
"""

import sys
import weakref
from collections import deque
from typing import Any, NamedTuple

from ..._core.consumer import Consumer, known_consumer, pass_on, running_task
from ..._core.job import Job
from ..._core.ledger import current
from ..._core.observed import Observed
from .ends import Ends

NOTED = 2000
"""How many ended jobs a queue keeps in mind between two looks: a sample, where there are more."""
STRAYS = 5
"""How many jobs that ended with their asyncio task are named."""


class Stray(NamedTuple):
    """A job that ended because its asyncio task did, without a task_done()."""

    job: str
    name: str
    task: str
    error: str
    cancelled: bool


class Follower:
    """What is noted of the jobs of one queue. It is the hook that the ledger calls at the end of a job."""

    __slots__ = (
        "_began",
        "_inner",
        "_passed",
        "_unobserved",
        "elsewhere",
        "ended",
        "ends",
        "foreign",
        "loop",
        "strays",
    )

    def __init__(self, loop: Any) -> None:
        self.loop = weakref.ref(loop)
        self.ended: deque[tuple[Any, ...]] = deque(maxlen=NOTED)
        self.strays: deque[Stray] = deque(maxlen=STRAYS)
        self.ends = Ends()
        """How the last consumers have ended, also those that had settled their jobs."""
        self.foreign = 0
        """task_done() calls that ended no job: for one that was only waited for, or by somebody who never took it."""
        self.elsewhere = False
        """Whether somebody calls task_done() who holds no job: then who settles what is not known."""
        self._unobserved = 0
        self._began = False
        self._inner: Any = None
        self._passed: Any = None

    def __call__(self, job: Job[Any]) -> None:
        """Note the end of a job, then tell the listener that was there."""
        ref = weakref.ref(job)
        self.ended.append((ref, job.series, job.outcome, job.taken_at, job.settled_at))
        if current.get() is ref:
            current.set(None)  # a task that is started here from now on is not started in this job
        elif running_task() is None:
            task = _ended_task()
            if task is not None:
                self.strays.append(Stray(job.id, job.name, task.get_name(), job.error_type or "", task.cancelled()))
        if job.error_type is not None:  # what failed may be gone before the next look
            consumer = known_consumer()
            if consumer is not None:
                self.ends.mind(consumer.task())
        if self._inner is not None:
            self._inner(job)  # the ledger minds what it raises

    def pass_by(self) -> None:
        """Count a task_done() that ended no job, then tell the listener that was there."""
        self.foreign += 1
        if self._passed is not None:
            self._passed()

    def follow(self, queue: Observed[Any]) -> None:
        """Have the jobs of *queue* followed, and be told of their end; again and again, for listeners change."""
        ledger, tracker = queue._otel_ledger, queue._otel_tracker
        if queue._otel_deliver is None:
            tracker.wake(queue._otel_silent)
            queue._otel_deliver = tracker.deliver
            ledger.following = self._began = True
            self._unobserved = _unobserved(ledger)
        if ledger.settled is not self:
            self._inner = ledger.settled
            ledger.settled = self
        if tracker.passed != self.pass_by:
            self._passed = tracker.passed
            tracker.passed = self.pass_by

    def let_go(self, queue: Observed[Any]) -> None:
        """Take that back. A queue with open jobs stays followed: their ends would be counted wrongly."""
        self.ends.forget()
        ledger, tracker = queue._otel_ledger, queue._otel_tracker
        if ledger.settled is self:
            ledger.settled = self._inner
        if tracker.passed == self.pass_by:
            tracker.passed = self._passed
        silent = tracker.listener is None or tracker.listener.dormant
        if self._began and silent and not ledger.open:
            queue._otel_deliver = None
            ledger.following = False
        self._began = False

    def over(self) -> bool:
        """Say whether the loop that it looks at is gone or closed."""
        loop = self.loop()
        return loop is None or loop.is_closed()

    def note(self, ledger: Any, queue: Observed[Any]) -> list[tuple[Any, ...]]:
        """Return what was noted since the last look; begin the count of what is unclear anew where nothing is."""
        ended = list(self.ended)
        self.ended.clear()
        if self.foreign > _unobserved(ledger) - self._unobserved:
            self.elsewhere = True
        if not queue._unfinished_tasks:
            self.foreign, self._unobserved = 0, _unobserved(ledger)
            self.strays.clear()
        return ended

    def unclear(self, ledger: Any) -> int:
        """Return how many takes, at most, somebody may still settle of whom nothing is known."""
        series = tuple(ledger.all_series.values())
        in_flight = sum(max(0, each.taken - sum(each.outcomes().values())) for each in series)
        unknown = max(0, in_flight - len(ledger.open))  # taken while nobody followed
        return int(unknown + max(0, _unobserved(ledger) - self._unobserved - self.foreign))


def _unobserved(ledger: Any) -> int:
    return sum(series.unobserved for series in tuple(ledger.all_series.values()))


def _ended_task() -> Any:
    """Return the asyncio task for whose end the caller's caller settles a job: it is a few frames up."""
    frame = sys._getframe(2)
    for _ in range(4):
        if frame.f_code is Consumer._ended.__code__:
            return frame.f_locals["task"]
        if frame.f_code in pass_on.__code__.co_consts:  # the callback of a task that inherited the job
            return frame.f_locals["heir"]
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


_followers: "weakref.WeakKeyDictionary[Any, Follower]" = weakref.WeakKeyDictionary()


def follower(ledger: Any, loop: Any) -> Follower | None:
    """Return who follows the queue of *ledger* for *loop*, made when first asked for.

    None for a queue of another loop, and for one that is not ours: a queue tells its loop when somebody first waits
    in it; until then whoever asks first has it.
    """
    queue = ledger.queue()
    if not isinstance(queue, Observed):
        return None
    own = getattr(queue, "_loop", None)
    if own is not None and own is not loop:
        return None
    known = _followers.get(ledger)
    if known is None or known.over() or (known.loop() is not loop and own is loop):
        if known is not None:
            known.let_go(queue)
        known = _followers[ledger] = Follower(loop)
    return known if known.loop() is loop else None


def release(loop: Any) -> None:
    """Let go of all queues that are followed for *loop*."""
    for ledger, known in list(_followers.items()):
        if known.loop() is loop:
            del _followers[ledger]
            queue = ledger.queue()
            if isinstance(queue, Observed):
                known.let_go(queue)
