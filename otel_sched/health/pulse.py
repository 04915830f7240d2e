"""Floor 5: a small heartbeat of our own, in each event loop that somebody wants to be watched.

It beats whether diagnostics have a heartbeat there or not: two timers a second are cheaper than to find out, and
theirs may be stopped at any time.
"""

import asyncio
import contextvars
import logging

from .._core.clock import monotonic
from .._core.complaint import complain
from .._core.liveness import Beats

LONGEST, SHORTEST = 0.5, 0.01
"""Seconds between two beats."""
HURRIED = 3
"""How many beats in a row may come far too early: in virtual time a pulse would run for ever, at full speed."""

Loop = asyncio.AbstractEventLoop


class Pulse:
    """Keeps `liveness` told of the running event loop, as long as that runs."""

    def __init__(self, owner: object, interval: float) -> None:
        self.owner = owner
        self._beats = Beats(asyncio.get_running_loop(), interval)
        self._context = contextvars.Context()  # a copy of the starter's would keep its job and spans alive
        self._hurried = 0
        self._beat()

    def loop(self) -> Loop | None:
        """Return the event loop while it runs and is watched."""
        loop = self._beats.loop()
        return loop if loop is not None and loop.is_running() and not self._beats.over else None

    @property
    def over(self) -> bool:
        """Whether it beats no more."""
        loop = self._beats.loop()
        return self._beats.over or loop is None or loop.is_closed()

    def stop(self) -> None:
        """Beat no more; from any thread."""
        self._beats.end()

    def _beat(self) -> None:
        beats, loop, now = self._beats, self._beats.loop(), monotonic()
        if beats.over or loop is None:
            return
        early = now - beats.at < beats.interval / 2
        self._hurried = self._hurried + 1 if early else 0  # one may: uvloop's time is coarse
        if self._hurried == HURRIED:
            self.stop()
            complain(logging.INFO, "event loop %r is not watched: its clock is not the real one", beats.name)
            return
        beats.turned(now)
        loop.call_later(beats.interval, self._beat, context=self._context)


class Pulses:
    """The pulses of one application, each begun by somebody: whoever ends his own leaves those of others."""

    def __init__(self, hang_limit: float) -> None:
        self._interval = min(LONGEST, max(SHORTEST, hang_limit / 3))
        self._all: list[Pulse] = []

    def begin(self, owner: object) -> None:
        """Watch the running event loop for *owner*, who may have several; RuntimeError if none runs."""
        loop = asyncio.get_running_loop()
        for each in self._all:
            if each.over:
                each.stop()
        alive = [each for each in self._all if not each.over]
        if not any(each.owner is owner and each.loop() is loop for each in alive):
            alive.append(Pulse(owner, self._interval))
        self._all = alive

    def end(self, owner: object) -> None:
        """Watch no loop for *owner* any more."""
        for each in self._all:
            if each.owner is owner:
                each.stop()
        self._all = [each for each in self._all if each.owner is not owner]

    def home(self) -> Loop | None:
        """Return the event loop of the application: of those that run, the one it was told of last."""
        return next((loop for each in reversed(self._all) if (loop := each.loop()) is not None), None)
