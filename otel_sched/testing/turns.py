"""Floor 6: when each turn of an event loop begins and ends, in real time, whatever time the loop itself keeps."""

import asyncio
import time
from typing import Any, Protocol

TICK = 0.001
"""Seconds. Timers of loops without a selector, such as uvloop's, are no finer."""


class Watch(Protocol):
    """Who wants to know."""

    def begin(self, now: float) -> None:
        """A turn begins: the loop has stopped waiting."""

    def end(self, now: float) -> None:
        """The turn is over: the loop waits."""


class Turns:
    """Stands before `select` of a loop's selector, where the loop waits between two turns."""

    def __init__(self, selector: Any) -> None:
        self.watches: tuple[Watch, ...] = ()
        self._selector = selector
        self._select = selector.select

    def select(self, timeout: float | None = None) -> Any:
        """Do what the selector does."""
        now = time.monotonic()
        for watch in self.watches:
            watch.end(now)
        try:
            return self._select(timeout)
        finally:
            now = time.monotonic()
            for watch in self.watches:
                watch.begin(now)

    def add(self, watch: Watch) -> None:
        """Tell *watch* from now on."""
        self.watches += (watch,)
        self._selector.select = self.select

    def remove(self, watch: Watch) -> None:
        """Tell it no more; the last one leaves nothing behind."""
        self.watches = tuple(each for each in self.watches if each is not watch)
        if not self.watches:
            del self._selector.select


class Beats:
    """The same for a loop without a selector, by a timer: overdue it tells that a turn goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watch: Watch, interval: float) -> None:
        self._loop = loop
        self._watch = watch
        self._interval = interval
        self._over = False
        self._next()

    def _next(self) -> None:
        self._watch.begin(time.monotonic() + self._interval + TICK)
        self._timer = self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        if not self._over:
            self._watch.end(time.monotonic())
            self._next()

    def remove(self, watch: Watch) -> None:
        """Beat no more."""
        self._over = True
        self._timer.cancel()


def attend(loop: asyncio.AbstractEventLoop, watch: Watch, interval: float) -> Turns | Beats:
    """Have *watch* told of the turns of *loop* until it is removed; call it in the loop's thread."""
    selector = getattr(loop, "_selector", None)
    if selector is None:
        return Beats(loop, watch, interval)
    known = getattr(selector.select, "__self__", None)
    turns = known if isinstance(known, Turns) else Turns(selector)
    watch.begin(time.monotonic())
    turns.add(watch)
    return turns
