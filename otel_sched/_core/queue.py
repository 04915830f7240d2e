"""Floor 3, HOT: the drop-in queues. Every item passes through asyncio's overridable `_put` and `_get` exactly once."""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .blocking import Blocking, await_item
from .dropin import DropIn
from .errors import QueueShutDown
from .job import Job
from .ledger import Ledger
from .observed import Observed, SidecarObserved
from .observer import Observer
from .waiting import JobDeque

T = TypeVar("T")


_INLINED = frozenset({"_init", "_put", "_get", "_wakeup_next", "get_nowait", "qsize", "empty", "full"})


class Queue(DropIn[T]):
    """A drop-in for asyncio.Queue that can be watched: first in, first out."""

    _otel_own_container = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not _INLINED.isdisjoint(cls.__dict__):
            cls._otel_own_container = True

    if not TYPE_CHECKING:  # checkers would take its arguments for the constructor's

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            return super().__new__(with_sidecar(cls) if cls._otel_own_container else cls)

    # A subclass with a container of its own may call these three by name; `super()` does not lead here.

    def _init(self, maxsize: int) -> None:
        if self._otel_own_container:
            asyncio.Queue._init(self, maxsize)
        else:
            self._queue = ()

    def _put(self, item: T) -> None:
        if self._otel_own_container:
            asyncio.Queue._put(self, item)
        else:
            self._otel_push(self._otel_admit(item))

    def _get(self) -> T:
        if self._otel_own_container:
            return asyncio.Queue._get(self)
        job = self._otel_pop()
        if self._otel_deliver is not None:
            return self._otel_deliver(job)  # type: ignore[no-any-return]
        self._otel_silent.taken += 1
        return job.item  # type: ignore[no-any-return]

    # What follows says what asyncio's says, without the calls between: half of the queue's cost is calls. Where a
    # subclass overrides one of those (`_INLINED`), its instances take asyncio's way.

    async def put(self, item: T) -> None:
        """Put *item* into the queue; wait for a free slot while it is full. Raises QueueShutDown after shutdown()."""
        if 0 < self._maxsize <= len(self._otel_jobs):
            await self._otel_room()
        self.put_nowait(item)

    async def get(self) -> T:
        """Remove and return an item; wait while there is none. Raises QueueShutDown when there will be no more."""
        if not self._otel_jobs:
            if self._otel_deliver is not None:
                self._otel_tracker.entering()
            await await_item(self)
        elif self._otel_deliver is not None:
            tracker = self._otel_tracker
            tracker.entered = tracker.entering()
        return self.get_nowait()

    def put_nowait(self, item: T) -> None:
        """Put *item* into the queue; raise QueueFull when it is full, QueueShutDown after shutdown()."""
        if self._is_shutdown:
            raise QueueShutDown
        if 0 < self._maxsize <= len(self._otel_jobs):
            raise asyncio.QueueFull
        ledger = self._otel_ledger
        job: Job[T] = Job()  # `new_job`, without the call
        job.item = item
        job.ledger = ledger
        job.put_at = ledger.now()
        ledger.put += 1
        if self._otel_queued is not None:
            try:
                self._otel_queued(job)
            except Exception:
                self._otel_tracker.fail("queued")
        self._otel_push(job)
        if not self._unfinished_tasks:
            self._finished.clear()
        self._unfinished_tasks += 1
        if self._getters:
            self._wakeup_next(self._getters)

    def get_nowait(self) -> T:
        """Remove and return an item; raise QueueEmpty when there is none, QueueShutDown when there will be none."""
        if not self._otel_jobs:
            raise QueueShutDown if self._is_shutdown else asyncio.QueueEmpty
        job = self._otel_pop()
        if self._otel_deliver is None:
            self._otel_silent.taken += 1
            item = job.item
        else:
            item = self._otel_deliver(job)
        if self._putters:
            self._wakeup_next(self._putters)
        return item  # type: ignore[no-any-return]

    def task_done(self) -> None:
        """Say that the work on one item is over; it ends the job that this is about (docs/lifecycle.md).

        Raises ValueError when called more often than there were items.
        """
        unfinished = self._unfinished_tasks - 1
        if unfinished < 0:
            raise ValueError("task_done() called too many times")
        if self._otel_deliver is None:
            if self._otel_ledger.limits and self._otel_pool_settles():
                return
            self._otel_silent.ok += 1
        else:
            self._otel_tracker.task_done()
        self._unfinished_tasks = unfinished
        if not unfinished:
            self._finished.set()

    def _otel_take_nowait(self) -> Job[T]:
        """Take a job the way get_nowait() takes its item."""
        job: Job[T] = self._otel_pop()
        if self._putters:
            self._wakeup_next(self._putters)
        return job

    def qsize(self) -> int:
        """Return the number of items in the queue."""
        return len(self._otel_jobs)

    def empty(self) -> bool:
        """Say whether no item is in the queue."""
        return not self._otel_jobs

    @property
    def _queue(self) -> Any:
        """The container as others see it: they peek at items, clear them, even replace it."""
        return self._otel_jobs

    @_queue.setter
    def _queue(self, items: Any) -> None:
        ledger = self._otel_ledger
        if ledger.waiting is not None:
            if items is ledger.waiting:  # `queue._queue += [...]` assigns what it has changed
                return
            items = list(items)  # what cannot be walked to its end must fail before anything is counted
            ledger.lose(len(ledger.waiting))
        jobs = JobDeque(ledger.admit, ledger.lose)
        jobs.extend(items)
        self._otel_jobs = ledger.waiting = jobs
        # deque's own methods, which take and give jobs where the subclass shows items
        self._otel_push = super(JobDeque, jobs).append
        self._otel_pop = super(JobDeque, jobs).popleft


