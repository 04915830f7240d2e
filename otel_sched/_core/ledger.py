"""Floor 2: the books of one queue: plain counts that only grow, and the jobs that are open.

Counts are written by the loop's thread and read by the exporter's without a lock. Each only grows, and a job is
counted as put before taken before settled; a reader who goes the other way round (`snapshot`) never sees more settled
than taken or more taken than put, so that put = size + active + finished + dropped holds in every snapshot.
"""

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from .census import enter
from .clock import Clock
from .job import CancelReason, CancelState, DropReason, Job, Outcome, new_job, type_name
from .options import Options
from .snapshot import SeriesCounts, Snapshot

MAX_JOB_NAMES = 100
OVERFLOW = "other"
"""The job name that stands for all beyond the hundredth: names are labels of metrics, and must stay few."""

current: ContextVar[weakref.ref[Job[Any]] | None] = ContextVar("otel_sched_job", default=None)
"""The running job of this context, weakly: a context copied into a long-lived callback must not keep it alive."""


def current_job() -> Job[Any] | None:
    """Return the running job of the calling context, or None.

    Jobs are followed for somebody: with no SDK, no observer and no correlated logs there is none to be had.
    """
    ref = current.get()
    job = None if ref is None else ref()
    return job if job is not None and job.outcome is None else None


class _Leased:
    """The owner of jobs that a pool took: nobody else's task_done() may settle them."""

    def release(self, job: Job[Any]) -> None:
        """Nothing to let go of."""


LEASED = _Leased()
_OK = Outcome.OK


class Waiting(Protocol):
    """A container of waiting jobs."""

    def __len__(self) -> int: ...
    def oldest(self) -> float | None: ...


class Series:
    """The counts of one job name in one queue; an int for each outcome."""

    __slots__ = (
        "abandoned",
        "cancelled",
        "cancels",
        "error",
        "expired",
        "function",
        "name",
        "ok",
        "taken",
        "timeout",
        "unobserved",
    )

    def __init__(self, name: str, function: str) -> None:
        self.name = name
        self.function = function
        self.taken = self.ok = self.error = self.timeout = 0
        self.cancelled = self.expired = self.abandoned = self.unobserved = 0
        self.cancels: dict[tuple[str, str], int] = {}

    def count(self, outcome: Outcome, reason: CancelReason | None) -> None:
        """Add one job that ended as *outcome*."""
        setattr(self, outcome.value, getattr(self, outcome.value) + 1)
        if outcome is Outcome.CANCELLED:
            key = (CancelState.RUNNING.value, (reason or CancelReason.CONSUMER).value)
            self.cancels[key] = self.cancels.get(key, 0) + 1

    def outcomes(self) -> dict[str, int]:
        """Return the counts by outcome, those above zero."""
        counts = ((outcome.value, getattr(self, outcome.value)) for outcome in Outcome)
        return {name: count for name, count in counts if count}


