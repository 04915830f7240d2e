"""Floor 5: the counts and gauges of all queues, pulled from their ledgers when an exporter asks.

Queues of one name are one series: counts, sizes and capacities add up, ages take the maximum. A queue that is gone
leaves its totals behind. One snapshot serves all instruments of a collection, so that the numbers belong together.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from .._core import names
from .._core.ledger import Ledger
from .._core.names import Instrument
from .._core.points import POINTS
from .._core.snapshot import Snapshot
from .providers import Providers

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
        for instrument in POINTS:
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
            result: Sums = {}
            for name, gone in self._gone.items():
                result.setdefault(name, Snapshot()).add(gone)  # a copy: more may be added to the totals
            for ledger in self._ledgers:
                result.setdefault(ledger.name, Snapshot()).add(ledger.snapshot())
        return result

    def _fold(self) -> None:
        """Add the totals of queues that are gone to those of their name, and forget the ledgers."""
        staying = []
        for ledger in self._ledgers:
            if ledger.closed and not ledger.open:
                self._gone.setdefault(ledger.name, Snapshot()).add(ledger.snapshot())
            else:
                staying.append(ledger)
        self._ledgers = staying

    def observe(self, instrument: Instrument) -> list[Observation]:
        """Return the points of one instrument, as of this collection."""
        points = POINTS[instrument]
        return [
            Observation(value, {names.QUEUE_NAME: name, **attributes})
            for name, snapshot in self._shared(instrument.name).items()
            for value, attributes in points(snapshot)
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


_CREATE: dict[str, Callable[[Any], Callable[..., Any]]] = {
    names.COUNTER: lambda meter: meter.create_observable_counter,
    names.UPDOWN: lambda meter: meter.create_observable_up_down_counter,
    names.GAUGE: lambda meter: meter.create_observable_gauge,
}