class _OwnContainer(Queue[T]):
    """Gives a subclass that brings its own `_init`, `_put` or `_get` asyncio's plain ones to build on."""

    _queue: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Its subclasses are made by `with_sidecar` alone."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return object.__new__(cls)

    def _otel_observe(self, ledger: Ledger, observer: Observer | None) -> None:
        self._otel_ledger = ledger
        self._otel_stand_by()  # type: ignore[attr-defined]
        super()._otel_observe(ledger, observer)

    put = DropIn.put
    get = DropIn.get

    # What `Queue.put_nowait(self, item)` and its like find where a subclass calls them by name
    @property
    def _otel_jobs(self) -> Any:  # type: ignore[override]
        return self._queue

    def _otel_push(self, job: Job[T]) -> None:
        super(SidecarObserved, self)._put(job.item)  # type: ignore[misc]
        self._otel_waiting.push(job)  # type: ignore[attr-defined]

    def _otel_pop(self) -> Job[T]:
        job: Job[T] = self._otel_waiting.pop(super(SidecarObserved, self)._get())  # type: ignore[attr-defined, misc]
        return job

    put_nowait = Blocking.put_nowait
    get_nowait = Blocking.get_nowait
    task_done = Observed.task_done
    _otel_take_nowait = Observed._otel_take_nowait
    _init = asyncio.Queue._init
    _put = asyncio.Queue._put
    _get = asyncio.Queue._get
    qsize = asyncio.Queue.qsize
    empty = asyncio.Queue.empty


class _Sidecar(SidecarObserved[T]):
    """Where a subclass's own `_put` and `_get` are observed: outside of them."""


@lru_cache(maxsize=256)  # bounded, for a program may make classes without end
def with_sidecar(cls: type[Any]) -> type[Any]:
    """Return *cls* with its own container left as it is, observed from outside."""
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Sidecar, cls, _OwnContainer), body)


class PriorityQueue(DropIn[T], SidecarObserved[T], asyncio.PriorityQueue[T]):  # type: ignore[type-var]
    """A drop-in for asyncio.PriorityQueue that can be watched: lowest first."""

    def _otel_observe(self, ledger: Ledger, observer: Observer | None) -> None:
        self._otel_stand_by()
        super()._otel_observe(ledger, observer)


class LifoQueue(DropIn[T], SidecarObserved[T], asyncio.LifoQueue[T]):
    """A drop-in for asyncio.LifoQueue that can be watched: last in, first out."""

    def _otel_observe(self, ledger: Ledger, observer: Observer | None) -> None:
        self._otel_stand_by()
        super()._otel_observe(ledger, observer)
