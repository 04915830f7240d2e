"""Floor 3, HOT: one worker: takes a job, makes one attempt at it, settles it, again and again."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from typing import Any

from .broker import Broker
from .complaint import complain
from .consumer import running_task
from .errors import QueueShutDown
from .job import CancelReason, Job, Outcome, type_name
from .ledger import Series, current
from .repeats import Repeats

_ENDS_WORKER = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)

Handler = Callable[[Any], Awaitable[Any]]

_workers: "weakref.WeakKeyDictionary[asyncio.Task[Any], weakref.ref[Worker]]" = weakref.WeakKeyDictionary()


def worker_of(task: asyncio.Task[Any]) -> "Worker | None":
    """Return the worker of a pool whose asyncio task *task* is, or None; from any thread."""
    ref = _workers.get(task)
    return None if ref is None else ref()


class Worker:
    """One asyncio task of a pool."""

    __slots__ = (
        "__weakref__",
        "_handler",
        "_repeats",
        "_series",
        "broker",
        "job",
        "name",
        "retiring",
        "stopping",
        "task",
    )

    def __init__(self, name: str, broker: Broker[Any], handler: Handler, series: Series, repeats: Repeats) -> None:
        self.name = name
        self.job: Job[Any] | None = None
        self.retiring = False
        """Set to let it end after the job it works on."""
        self.stopping = False
        """Set before the pool cancels it, so that a cancellation can say who wanted it."""
        self.task: asyncio.Task[None] | None = None
        self.broker = broker
        self._handler = handler
        self._series = series
        self._repeats = repeats

    @property
    def handles(self) -> str:
        """The name of its handler."""
        return self._series.name

    async def run(self) -> None:
        """Work until the queue is shut down, the pool lets it go, or it is cancelled."""
        task = running_task()
        if task is not None:
            _workers[task] = weakref.ref(self)
        broker, handler, series = self.broker, self._handler, self._series
        take, settle = broker.take, broker.settle
        carries = broker.ledger.options.carry == "context"
        ledger, done = broker.ledger, Outcome.OK
        while not self.retiring:
            try:
                job = await take(series)
            except QueueShutDown:
                return
            self.job = job
            try:
                if carries and job.context is not None:
                    await self._in_context(job, job.context)
                else:
                    if ledger.following:
                        begin(job)
                    await handler(job.item)
            except BaseException as error:
                outcome, reason = self._judge(error)
                if outcome is not Outcome.CANCELLED:
                    self._report(job, error, outcome)
                settle(job, outcome, error, reason)
                if isinstance(error, _ENDS_WORKER) and reason is not CancelReason.HANDLER:
                    raise
            else:
                settle(job, done)
            self.job = job = None  # type: ignore[assignment]  # an idle worker must not keep its last job

    async def _in_context(self, job: Job[Any], context: Context) -> Any:
        """Run the handler with the producer's context variables, but in this asyncio task."""
        inside = context.copy()
        inside.run(begin, job)
        return await _Inside(inside, self._handler(job.item))

    def _judge(self, error: BaseException) -> tuple[Outcome, CancelReason | None]:
        if isinstance(error, TimeoutError):
            return Outcome.TIMEOUT, None
        if isinstance(error, GeneratorExit):
            return Outcome.CANCELLED, CancelReason.LOOP_CLOSED
        if isinstance(error, asyncio.CancelledError):
            if self.stopping:
                return Outcome.CANCELLED, CancelReason.SHUTDOWN
            task = asyncio.current_task()  # not `self.task`: an eager one runs before it is known
            ours = task is None or task.cancelling()
            return Outcome.CANCELLED, CancelReason.CONSUMER if ours else CancelReason.HANDLER
        return Outcome.ERROR, None

    def _report(self, job: Job[Any], error: BaseException, outcome: Outcome) -> None:
        """Log a failure while its job is still current, so that the line carries its trace."""
        held = self._repeats.allow(type_name(error), job.ledger.now())
        if held is None:
            return
        more = f" ({held} more like it were not logged)" if held else ""
        complain(
            logging.ERROR,
            "job %s of queue %r: %s in %s%s",
            job.id,
            job.ledger.name,
            "failed" if outcome is Outcome.ERROR else outcome.value,
            job.name,
            more,
            error=error,
            # Over OTLP the observer tells of it, with more to say; a handler of ours skips this line.
            extra={"otel_sched_emitted": job.ledger.reporting},
        )


class _Inside:
    """Awaits a coroutine each of whose steps runs in another context, as an asyncio task of its own would.

    It stays in the caller's asyncio task, so that cancelling that one reaches the handler from its first line on.
    """

    __slots__ = ("_context", "_coroutine")

    def __init__(self, context: Context, coroutine: Any) -> None:
        self._context = context
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self._coroutine.send, None
        while True:
            try:
                awaited = self._context.run(step, value)
            except StopIteration as stop:
                return stop.value
            try:
                step, value = self._coroutine.send, (yield awaited)
            except BaseException as error:
                step, value = self._coroutine.throw, error


def begin(job: Job[Any]) -> None:
    """Make *job* the current one; call it in the context that its handler runs in."""
    current.set(weakref.ref(job))
    ledger = job.ledger
    if ledger.started is not None:
        try:
            ledger.started(job, True)
        except Exception:
            ledger.failed("started")
