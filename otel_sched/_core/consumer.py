"""Floor 3: the asyncio task that takes jobs: what it holds, and how that ends when the task does."""

import asyncio
import contextvars
import gc
import sys
import weakref
from asyncio import Queue as AsyncioQueue
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Iterable
from typing import Any

from .job import CancelReason, Job, Outcome
from .ledger import Ledger, Series, current

if sys.version_info < (3, 12):
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

MANY_TASKS = 512
"""Beyond this many live asyncio tasks nobody looks for those that inherited a job: it would cost the loop too much."""

if sys.version_info >= (3, 12):

    def running_task() -> asyncio.Task[Any] | None:
        """Return the running asyncio task, or None outside of any."""
        return None if _get_running_loop() is None else asyncio.current_task()

else:  # asyncio.current_task() is Python code there, and ten times as slow

    def running_task() -> asyncio.Task[Any] | None:
        """Return the running asyncio task, or None outside of any."""
        task: asyncio.Task[Any] | None = _current_tasks.get(_get_running_loop())
        return task


here: contextvars.ContextVar["Consumer | None"] = contextvars.ContextVar("otel_sched_consumer", default=None)
"""The consumer that the running asyncio task is, or that one of those was whose context it inherited."""
_lost: deque[tuple["Consumer", bool]] = deque()


