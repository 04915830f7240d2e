"""Floor 5: one thread for the whole process, which looks after event loops and whatever else cannot look after itself.

It sleeps until the earliest instant that any of those whom it watches has asked for, or until the alarm of one goes
off, and holds them weakly.
"""

import logging
import math
import os
import threading
import weakref
from typing import Protocol

from .._core.clock import monotonic
from .._core.complaint import complain
from .alarm import Alarm, Sleep, forget

LONGEST_SLEEP = 60.0
SHORTEST_SLEEP = 0.002
"""Seconds. Whoever asks for less would keep the thread, and the interpreter's lock, busy."""

MOST_FAILURES = 10
"""In a row, of a look at the same one, after which it is given up."""
AFTER_FAILURE = 1.0
"""Seconds until the next look."""


class Watched(Protocol):
    """Whom the watchdog looks after."""

    def look(self, now: float) -> float | None:
        """Look, in the watchdog's thread, and return the instant of the next look; None for no more.

        *now* and what is returned are instants of the monotonic clock. It may come earlier than was asked for.
        """


class Watchdog:
    """The thread, started with the first of those it watches and ended with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[weakref.ref[Watched], float] = {}
        self._failures: dict[weakref.ref[Watched], int] = {}
        """How often in a row it failed to look at somebody."""
        self._thread: threading.Thread | None = None
        self.sleep = Sleep()

    def adopt(self, watched: Watched, alarm: Alarm | None = None) -> None:
        """Look after *watched*, at once, then whenever it asks to and its alarm goes off.

        Somebody else has to hold it. Raises RuntimeError where no thread is to be had.
        """
        if alarm is not None:
            self.sleep.add(alarm)
        with self._lock:
            self._next[weakref.ref(watched)] = 0.0
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="otel_sched-watchdog", daemon=True)
                thread.start()
                self._thread = thread  # not before: where no thread is to be had, the next one tries again
                return
        self.sleep.ring()

    def wake(self) -> None:
        """Have it look at everybody now."""
        self.sleep.ring()

    def _run(self) -> None:
        everybody = False
        while True:
            upcoming = self._look(monotonic(), everybody)
            with self._lock:
                if not self._next:
                    self._thread = None
                    return
            pause = min(max(upcoming - monotonic(), SHORTEST_SLEEP), LONGEST_SLEEP)
            everybody = self.sleep.sleep(pause)

    def _look(self, now: float, everybody: bool) -> float:
        """Look at those whose instant has come, or at everybody, and return the earliest instant of all."""
        upcoming = math.inf
        for ref, at in tuple(self._next.items()):
            watched = ref()
            wanted: float | None = at
            if watched is not None and (everybody or now >= at):
                wanted = self._look_at(watched, now)
            if watched is None or wanted is None:
                with self._lock:
                    self._next.pop(ref, None)
                    self._failures.pop(ref, None)
            else:
                self._next[ref] = wanted
                upcoming = min(upcoming, wanted)
            del watched  # not while it sleeps
        return upcoming

    def _look_at(self, watched: Watched, now: float) -> float | None:
        ref = weakref.ref(watched)
        try:
            wanted = watched.look(now)
        except BaseException as error:  # of a reporter too: nothing of it may end this thread
            failures = self._failures[ref] = self._failures.get(ref, 0) + 1
            if failures == MOST_FAILURES:
                del self._failures[ref]
                complain(logging.ERROR, "%r failed again and again and is not watched any more", watched, error=error)
                return None
            if failures == 1:
                complain(logging.ERROR, "%r failed; it is looked at again", watched, error=error)
            return now + AFTER_FAILURE
        self._failures.pop(ref, None)
        return wanted


_watchdog: Watchdog | None = None
_making = threading.Lock()


def watchdog() -> Watchdog:
    """Return the watchdog of this process, made when first asked for."""
    global _watchdog
    with _making:
        if _watchdog is None:
            _watchdog = Watchdog()
        return _watchdog


def _renew() -> None:
    """Give a forked child one of its own: it has neither the thread nor the event loops of its parent."""
    global _watchdog, _making
    _making = threading.Lock()
    if _watchdog is not None:
        _watchdog.sleep.close()
        _watchdog = None
    forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