class Ledger:
    """Counts, names and open jobs of one queue; it outlives the queue where an observer needs its totals."""

    def __init__(self, name: str, options: Options, now: Clock, capacity: int | None) -> None:
        self.name = name
        self.options = options
        self.now = now
        self.capacity = capacity
        self.put = 0
        self.dropped: dict[str, int] = {}
        self.unstarted: dict[str, int] = {}
        self.open: dict[Job[Any], None] = {}
        self.all_series: dict[str, Series] = {}
        self.limits: dict[Series, int] = {}
        self.errors = 0
        self.held = 0
        """Log records that the rate limit held back."""
        self.closed = False
        """Whether the queue is gone, so that nothing but what is open will change here."""
        self.following = False
        """Whether anybody listens, so that jobs are followed and not only counted."""
        self.reporting = False
        """Whether a listener tells of failures over OTLP."""
        self.waiting: Waiting | None = None
        self.queue: Callable[[], Any] = _nothing
        self.started: Callable[[Job[Any], bool], bool] | None = None
        """Asked whether a job may start; it may raise, and `failed` is then told which hook did."""
        self.settled: Callable[[Job[Any]], None] | None = None
        """Told of the end of a job; likewise."""
        self.failed: Callable[[str], None] = _ignore
        self.identify: Callable[[Job[Any]], tuple[int, int] | None] = _unknown
        """Returns trace id and span id of an open job; None where it has none."""
        enter(self)

    def series(self, name: str, function: str) -> Series:
        """Return the counts for job *name*, shared by all who work under it."""
        found = self.all_series.get(name)
        if found is None:
            if len(self.all_series) >= MAX_JOB_NAMES and name != OVERFLOW:
                return self.series(OVERFLOW, OVERFLOW)
            found = self.all_series[name] = Series(name, function)
        return found

    def add_limit(self, series: Series, workers: int) -> None:
        """Add to how many workers there are for the jobs of *series*."""
        limit = self.limits.get(series, 0) + workers
        if limit:
            self.limits[series] = limit
        else:
            self.limits.pop(series, None)

    def admit(self, item: Any) -> Job[Any]:
        """Count an item that came in past `put`, through the container itself."""
        self.put += 1
        return new_job(item, self, self.now())

    def lose(self, count: int, reason: DropReason = DropReason.CLEARED) -> None:
        """Count items that left without being taken."""
        if count:
            self.dropped[reason.value] = self.dropped.get(reason.value, 0) + count

    def discard(self, job: Job[Any], reason: CancelReason) -> None:
        """Settle a job that is cancelled before anybody took it."""
        self.unstarted[reason.value] = self.unstarted.get(reason.value, 0) + 1
        job.outcome, job.reason, job.settled_at = Outcome.CANCELLED, reason, self.now()
        self._tell(job)

    def settle(
        self,
        job: Job[Any],
        outcome: Outcome,
        error: BaseException | None = None,
        reason: CancelReason | None = None,
        at: float | None = None,
    ) -> None:
        """End an open job, once: count it, let go of it, tell the listener. A second call does nothing."""
        if job.outcome is not None:
            return
        job.outcome, job.reason = outcome, reason
        if error is not None and error is not job.error:
            job.error, job.error_type = error, type_name(error)
        job.settled_at = self.now() if at is None else at
        self.open.pop(job, None)
        owner = job.owner
        if owner is not None:
            if owner is not LEASED:
                owner.release(job)
            job.owner = None
        if outcome is _OK:
            job.series.ok += 1
        else:
            job.series.count(outcome, reason)
        if self.settled is not None:  # `_tell`, without the call
            try:
                self.settled(job)
            except Exception:
                self.failed("settled")
        job.trace = job.outer = None

    def _tell(self, job: Job[Any]) -> None:
        if self.settled is not None:
            try:
                self.settled(job)
            except Exception:
                self.failed("settled")
        job.trace = job.outer = None

    def watch_queue(self, queue: Any) -> None:
        """Hold the queue weakly and close the books for what still waits when it is gone."""
        self.queue = weakref.ref(queue, lambda _: self.retire())

    def retire(self, reason: DropReason = DropReason.COLLECTED) -> None:
        """Close the books: the queue is gone, or is not watched any more."""
        self.queue = _nothing
        self.capacity = None  # a sum over all queues of the name, and this one has no room any more
        left = self.snapshot().size  # ints only: this may run inside the garbage collector
        if left > 0:
            self.lose(left, reason)
        self.waiting = None
        self.closed = True  # last: whoever sees it, in another thread, takes the counts for final

    def snapshot(self) -> Snapshot:
        """Return the counts as of now; from any thread."""
        result = Snapshot(capacity=self.capacity, errors=self.errors, held=self.held)
        for each in list(self.all_series.values()):
            result.series[each.name] = SeriesCounts(each.outcomes(), dict(each.cancels))
        if self.unstarted:
            unstarted = dict(self.unstarted)
            cancels = {(CancelState.QUEUED.value, reason): count for reason, count in unstarted.items()}
            result.series[""] = SeriesCounts({Outcome.CANCELLED.value: sum(unstarted.values())}, cancels)
        result.dropped = dict(self.dropped)
        for name, counts in result.series.items():
            if name:
                counts.taken = self.all_series[name].taken
                if counts.active < 0:  # task_done() without get(), while nobody followed
                    counts.outcomes[Outcome.OK.value] = max(0, counts.outcomes.get(Outcome.OK.value, 0) + counts.active)
        result.taken = sum(counts.taken for counts in result.series.values())
        result.put = self.put
        self._ages(result)
        queue = self.queue()
        if queue is not None:
            result.puts_waiting = len(getattr(queue, "_putters", ()))  # of another broker's, nobody may wait here
            result.gets_waiting = len(getattr(queue, "_getters", ()))
        for series, limit in list(self.limits.items()):
            result.limits[series.name] = limit
        return result

    def _ages(self, result: Snapshot) -> None:
        waiting = self.waiting
        oldest = None if waiting is None else waiting.oldest()
        now = self.now()
        if oldest is not None:
            result.oldest_age = max(0.0, now - oldest)
        for job in tuple(self.open):
            if job.taken_at is not None:
                counts = result.series.setdefault(job.name, SeriesCounts())
                counts.oldest_active_age = max(counts.oldest_active_age, now - job.taken_at)


def _nothing() -> None:
    return None


def _unknown(_: Job[Any]) -> tuple[int, int] | None:
    return None


def _ignore(_: str) -> None:
    """Nobody cares."""
