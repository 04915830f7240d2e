"""Floor 6: observers that stand in for the default one for the time of a test, and give way again."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .._core.census import ledgers
from .._core.finding import Reporter, default_reporter, set_default_reporter
from .._core.job import Job
from .._core.ledger import Ledger
from .._core.observed import Observed
from .._core.observer import Calls, Listener, Observer, default_observer, prepare, set_default_observer


class Beside(Observer):
    """Has one observer's listeners told beside another's, which alone may use what a job carries for it."""

    def __init__(self, second: Observer, first: Observer) -> None:
        self.second = second
        self.first = first

    def watch(self, ledger: Ledger) -> Listener | None:
        """Return both listeners as one; one that only waits for its time would take the place of the other."""
        first, second = self.first.watch(ledger), self.second.watch(ledger)
        if first is None or first.dormant:
            return second
        return first if second is None else Both(first, second)

    def wrap(self, name: str, function: str) -> Calls | None:
        """Let the first one be told of calls."""
        return self.first.wrap(name, function)

    def prepare(self) -> None:
        """Let both load what they need."""
        self.first.prepare()
        self.second.prepare()


class Both(Listener):
    """Two listeners as one."""

    def __init__(self, first: Listener, second: Listener) -> None:
        self._first = first
        self._second = second

    def queued(self, job: Job[Any]) -> None:
        """Tell both."""
        self._first.queued(job)
        self._second.queued(job)

    def blocked(self, seconds: float) -> None:
        """Tell both."""
        self._first.blocked(seconds)
        self._second.blocked(seconds)

    def started(self, job: Job[Any], own_worker: bool) -> bool:
        """Ask the first; what it leaves wait-only the second is not told of yet."""
        started = type(self._first).started is Listener.started or self._first.started(job, own_worker)
        if started and type(self._second).started is not Listener.started:
            self._second.started(job, own_worker)
        return started

    def waited(self, job: Job[Any]) -> None:
        """Tell both."""
        self._first.waited(job)
        self._second.waited(job)

    def passed(self) -> None:
        """Tell both."""
        self._first.passed()
        self._second.passed()

    def settling(self, job: Job[Any]) -> None:
        """Tell both."""
        self._first.settling(job)
        self._second.settling(job)

    def identify(self, job: Job[Any]) -> tuple[int, int] | None:
        """Ask the first."""
        return self._first.identify(job)

    def settled(self, job: Job[Any]) -> None:
        """Tell both, the first even where the second fails."""
        try:
            self._second.settled(job)
        finally:
            self._first.settled(job)


class Late(Both):
    """Joins one listener only with the next put: a queue that nobody uses any more must not count in its metrics."""

    def __init__(self, observer: Observer, ledger: Ledger, second: Listener) -> None:
        super().__init__(Listener(), second)
        self._missing: tuple[Observer, Ledger] | None = (observer, ledger)

    def queued(self, job: Job[Any]) -> None:
        """Let the first one join, then tell both."""
        if self._missing is not None:
            (observer, ledger), self._missing = self._missing, None
            self._first = observer.watch(ledger) or self._first
        super().queued(job)


@contextmanager
def standing_in(observer: Observer, *, beside: bool) -> Iterator[None]:
    """Make *observer* the default one, and let it listen to queues that exist.

    Args:
        beside: True for one that listens to all queues, beside whoever does; False for one in place of the default
            one, which also listens where the queue's own only waits for its time.
    """
    before = default_observer()
    default = Beside(observer, before) if beside else observer
    if isinstance(before, Beside) and not beside:
        default = Beside(before.second, observer)
    set_default_observer(default)
    prepare()  # or the first queue of the test would, which may be measured
    taken = [_take(ledger, observer, beside) for ledger in ledgers()]
    try:
        yield
    finally:
        if default_observer() is default:  # the test may have set another one, and meant it
            set_default_observer(before)
        for each in taken:
            if each is not None:
                each.give_back()


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Make *reporter* the default one."""
    before = default_reporter()
    set_default_reporter(reporter)
    try:
        yield
    finally:
        if default_reporter() is reporter:
            set_default_reporter(before)


_free: "weakref.WeakSet[Listener]" = weakref.WeakSet()
"""Listeners of ours in the place of one that only waits for its time: telemetry may still join them."""


class _Taken(NamedTuple):
    """A queue that got another listener for a while."""

    queue: "weakref.ref[Observed[Any]]"
    listener: Listener
    before: Listener | None
    followed: bool
    reporting: bool

    def give_back(self) -> None:
        """Let it have its own again, unless it has got yet another one."""
        queue = self.queue()
        if queue is None or queue._otel_tracker.listener is not self.listener:
            return
        deliver, ledger = queue._otel_deliver, queue._otel_ledger
        followed = self.followed or bool(ledger.open)  # ends of open jobs would be counted wrongly else
        queue._otel_listen(self.before)
        ledger.reporting = self.reporting
        if followed:
            queue._otel_deliver, ledger.following = deliver, True


def _take(ledger: Ledger, observer: Observer, beside: bool) -> _Taken | None:
    """Give a queue another listener, if it is one of ours and none of its listeners has failed."""
    queue = ledger.queue()
    if not isinstance(queue, Observed) or queue._otel_tracker.failed:
        return None
    before, followed = queue._otel_tracker.listener, ledger.following
    idle = before is not None and before.dormant
    if not beside and not idle and before not in _free:
        return None
    reporting = ledger.reporting
    if not beside:
        listener: Listener | None = Late(observer, ledger, Listener() if before is None or idle else before)
    else:
        listener = observer.watch(ledger)
        if listener is not None and idle:
            _free.add(listener)
        elif listener is not None and before is not None:
            listener = Both(before, listener)
    if listener is None:
        return None
    queue._otel_listen(listener)
    return _Taken(weakref.ref(queue), listener, before, followed, reporting)
