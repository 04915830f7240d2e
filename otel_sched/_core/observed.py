"""Floor 3, HOT: what every observed queue has beside asyncio's interface, whatever its container.

Its attributes begin with `_otel_`, for it is mixed into classes that are not ours.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .blocking import await_item, await_room
from .census import arrivals
from .consumer import task_names
from .job import CancelReason, Job, Outcome, new_job
from .ledger import LEASED, Ledger, Series
from .observer import Listener, Observer, default_observer, hook
from .stats import Stats, stats_of
from .tracker import Tracker
from .waiting import Sidecar

T = TypeVar("T")


class FromLedger:
    """An attribute read from the books, which gives way to an attribute of that name of a program's own."""

    def __init__(self, read: Callable[[Ledger], Any], doc: str) -> None:
        self._read = read
        self.__doc__ = doc

    def __get__(self, queue: Any, owner: Any = None) -> Any:
        return self if queue is None else self._read(queue._otel_ledger)


class Observed(asyncio.Queue[T]):
    """The part of a queue that keeps books, follows jobs and hands them out."""

    __slots__ = ()

    # asyncio's own, which typeshed leaves out
    _getters: "deque[asyncio.Future[None]]"
    _putters: "deque[asyncio.Future[None]]"
    _unfinished_tasks: int
    _finished: asyncio.Event
    _maxsize: int
    _is_shutdown: bool
    _wakeup_next: Callable[[Any], None]

    _otel_ledger: Ledger
    _otel_tracker: Tracker
    _otel_queued: Any
    _otel_deliver: Any
    _otel_silent: Series

    if TYPE_CHECKING:  # what checkers know of descriptors does not fit the protocol of a broker

        @property
        def ledger(self) -> Ledger:
            """The books: name, options, counts."""
            ...

    else:
        ledger = FromLedger(lambda ledger: ledger, "The books: name, options, counts.")

    def stats(self) -> Stats:
        """Return a frozen snapshot of its counts, the same numbers that the dashboards show."""
        return stats_of(self._otel_ledger)

    def _otel_observe(self, ledger: Ledger, observer: Observer | None) -> None:
        """Start the books and find out who listens."""
        self._otel_ledger = ledger
        self._otel_tracker = Tracker(ledger)
        self._otel_queued = self._otel_deliver = None
        self._otel_silent = ledger.series("unknown", "")
        ledger.watch_queue(self)
        try:
            self._otel_listen((observer or default_observer()).watch(ledger))
        except Exception:
            self._otel_tracker.fail("watch")
        for arrival in arrivals:
            arrival(ledger)

    def _otel_listen(self, listener: Listener | None) -> None:
        """Tell *listener* from now on; for a dormant one no job is followed."""
        self._otel_tracker.listen(listener)
        self._otel_queued = hook(listener, "queued")
        if self._otel_ledger.options.carry == "context":
            self._otel_queued = partial(_carry_context, self._otel_queued)
        following = listener is not None and not listener.dormant
        if following and self._otel_deliver is None:
            self._otel_tracker.wake(self._otel_silent)
        self._otel_deliver = self._otel_tracker.deliver if following else None
        self._otel_ledger.following = following

    def _otel_silence(self) -> None:
        """Tell nobody any more, but follow the jobs on: some are open, and all are counted."""
        deliver = self._otel_deliver
        self._otel_listen(None)
        self._otel_deliver, self._otel_ledger.following = deliver, deliver is not None

    def _otel_admit(self, item: Any) -> Job[Any]:
        """Make the job of an item that is being put, and tell of it."""
        ledger = self._otel_ledger
        ledger.put += 1
        job: Job[Any] = new_job(item, ledger, ledger.now())
        if self._otel_queued is not None:
            try:
                self._otel_queued(job)
            except Exception:
                self._otel_tracker.fail("queued")
        return job

    async def _otel_room(self) -> None:
        """Wait while the queue is full, and tell how long it took."""
        tracker = self._otel_tracker  # it may cease to be watched meanwhile
        tracker.tell_blocked(await await_room(self, self._otel_ledger.now))

    def task_done(self) -> None:
        """Say that the work on one item is over; it ends the job that this is about (docs/lifecycle.md).

        Raises ValueError when called more often than there were items.
        """
        if self._otel_deliver is None and self._otel_pool_settles():
            return
        super().task_done()
        if self._otel_deliver is not None:
            self._otel_tracker.task_done()
        else:
            self._otel_silent.ok += 1

    def _otel_pool_settles(self) -> bool:
        """Say whether a task_done() that nobody follows is one in a pool's handler: no get() is left that it ends."""
        silent = self._otel_silent
        return silent.ok >= silent.taken and bool(self._otel_ledger.limits) and self._unfinished_tasks > 0

    async def take(self, series: Series | None = None) -> Job[T]:
        """Wait for the next job and lease it to the calling asyncio task until `settle`.

        Args:
            series: The counts it stands under, from `ledger.series(name, function)`; a pool passes its handler's.
                By default those of the calling coroutine function.

        Raises QueueShutDown when there will never be another.
        """
        if self.empty():
            await await_item(self)
        return self._otel_leased(self._otel_take_nowait(), series or self._otel_ledger.series(*task_names()))

    def _otel_take_nowait(self) -> Job[T]:
        """Take a job the way get_nowait() takes its item."""
        before = self._otel_deliver
        taken: list[Job[T]] = []
        self._otel_deliver = partial(_keep, taken)
        try:
            item = self.get_nowait()
        finally:
            self._otel_deliver = before
        taken[0].item = item  # a subclass's own get_nowait() may unwrap it
        return taken[0]

    def _otel_leased(self, job: Job[T], series: Series) -> Job[T]:
        """Count *job* as taken under *series*; follow it if anybody listens."""
        series.taken += 1
        job.series = series
        job.owner = LEASED
        if self._otel_deliver is None:
            job.outcome = None
        else:
            ledger = self._otel_ledger
            job.taken_at = ledger.now()
            job.outcome = job.settled_at = job.error = job.error_type = None
            ledger.open[job] = None
        return job

    def settle(
        self,
        job: Job[T],
        outcome: Outcome,
        error: BaseException | None = None,
        reason: CancelReason | None = None,
    ) -> None:
        """End a job that `take` leased, as task_done() would; a second call does nothing."""
        if job.outcome is not None:
            return
        if outcome is Outcome.OK and self._otel_deliver is None:  # nobody to tell, nothing but counts to keep
            job.outcome = outcome
            job.series.ok += 1
        else:
            job.ledger.settle(job, outcome, error, reason)
        unfinished = self._unfinished_tasks = self._unfinished_tasks - 1
        if not unfinished:
            self._finished.set()

    def shutdown(self, immediate: bool = False) -> None:
        """Refuse puts from now on, and gets once it is empty; with *immediate* what waits in it is cancelled."""
        self._otel_shutdown(immediate)

    def _otel_shutdown(self, *args: Any, **kwargs: Any) -> Any:
        """Call the shutdown() of the queue's own class; what it takes out of the queue is cancelled."""
        before = self._otel_deliver
        self._otel_deliver = self._otel_discard
        try:
            return super().shutdown(*args, **kwargs)  # type: ignore[misc, unused-ignore]
        finally:
            self._otel_deliver = before

    def _otel_discard(self, job: Job[Any]) -> Any:
        self._otel_ledger.discard(job, CancelReason.SHUTDOWN)
        return job.item


class SidecarObserved(Observed[T]):
    """An observed queue whose container stays as it is: heaps, lists, and whatever a subclass brings."""

    __slots__ = ()

    _otel_waiting: Sidecar

    def _put(self, item: T) -> None:
        super()._put(item)
        self._otel_waiting.push(self._otel_admit(item))

    def _get(self) -> T:
        job = self._otel_waiting.pop(super()._get())
        if self._otel_deliver is not None:
            return self._otel_deliver(job)  # type: ignore[no-any-return]
        self._otel_silent.taken += 1
        return job.item  # type: ignore[no-any-return]

    def _otel_stand_by(self) -> None:
        """Stand a sidecar beside the container; items that are in it already become jobs put now."""
        ledger = self._otel_ledger
        container: Any = getattr(self, "_queue", ())
        self._otel_waiting = ledger.waiting = Sidecar(container, ledger.admit, ledger.lose)
        self._otel_waiting.resync()


def _carry_context(queued: Any, job: Job[Any]) -> None:
    """Give a job its producer's context variables, then tell of it as without."""
    job.context = copy_context()
    if queued is not None:
        queued(job)


def _keep(taken: list[Job[Any]], job: Job[Any]) -> Any:
    taken.append(job)
    return job.item
