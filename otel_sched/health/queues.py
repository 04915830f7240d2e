"""Floor 5: all queues of the process at one look, by name. Queues of one name are one, as in every metric.

Read when somebody asks, from whatever thread; between two questions nothing is done. No queue is kept alive: of one
that is gone its totals stay, or a counter would run backwards.
"""

import os
import threading
import weakref
from dataclasses import dataclass, field

from .._core.census import ledgers
from .._core.clock import Clock
from .._core.consumer import sweep
from .._core.ledger import Ledger
from .._core.snapshot import Snapshot
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
            sweep(self._odometers)  # what runs in an event loop that was closed has ended
            look = Look()
            for ledger in list(self._odometers):
                self._read(ledger, look)
            for name, snapshot in (*self._gone.items(), *look.live.items()):
                look.totals.setdefault(name, Snapshot()).add(snapshot)
        return look

    def _read(self, ledger: Ledger, look: Look) -> None:
        closed, name = ledger.closed, ledger.name
        snapshot = ledger.snapshot()
        if closed:  # its queue is gone; jobs of it may still run
            if ledger.open:
                look.totals.setdefault(name, Snapshot()).add(snapshot)
            else:
                self._gone.setdefault(name, Snapshot()).add(snapshot)
                del self._odometers[ledger]
            return
        pace = self._odometers[ledger].read(Reading(self._now(), snapshot.taken, snapshot.finished))
        look.paces[name] = look.paces.get(name, Pace()).with_also(pace)
        look.live.setdefault(name, Snapshot()).add(snapshot)
        if getattr(ledger.queue(), "_is_shutdown", False):
            look.shut_down.add(name)


_all: "weakref.WeakSet[Queues]" = weakref.WeakSet()


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent held."""
    for each in list(_all):
        each._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
