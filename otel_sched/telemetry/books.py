"""Floor 5: the counts and gauges of all queues, pulled from their ledgers when an exporter asks.

Queues of one name are one series: counts, sizes and capacities add up, ages take the maximum. A queue that is gone
leaves its totals behind. One snapshot serves all instruments of a collection, so that the numbers belong together.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from .._core.ledger import Ledger
from .._core.snapshot import SeriesCounts, Snapshot
from . import names
from .names import Instrument
from .providers import Providers

Points = Iterator[tuple[float, dict[str, str]]]
Sums = dict[str, Snapshot]


class Books:
    """The ledgers of all queues of one observer."""

    def __init__(self, providers: Providers, before_collecting: Callable[[], None]) -> None:
        self.meter_provider = providers.meter_provider
        self._lock = threading.Lock()
        self._ledgers: list[Ledger] = []
        self._gone: dict[str, Snapshot] = {}
        self._fold_at = 64
        self._here = threading.local()
        self._before = before_collecting
        _all_books.add(self)
        meter = providers.meter()
        for instrument in _POINTS:
            _CREATE[instrument.kind](meter)(
                instrument.name,
                callbacks=[self._callback(instrument)],
                unit=instrument.unit,
                description=instrument.description,
            )

    def add(self, ledger: Ledger) -> None:
        """Take up the ledger of a new queue."""
        with self._lock:
            self._ledgers.append(ledger)
            if len(self._ledgers) >= self._fold_at:  # nobody may ever collect, and queues come and go
                self._fold()
                self._fold_at = 2 * len(self._ledgers) + 64

    def ledgers(self) -> list[Ledger]:
        """Return the ledgers of queues that are alive or not quite gone."""
        with self._lock:
            return list(self._ledgers)

    def collect(self) -> Sums:
        """Return the sums by queue name, as of now."""
        with self._lock:
            self._fold()
            result = {name: _sum(Snapshot(), gone) for name, gone in self._gone.items()}
            for ledger in self._ledgers:
                _sum(result.setdefault(ledger.name, Snapshot()), ledger.snapshot())
        return result

    def _fold(self) -> None:
        """Add the totals of queues that are gone to those of their name, and forget the ledgers."""
        staying = []
        for ledger in self._ledgers:
            if ledger.closed and not ledger.open:
                _sum(self._gone.setdefault(ledger.name, Snapshot()), ledger.snapshot())
            else:
                staying.append(ledger)
        self._ledgers = staying

    def observe(self, instrument: Instrument) -> list[Observation]:
        """Return the points of one instrument, as of this collection."""
        points = _POINTS[instrument]
        return [
            Observation(value, {names.QUEUE_NAME: name, **attributes})
            for name, snapshot in self._shared(instrument.name).items()
            for value, attributes in points(name, snapshot)
        ]

    def _callback(self, instrument: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return self.observe(instrument)

        return observe

    def _shared(self, instrument: str) -> Sums:
        """Return this collection's snapshot: a new one as soon as an instrument asks this thread a second time."""
        served: set[str] | None = getattr(self._here, "served", None)
        if served is None or instrument in served:
            self._before()
            self._here.books = self.collect()
            served = self._here.served = set()
        served.add(instrument)
        books: Sums = self._here.books
        return books


_all_books: "weakref.WeakSet[Books]" = weakref.WeakSet()


