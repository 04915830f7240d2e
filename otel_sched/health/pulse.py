"""Floor 5: a small heartbeat of our own, for an event loop that nobody else watches."""

import asyncio
import contextvars
import threading
import weakref

from .._core import liveness
from .._core.clock import monotonic

INTERVAL = 0.5
"""Seconds between two beats."""
HURRIED = 3
"""How many beats in a row may come far too early: in virtual time a pulse would run for ever, at full speed."""


_names: "set[str]" = set()
"""The names under which pulses beat, to be told from heartbeats of others."""


class Pulse:
    """Keeps `liveness` told of one event loop, as long as that runs and nobody else's heartbeat is there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        thread = threading.current_thread()
        self.name = "main" if thread is threading.main_thread() else thread.name
        self._round = 0
        self._beating = False
        self._at = 0.0
        self._hurried = 0

    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the event loop while it runs."""
        loop = self._loop()
        return loop if loop is not None and loop.is_running() else None

    def tend(self) -> None:
        """Begin to beat where it is needed, end where the loop has; from any thread."""
        loop = self.loop()
        if loop is None:
            self.stop()
        elif not self._beating and self._hurried < HURRIED and liveness.ages(0.0).keys() <= _names:
            while self.name in _names:
                self.name += "'"
            _names.add(self.name)
            self._beating = True
            liveness.beat(self.name, monotonic())  # one that hangs already has an age from now on
            try:
                loop.call_soon_threadsafe(self._beat, self._round, context=contextvars.Context())
            except RuntimeError:  # closed meanwhile
                self.stop()

    def stop(self) -> None:
        """Beat no more."""
        self._round += 1  # a timer that still comes finds that it is one of the past
        if self._beating:
            self._beating = False
            _names.discard(self.name)
            liveness.end(self.name)

    def _beat(self, round_: int) -> None:
        loop, now = self._loop(), monotonic()
        if round_ != self._round or loop is None:
            return
        self._hurried = self._hurried + 1 if now - self._at < INTERVAL / 2 else 0  # one may: uvloop's time is coarse
        self._at = now
        if self._hurried == HURRIED:
            self.stop()
            return
        liveness.beat(self.name, now)
        if round_ != self._round:  # stopped by another thread in between
            liveness.end(self.name)
            return
        loop.call_later(INTERVAL, self._beat, round_, context=contextvars.Context())
