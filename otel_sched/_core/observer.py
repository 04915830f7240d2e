"""Floor 2: the seam, the core's only door to telemetry: who is told, and of what.

After trio's `Instrument`: a hook that nobody overrides is treated as absent, and one that raises is taken out, so that
telemetry can neither slow nor break the work it watches.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .callsite import creation_site, is_application
from .complaint import complain
from .job import Job
from .ledger import Ledger

Hook = Callable[..., Any]


class Listener:
    """Told the moments of one queue's jobs, synchronously. Override what you care about; the rest costs nothing.

    Counts (put, taken, finished, sizes, ages) are not told: read them from `ledger.snapshot()` when you need them.
    """

    dormant = False
    """True for one that waits for its time (no SDK yet): only `queued` is called, and no job is followed for it."""

    def queued(self, job: Job[Any]) -> None:
        """A job is being put; runs in the producer's context, before the item is in the queue."""

    def blocked(self, seconds: float) -> None:
        """A put that had to wait has got its place, after *seconds*; told just before `queued`."""

    def started(self, job: Job[Any], own_worker: bool) -> bool:  # type: ignore[empty-body]
        """A job may start in the calling asyncio task; return False to leave it wait-only.

        With *own_worker* the task belongs to a pool of ours and there is no telling it may not.
        """

    def waited(self, job: Job[Any]) -> None:
        """A job was taken where its run cannot be seen: the wait is all there is to tell."""

    def passed(self) -> None:
        """task_done() was called for a job that was only waited for."""

    def settling(self, job: Job[Any]) -> None:
        """A job is about to end and no exception is in sight; `job.note_error` tells of one that was swallowed."""

    def identify(self, job: Job[Any]) -> tuple[int, int] | None:
        """Return trace id and span id of an open job, or those of its producer; None where there are none.

        Diagnostics ask, from any thread.
        """
        return None

    def settled(self, job: Job[Any]) -> None:
        """A job that was started, or cancelled while queued, has ended; not always in the context it started in."""


class Calls:
    """Told of the calls of one coroutine function that `instrument` wraps; the two come in pairs, in one context."""

    def entered(self, items: Sequence[Any]) -> Any:
        """A call with the arguments *items* begins; what this returns comes back in `left`."""

    def left(self, token: Any, error: BaseException | None) -> None:
        """The call has returned, or raised *error*."""


class Observer:
    """Decides, for each queue, who listens to it. Bound when the queue is made: a later observer does not reach it."""

    def watch(self, ledger: Ledger) -> Listener | None:
        """Return who listens to the queue of *ledger*, or None for nobody."""
        return None

    def wrap(self, name: str, function: str) -> Calls | None:
        """Return who is told of calls of the coroutine function *name*, in full *function*; None for nobody."""
        return None

    def prepare(self) -> None:
        """Load what the first queue would else load; leave no other trace. See `prepare`, the function."""


def hook(listener: Listener | None, name: str) -> Hook | None:
    """Resolve a hook once: the bound method, or None when nobody overrides it."""
    if listener is None or getattr(type(listener), name) is getattr(Listener, name):
        return None
    bound: Hook = getattr(listener, name)
    return bound


_default = Observer()


def set_default_observer(observer: Observer) -> None:
    """Set the observer of queues made from now on without `observer=`; those that exist keep theirs."""
    global _default
    if not isinstance(observer, Observer):
        raise TypeError(f"expected an otel_sched Observer, got {observer!r}")
    _default = observer


def default_observer() -> Observer:
    """Return the observer of queues made without `observer=`."""
    return _default


def prepare() -> None:
    """Load now what the first queue and the first finding need; leave no other trace.

    For whoever is about to measure how long things take: imports are slow, and the line that makes the queue would be
    blamed for them.
    """
    creation_site(None)  # uses up no name
    is_application(__file__)  # finds out where libraries are
    try:
        _default.prepare()
    except Exception as error:
        complain(logging.WARNING, "%r failed in prepare()", _default, error=error)