def held(meter_provider: Any) -> list[Observation]:
    """Return what the books of that provider, or of the global one, say of telemetry that was held back.

    For whoever has made the instrument before them: the SDK takes the callbacks of the first.
    """
    books = [each for each in list(_all_books) if each.meter_provider in (None, meter_provider)]
    return [point for each in books for point in each.observe(names.TELEMETRY_DROPPED)]


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent held."""
    for books in list(_all_books):
        books._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _sum(into: Snapshot, more: Snapshot) -> Snapshot:
    into.put += more.put
    into.taken += more.taken
    into.errors += more.errors
    into.held += more.held
    into.puts_waiting += more.puts_waiting
    into.gets_waiting += more.gets_waiting
    into.oldest_age = max(into.oldest_age, more.oldest_age)
    if more.capacity is not None:
        into.capacity = (into.capacity or 0) + more.capacity
    _add(into.dropped, more.dropped)
    _add(into.limits, more.limits)
    for name, counts in more.series.items():
        sums = into.series.setdefault(name, SeriesCounts())
        sums.taken += counts.taken
        sums.oldest_active_age = max(sums.oldest_active_age, counts.oldest_active_age)
        _add(sums.outcomes, counts.outcomes)
        _add(sums.cancels, counts.cancels)
    return into


def _add(into: dict[Any, int], more: dict[Any, int]) -> None:
    for key, count in more.items():
        into[key] = into.get(key, 0) + count


def _one(value: Callable[[Snapshot], float | None]) -> Callable[[str, Snapshot], Points]:
    def points(_: str, snapshot: Snapshot) -> Points:
        number = value(snapshot)
        if number is not None:
            yield number, {}

    return points


def _job(name: str) -> dict[str, str]:
    return {names.JOB_NAME: name} if name else {}


def _each_job(value: Callable[[SeriesCounts], float]) -> Callable[[str, Snapshot], Points]:
    def points(_: str, snapshot: Snapshot) -> Points:
        for job, counts in snapshot.series.items():
            if counts.taken:
                yield value(counts), _job(job)

    return points


def _finished(_: str, snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for outcome, count in counts.outcomes.items():
            yield count, {**_job(job), names.JOB_OUTCOME: outcome}


def _cancelled(_: str, snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for (state, reason), count in counts.cancels.items():
            yield count, {**_job(job), names.CANCEL_STATE: state, names.CANCEL_REASON: reason}


def _dropped(_: str, snapshot: Snapshot) -> Points:
    for reason, count in snapshot.dropped.items():
        yield count, {names.DROP_REASON: reason}


def _limits(_: str, snapshot: Snapshot) -> Points:
    for job, limit in snapshot.limits.items():
        yield limit, _job(job)


def _busy(_: str, snapshot: Snapshot) -> Points:
    for job in snapshot.limits:
        counts = snapshot.series.get(job)
        yield 0 if counts is None else counts.active, _job(job)


def _held(_: str, snapshot: Snapshot) -> Points:
    if snapshot.held:
        yield snapshot.held, {names.TELEMETRY_SIGNAL: "logs", names.TELEMETRY_REASON: names.REPEATED}


def _errors(_: str, snapshot: Snapshot) -> Points:
    if snapshot.errors:
        yield snapshot.errors, {names.TELEMETRY_REASON: names.OBSERVER_FAILED}


_POINTS: dict[Instrument, Callable[[str, Snapshot], Points]] = {
    names.JOBS_PUT: _one(lambda snapshot: snapshot.put),
    names.JOBS_TAKEN: _one(lambda snapshot: snapshot.taken),
    names.JOBS_FINISHED: _finished,
    names.JOBS_ACTIVE: _each_job(lambda counts: counts.active),
    names.JOBS_CANCELLED: _cancelled,
    names.JOBS_DROPPED: _dropped,
    names.QUEUE_SIZE: _one(lambda snapshot: snapshot.size),
    names.QUEUE_CAPACITY: _one(lambda snapshot: snapshot.capacity),
    names.OLDEST_AGE: _one(lambda snapshot: snapshot.oldest_age),
    names.OLDEST_ACTIVE_AGE: _each_job(lambda counts: counts.oldest_active_age),
    names.PUTS_WAITING: _one(lambda snapshot: snapshot.puts_waiting),
    names.GETS_WAITING: _one(lambda snapshot: snapshot.gets_waiting),
    names.WORKERS_LIMIT: _limits,
    names.WORKERS_BUSY: _busy,
    names.TELEMETRY_DROPPED: _held,
    names.TELEMETRY_ERRORS: _errors,
}

_CREATE: dict[str, Callable[[Any], Callable[..., Any]]] = {
    names.COUNTER: lambda meter: meter.create_observable_counter,
    names.UPDOWN: lambda meter: meter.create_observable_up_down_counter,
    names.GAUGE: lambda meter: meter.create_observable_gauge,
}