class Consumer:
    """One asyncio task as a taker of jobs. The task is held weakly, so that a closed loop can go."""

    __slots__ = ("awaits", "direct", "function", "jobs", "ledger", "loop", "name", "series", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        coroutine = task.get_coro()
        self.jobs: list[Job[Any]] = []
        self.awaits = False
        self.direct = not _is_get(coroutine)
        self.name, self.function = _names(coroutine)
        self.ledger: Ledger | None = None
        self.series: Series | None = None
        self.task: Any = weakref.ref(task, self._vanished)
        self.loop = weakref.ref(task.get_loop())
        # An empty context: the default would pin a copy of this one, and the spans in it, for the task's whole life.
        task.add_done_callback(self._ended, context=contextvars.Context())

    def series_of(self, ledger: Ledger) -> Series:
        """Return the counts under which this task's jobs of *ledger* stand."""
        if self.ledger is not ledger or self.series is None:
            self.ledger, self.series = ledger, ledger.series(self.name, self.function)
        return self.series

    def release(self, job: Job[Any]) -> None:
        """Let go of a job that is settled or has passed to another."""
        if job in self.jobs:
            self.jobs.remove(job)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.task = _no_task
        for job in tuple(self.jobs):
            heirs = inheritors(job)
            if heirs:
                pass_on(job, heirs)
            else:
                settle_as(job, task)

    def _vanished(self, _: object) -> None:
        if self.jobs:  # inside the garbage collector: only note it, `sweep` does the work
            _lost.append((self, self._loop_closed()))

    def _loop_closed(self) -> bool:
        loop = self.loop()
        return loop is None or loop.is_closed()

    def settle_if_stuck(self) -> None:
        """Settle what a task holds that can never go on, because its loop is closed."""
        if self._loop_closed():
            self.settle_lost(True)

    def settle_lost(self, loop_closed: bool) -> None:
        """Settle what is left of a task that is gone: nothing is known of it but perhaps its loop's end."""
        for job in tuple(self.jobs):
            if loop_closed:
                job.ledger.settle(job, Outcome.CANCELLED, None, CancelReason.LOOP_CLOSED)
            else:
                job.ledger.settle(job, Outcome.ABANDONED)


def consumer_here() -> Consumer | None:
    """Return the running asyncio task as a consumer, made when first seen; None outside of any task."""
    task = running_task()
    if task is None:
        return None
    consumer = here.get()
    if consumer is None or consumer.task() is not task:
        if _lost:
            sweep()
        consumer = Consumer(task)
        here.set(consumer)
    return consumer


def known_consumer() -> Consumer | None:
    """Return the running asyncio task as a consumer if it has taken a job before."""
    consumer, task = here.get(), running_task()
    return consumer if consumer is not None and task is not None and consumer.task() is task else None


def task_names() -> tuple[str, str]:
    """Return the short and the full name of the coroutine function that the calling asyncio task runs."""
    task = running_task()
    return ("unknown", "") if task is None else _names(task.get_coro())


def sweep(ledgers: Iterable[Ledger] = ()) -> None:
    """Settle jobs whose asyncio task can never finish: destroyed ones, and those on loops that were closed."""
    while _lost:
        try:
            consumer, loop_closed = _lost.popleft()
        except IndexError:  # another thread was faster
            break
        consumer.settle_lost(loop_closed)
    for ledger in ledgers:
        for job in tuple(ledger.open):
            owner = job.owner
            if isinstance(owner, Consumer):
                owner.settle_if_stuck()


def classify(error: BaseException | str | None) -> tuple[Outcome, CancelReason | None]:
    """Return the outcome that *error* means, and who cancelled where it means that."""
    if error is None:
        return Outcome.OK, None
    if isinstance(error, TimeoutError) or error in ("TimeoutError", "JobTimeout"):
        return Outcome.TIMEOUT, None
    if isinstance(error, asyncio.CancelledError) or error == "asyncio.exceptions.CancelledError":
        # Inside an asyncio.timeout() block a time-out is a bare CancelledError too, and nothing tells them apart.
        return Outcome.CANCELLED, CancelReason.CONSUMER
    if isinstance(error, GeneratorExit):
        if _get_running_loop() is not None:  # an async generator that was left early, when it had what it wanted
            return Outcome.OK, None
        return Outcome.CANCELLED, CancelReason.LOOP_CLOSED  # a coroutine destroyed while it was suspended
    return Outcome.ERROR, None


def settle_as(job: Job[Any], task: "asyncio.Future[Any]") -> None:
    """Settle *job* as the asyncio task that worked on it has ended."""
    if job.settled_at is not None:  # it went on to its next get() long before
        job.ledger.settle(job, classify(job.error)[0], job.error, None, job.settled_at)
    elif task.cancelled():
        job.ledger.settle(job, Outcome.CANCELLED, None, CancelReason.CONSUMER)
    else:
        # Not task.exception(): reading it would silence asyncio's "exception was never retrieved".
        error = getattr(task, "_exception", None) or job.error
        outcome, reason = classify(error)
        job.ledger.settle(job, outcome, error, reason)


def inheritors(job: Job[Any]) -> list[asyncio.Task[Any]] | None:
    """Return the live asyncio tasks that were started while *job* was current and so work on it too.

    None where there may be some, and more than MANY_TASKS to look at.
    """
    ref = weakref.ref(job)
    if sys.getrefcount(ref) <= 2:  # this name and the argument: no context holds it any more
        return []
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    tasks = asyncio.all_tasks(loop)
    if len(tasks) > MANY_TASKS:
        return None
    owner = None if job.owner is None else job.owner.task()
    return [task for task in tasks if task is not owner and _context_of(task).get(current) is ref]


def pass_on(job: Job[Any], heirs: list[asyncio.Task[Any]]) -> None:
    """Let *job* go on without an owner: it ends with the last of its heirs, unless one calls task_done()."""
    if job.owner is not None:
        job.owner.release(job)
        job.owner = None
    job.settled_at = None
    ref, left = weakref.ref(job), len(heirs)

    def ended(heir: "asyncio.Future[Any]") -> None:
        nonlocal left
        left -= 1
        open_job = ref()
        if open_job is None or open_job.outcome is not None:
            return
        failed = heir.cancelled() or getattr(heir, "_exception", None) is not None
        if failed or not left:
            settle_as(open_job, heir)

    for heir in heirs:
        heir.add_done_callback(ended, context=contextvars.Context())


def stray(job: Job[Any]) -> bool:
    """Say whether no live asyncio task owns *job*."""
    owner = job.owner
    return owner is None or (isinstance(owner, Consumer) and owner.task() is None)


def _no_task() -> None:
    return None


if sys.version_info >= (3, 12):

    def _context_of(task: asyncio.Task[Any]) -> contextvars.Context:
        return task.get_context()

else:

    def _context_of(task: asyncio.Task[Any]) -> contextvars.Context:
        """Do what Task.get_context() does from 3.12 on: the garbage collector knows what a task refers to."""
        found = (each for each in gc.get_referents(task) if type(each) is contextvars.Context)
        return next(found, contextvars.Context())


def _is_get(coroutine: Any) -> bool:
    """Say whether an asyncio task is nothing but a queue's get(): create_task(queue.get()), gather, shield, ..."""
    code = getattr(coroutine, "cr_code", None)
    frame = getattr(coroutine, "cr_frame", None)
    if code is None or frame is None or code.co_name != "get" or not code.co_argcount:
        return False
    return isinstance(frame.f_locals.get(code.co_varnames[0]), AsyncioQueue)


def _names(coroutine: Any) -> tuple[str, str]:
    """Return the short and the full name of the coroutine function that an asyncio task runs."""
    qualified = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
    frame = getattr(coroutine, "cr_frame", None)
    module = "" if frame is None else frame.f_globals.get("__name__", "")
    return qualified.rpartition("<locals>.")[2], f"{module}.{qualified}" if module else qualified
