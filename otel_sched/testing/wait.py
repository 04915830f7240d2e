"""Floor 6: wait for what a thread, a process or a server does, in place of a sleep too short or too long."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.05
"""Seconds between two looks: quick ones first, then so few that a slow condition burns no core."""


async def wait_until(predicate: Callable[[], T], *, timeout: float = 10.0, description: str = "the condition") -> T:
    """Look again and again until `predicate()` is true, letting the loop run in between; return its result.

    `timeout` is in seconds of the running loop, which on a VirtualLoop are virtual. There is a first look at
    once and a last one when the time is up. What the predicate raises goes to the caller.

    Raises:
        AssertionError: when the time is up, with the description and what the predicate returned last.
    """
    watch = _Watch(predicate, asyncio.get_running_loop().time, timeout, description)
    while not watch.look():
        await asyncio.sleep(watch.pause())
    return watch.value


def wait_until_sync(predicate: Callable[[], T], *, timeout: float = 10.0, description: str = "the condition") -> T:
    """Do as `wait_until` does, blocking the thread, for code without a loop.

    Raises:
        AssertionError: when the time is up, with the description and what the predicate returned last.
    """
    watch = _Watch(predicate, time.monotonic, timeout, description)
    while not watch.look():
        time.sleep(watch.pause())
    return watch.value


class _Watch(Generic[T]):
    """One wait: when to look, what was seen, when to give up."""

    def __init__(
        self, predicate: Callable[[], T], clock: Callable[[], float], timeout: float, description: str
    ) -> None:
        # Written so that NaN, which no clock ever reaches, is refused too.
        if not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout!r}")
        self.value: T
        self._predicate = predicate
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock() + timeout
        self._description = description
        self._next_pause = FIRST_PAUSE

    def look(self) -> bool:
        """Say whether the predicate is true now; raise when it is not and the time is up."""
        # The time first: a condition that comes true just before the deadline must be seen.
        late = self._clock() >= self._deadline
        self.value = self._predicate()
        if inspect.isawaitable(self.value):
            if inspect.iscoroutine(self.value):
                self.value.close()
            raise TypeError("the predicate must be a plain function: an awaitable is always true")
        if not self.value and late:
            raise AssertionError(self._complaint())
        return bool(self.value)

    def pause(self) -> float:
        """Return the seconds to wait before the next look, never beyond the deadline."""
        pause, self._next_pause = self._next_pause, min(self._next_pause * 2, LONGEST_PAUSE)
        return max(0.0, min(pause, self._deadline - self._clock()))

    def _complaint(self) -> str:
        shown = repr(self.value)
        if len(shown) > 300:
            shown = f"{shown[:300]}..."
        return f"waited {self._timeout:g} s in vain for {self._description}; the predicate last returned {shown}"
