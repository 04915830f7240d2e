"""Floor 1: a job, one item on its way from put to done, and the closed sets of words for how it ends."""

import itertools
import os
from contextvars import Context
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Outcome(StrEnum):
    """How a job ended: one word per finished job, the same in span, metric and log."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    UNOBSERVED = "unobserved"


class CancelReason(StrEnum):
    """Who or what cancelled a job, as far as can be known."""

    CONSUMER = "consumer"
    """The asyncio task that worked on it was cancelled."""
    HANDLER = "handler"
    """The handler raised CancelledError though nobody had cancelled its worker."""
    LOOP_CLOSED = "loop_closed"
    """The event loop was closed under it."""
    SHUTDOWN = "shutdown"
    """The queue was shut down at once, or a pool's grace was over."""


class CancelState(StrEnum):
    """Where a cancelled job was."""

    QUEUED = "queued"
    RUNNING = "running"


class DropReason(StrEnum):
    """Why an item left its queue without being taken."""

    CLEARED = "cleared"
    """Removed through the queue's own container, `queue._queue`."""
    COLLECTED = "collected"
    """Still waiting when the queue itself was garbage-collected."""
    UNWATCHED = "unwatched"
    """Still waiting when the queue ceased to be watched."""


_prefix = os.urandom(5).hex()
_numbers = itertools.count(1)


def _reseed() -> None:
    """Give a forked child ids of its own; the count goes on, for jobs from before the fork have theirs."""
    global _prefix
    _prefix = os.urandom(5).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


class _Exported(str):
    """The type of an exception that has gone out; a mark that takes no room in jobs that go well."""

    __slots__ = ()


class Job(Generic[T]):
    """One item on its way from put to done; it carries its own story and one opaque slot for the observer.

    Instants end in `_at` and are seconds on the queue's monotonic clock.
    """

    __slots__ = (
        "__weakref__",
        "_id",
        "context",
        "error",
        "error_type",
        "item",
        "ledger",
        "outcome",
        "outer",
        "owner",
        "put_at",
        "reason",
        "series",
        "settled_at",
        "taken_at",
        "trace",
    )

    attempt = 1
    """Which try this is, counted from one."""

    # A slot not written yet reads as None (`__getattr__`). There is no constructor: calling one takes longer than all
    # the rest of a put. See `new_job`.
    _id: int | None
    item: T
    ledger: Any
    put_at: float
    outcome: Outcome | None
    reason: CancelReason | None
    taken_at: float | None
    settled_at: float | None
    error: BaseException | None
    error_type: str | None
    trace: Any
    owner: Any
    series: Any
    outer: BaseException | None
    context: Context | None

    def __getattr__(self, name: str) -> None:
        """Read a slot that was not written yet: a put must not pay for what only a take needs."""
        if name in _SLOTS:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def taken(self, at: float) -> None:
        """Note that it was taken at *at*, and lay out what its run will fill in; for brokers other than ours."""
        self.taken_at = at
        self.outcome = self.settled_at = self.error = self.error_type = None

    @property
    def id(self) -> str:
        """A short id, unique across processes; made when first asked for."""
        number = self._id
        if number is None:
            number = self._id = next(_numbers)
        return f"{_prefix}{number:06x}"  # kept as a number: a string would take twice the room in every traced job

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return str(self.ledger.name)

    @property
    def name(self) -> str:
        """The name of the function that works on it; empty while nobody does."""
        return "" if self.series is None else str(self.series.name)

    @property
    def wait(self) -> float:
        """Seconds from put to taken; 0.0 while it is waiting."""
        return 0.0 if self.taken_at is None else self.taken_at - self.put_at

    @property
    def producer_context(self) -> Context | None:
        """The producer's context variables, where the queue was made with `carry="context"`."""
        return self.context

    def note_error(self, error: BaseException | str, *, exported: bool = False) -> None:
        """Remember an exception that was logged or recorded under this job, should nobody see it raised.

        Args:
            error: The exception, or the name of its type where that is all there is.
            exported: Whether it is on its way to a back end already, so that the job's own record can be spared.
        """
        if self.outcome is not None:
            return
        kind = str if not exported and not self.noted else _Exported
        if isinstance(error, str):
            self.error_type = kind(error)
        elif error is not self.outer:
            self.error = error
            self.error_type = kind(type_name(error))

    @property
    def noted(self) -> bool:
        """Whether its exception is on its way to a back end already."""
        return type(self.error_type) is _Exported

    def __repr__(self) -> str:
        state = self.outcome or ("waiting" if self.taken_at is None else "running")
        return f"<Job {self.id} of {self.queue!r}: {state}>"


_SLOTS = frozenset(Job.__slots__)


def new_job(item: T, ledger: Any, put_at: float) -> Job[T]:
    """Return the job of an item put at *put_at* into the queue whose books are *ledger*."""
    job: Job[T] = Job()
    job.item = item
    job.ledger = ledger
    job.put_at = put_at
    return job


def type_name(error: BaseException) -> str:
    """Return what `error.type` says of an exception: the qualified name of its class, bare for built-in ones."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
