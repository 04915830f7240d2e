"""Floor 5: all queues of the process at one look, by name. Queues of one name are one, as in every metric.

Read when somebody asks, from whatever thread; between two questions nothing is done. No queue is kept alive: of one
that is gone its totals stay, or a counter would run backwards.
"""

import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from .._core.census import ledgers
from .._core.clock import Clock
from .._core.ledger import Ledger
from .._core.snapshot import SeriesCounts, Snapshot
from .pace import Odometer, Pace, Reading


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one instant."""

    live: dict[str, Snapshot] = field(default_factory=dict)
    """The counts of the queues that are alive."""
    totals: dict[str, Snapshot] = field(default_factory=dict)
    """The same, and those of queues that are gone."""
    paces: dict[str, Pace] = field(default_factory=dict)
    shut_down: set[str] = field(default_factory=set)
    """The names of which a queue takes no more jobs."""


class Queues:
    """Whoever looks at the queues again and again: remembers what is gone, and what was counted when."""

    def __init__(self, window: float, now: Clock) -> None:
        self._window = window
        self._now = now
        self._lock = threading.Lock()
        self._odometers: dict[Ledger, Odometer] = {}
        self._gone: dict[str, Snapshot] = {}
        _all.add(self)
        self.look()

    def look(self) -> Look:
        """Return all counts as of now."""
        with self._lock:
            for ledger in ledgers():
                if ledger not in self._odometers:
                    self._odometers[ledger] = Odometer(self._window)
            look = Look()
            for ledger in list(self._odometers):
                self._read(ledger, look)
            for name, snapshot in (*self._gone.items(), *look.live.items()):
                _add_up(look.totals.setdefault(name, Snapshot()), snapshot)
        return look

    def _read(self, ledger: Ledger, look: Look) -> None:
        snapshot, name = ledger.snapshot(), ledger.name
        if ledger.closed:  # its queue is gone; jobs of it may still run
            if ledger.open or snapshot.size > 0:  # its books are being closed, in another thread
                _add_up(look.totals.setdefault(name, Snapshot()), snapshot)
            else:
                _add_up(self._gone.setdefault(name, Snapshot()), snapshot)
                del self._odometers[ledger]
            return
        pace = self._odometers[ledger].read(Reading(self._now(), snapshot.taken, snapshot.finished))
        look.paces[name] = look.paces.get(name, Pace()).with_also(pace)
        _add_up(look.live.setdefault(name, Snapshot()), snapshot)
        if getattr(ledger.queue(), "_is_shutdown", False):
            look.shut_down.add(name)


def _add_up(into: Snapshot, more: Snapshot) -> None:
    """Add counts and sizes, take the maximum of ages."""
    for count in ("put", "taken", "errors", "held", "puts_waiting", "gets_waiting"):
        setattr(into, count, getattr(into, count) + getattr(more, count))
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


def _add(into: dict[Any, int], more: dict[Any, int]) -> None:
    for key, count in more.items():
        into[key] = into.get(key, 0) + count


_all: "weakref.WeakSet[Queues]" = weakref.WeakSet()


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent held."""
    for each in list(_all):
        each._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
