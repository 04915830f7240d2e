"""Floor 4: a pool of workers, asyncio tasks that pull jobs from one queue whenever they are free."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .broker import Broker
from .callable import callable_names, checked_handler
from .complaint import complain
from .job import Outcome
from .ledger import current
from .options import checked_name
from .repeats import Repeats
from .runner import Worker

T = TypeVar("T")

CANCEL_WAIT = 5.0
"""Seconds that cancelled jobs may take to clean up before the pool leaves them behind."""
REPLACE_DELAY = 1.0
"""Seconds between a worker's death and its replacement; the first that dies of a bug is replaced at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A snapshot of a pool."""

    name: str
    limit: int
    """How many workers it is meant to have."""
    workers: int
    """How many it has; more than the limit while a smaller pool finishes what it had begun."""
    busy: int
    replaced: int
    """Workers that died of a bug of ours and were replaced."""


class WorkerPool(Generic[T]):
    """N workers over one queue. Each pulls when it is free, so the fast ones take more.

    An exception ends its job and nothing else: it is logged, counted and on the job's span. Leaving `async with` waits
    until the queue is drained, for at most *grace* seconds; what then still runs is cancelled, and a log line says so.
    """

    def __init__(
        self,
        queue: Broker[T],
        handler: Callable[[T], Awaitable[object]],
        *,
        workers: int = 8,
        name: str | None = None,
        grace: float | None = 10.0,
    ) -> None:
        """Make a pool; it starts with `async with` or `start()`.

        Args:
            queue: An otel_sched queue, or an asyncio.Queue after `watch(queue)`.
            handler: A coroutine function, a partial of one, or an object with an async `__call__`; given the item.
            workers: How many jobs may run at once.
            name: What its asyncio tasks are called, with a number; by default as the queue.
            grace: Seconds to drain when it is left; None for as long as it takes.

        Raises TypeError for a queue that is not observed and a handler that is not async, ValueError for numbers out
        of range.
        """
        if not (hasattr(queue, "take") and hasattr(queue, "settle")):
            raise TypeError(
                f"a pool needs an otel_sched queue, got {queue!r}; for an asyncio.Queue that exists, "
                "pass watch(queue, name=...)"
            )
        self._queue = queue
        self._handler = checked_handler(handler)
        self._limit = _checked_workers(workers)
        self._grace = _checked_grace(grace)
        self.name = queue.ledger.name if name is None else checked_name(name)
        self._series = queue.ledger.series(*callable_names(handler))
        self._workers: list[Worker] = []
        self._repeats = Repeats()
        self._deaths = 0
        self._state = "new"
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Start the workers; needs a running loop. A pool starts once."""
        if self._state != "new":
            raise RuntimeError(f"pool {self.name!r} was started before; make a new one")
        asyncio.get_running_loop()
        self._state = "running"
        self._queue.ledger.add_limit(self._series, self._limit)
        self._fill()

    def resize(self, workers: int) -> None:
        """Change the number of workers. More start at once; fewer end when they have finished what they work on."""
        _checked_workers(workers)
        working = self._state in ("running", "stopping")
        if working:
            self._queue.ledger.add_limit(self._series, workers - self._limit)
        self._limit = workers
        if working:
            self._fill()

    def stats(self) -> PoolStats:
        """Return a frozen snapshot."""
        busy = sum(worker.job is not None for worker in self._workers)
        return PoolStats(
            name=self.name, limit=self._limit, workers=len(self._workers), busy=busy, replaced=self._deaths
        )

    async def join(self) -> None:
        """Return when every job put into the queue is settled."""
        await self._queue.join()

    async def stop(self, grace: float | None = None) -> None:
        """Drain for at most *grace* seconds (by default the pool's), then cancel what still runs, and end.

        A cancellation while it drains ends the draining. What waits in the queue after that stays there. While
        somebody else stops the pool already, this waits until that is done.

        Raises RuntimeError in a handler of this pool, which would wait for itself.
        """
        grace = self._grace if grace is None else _checked_grace(grace)
        if self._state in ("new", "stopped"):
            self._state = "stopped"
            return
        if asyncio.current_task() in [worker.task for worker in self._workers]:
            raise RuntimeError(f"a handler of pool {self.name!r} cannot stop it: stop() would wait for that handler")
        if self._state != "running":
            await self._over.wait()
            return
        self._state = "stopping"
        try:
            await asyncio.wait_for(self._drained(), grace)
        except TimeoutError:
            waiting = self._queue.ledger.snapshot().size
            running = sum(worker.job is not None for worker in self._workers)
            if running or waiting:
                complain(
                    logging.WARNING,
                    "pool %r: the grace of %.4g s is over; cancelling %d running jobs; %d stay in the queue",
                    self.name,
                    grace,
                    running,
                    waiting,
                )
        else:
            waiting = self._queue.ledger.snapshot().size
            if waiting and not self._workers:
                complain(logging.WARNING, "pool %r: no worker is left; %d jobs stay in the queue", self.name, waiting)
        finally:
            await self._end()

    async def _drained(self) -> None:
        """Return when the queue is, or when no worker is left to drain it."""
        joined = asyncio.ensure_future(self._queue.join())
        try:
            while not joined.done() and self._workers:
                tasks = [worker.task for worker in self._workers if worker.task is not None]
                await asyncio.wait([joined, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            joined.cancel()

    async def _end(self) -> None:
        """Cancel all workers, leave behind those that will not go, and close the books on the pool."""
        self._state, limit = "ending", self._limit
        workers, self._workers = self._workers, []
        tasks = {worker.task: worker for worker in workers if worker.task is not None}
        for task, worker in tasks.items():
            worker.retiring = worker.stopping = True
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=CANCEL_WAIT)
        finally:
            self._state = "stopped"
            self._over.set()
            self._queue.ledger.add_limit(self._series, -limit)
            self._leave_behind([worker for task, worker in tasks.items() if not task.done()])
            for key, held in self._repeats.take_held().items():
                complain(
                    logging.WARNING, "pool %r: %d more jobs failed with %s and were not logged", self.name, held, key
                )

    def _leave_behind(self, workers: list[Worker]) -> None:
        for worker in workers:
            job = worker.job
            if job is not None:
                complain(
                    logging.ERROR,
                    "pool %r: job %s in %s goes on %.4g s after it was cancelled; it is left behind as abandoned",
                    self.name,
                    job.id,
                    worker.name,
                    CANCEL_WAIT,
                )
                self._queue.settle(job, Outcome.ABANDONED)

    def _fill(self) -> None:
        """Start workers up to the limit, or let those above it go, the idle ones first."""
        staying = [worker for worker in self._workers if not worker.retiring]
        for worker in sorted(staying, key=lambda each: each.job is not None)[: max(0, len(staying) - self._limit)]:
            worker.retiring = True
            if worker.job is None and worker.task is not None:
                worker.task.cancel()
        for _ in range(self._limit - len(staying)):
            self._start_worker()

    def _start_worker(self) -> None:
        worker = Worker(self._next_name(), self._queue, self._handler, self._series, self._repeats)
        context = contextvars.copy_context()
        context.run(current.set, None)  # a pool made inside a job is not part of that job
        worker.task = asyncio.get_running_loop().create_task(worker.run(), name=worker.name, context=context)
        worker.task.add_done_callback(lambda task: self._ended(worker, task))
        self._workers.append(worker)

    def _next_name(self) -> str:
        taken = {worker.name for worker in self._workers}
        return next(name for n in range(len(taken) + 1) if (name := f"{self.name}-{n}") not in taken)

    def _ended(self, worker: Worker, task: "asyncio.Task[None]") -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):  # the program ends: no time for new workers
            return
        died = not worker.retiring if task.cancelled() else error is not None
        if error is not None and worker.job is not None:
            self._queue.settle(worker.job, Outcome.ABANDONED)
        if died and self._state == "running":
            self._deaths += 1
            # One that was cancelled may be the first of all: whoever ends a program cancels every asyncio task.
            delay = 0.0 if self._deaths == 1 and error is not None else REPLACE_DELAY
            task.get_loop().call_later(delay, self._replace)
        if error is not None:
            complain(logging.CRITICAL, "pool %r: worker %s died; it is replaced", self.name, worker.name, error=error)

    def _replace(self) -> None:
        if self._state == "running":
            self._fill()


def _checked_workers(workers: Any) -> int:
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers must be an int, got {workers!r}")
    if workers < 1:
        raise ValueError(f"a pool needs at least one worker, got {workers}")
    return workers


def _checked_grace(grace: Any) -> float | None:
    if grace is None:
        return None
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"grace must be seconds or None, got {grace!r}")
    if not grace >= 0:
        raise ValueError(f"grace must be 0 s or more, got {grace}")
    return float(grace)
