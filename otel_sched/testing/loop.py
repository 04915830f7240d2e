"""Floor 6: an event loop in virtual time, where an hour of timers takes milliseconds and nothing hangs."""

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from .._core.errors import OtelSchedError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NAMED_TASKS = 10
"""How many waiting asyncio tasks a Deadlock names before it only counts them."""

CLOCK_RESOLUTION = time.get_clock_info("monotonic").resolution
"""Seconds, as asyncio has it."""


class Deadlock(OtelSchedError, RuntimeError):
    """Raised by a VirtualLoop when no callback is ready, no timer is set and no thread is at work.

    A real loop would now wait for ever. The message names the asyncio tasks that wait, for what, and in which line.
    """


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock starts at 0.0 and leaps to the next timer when nothing else is ready.

    Whatever asks the loop for the time is in virtual seconds: `asyncio.sleep`, `asyncio.timeout`, `wait_for`,
    `call_later`. Waits and runs of queues that are made while it runs are virtual too; one that is made before needs
    the loop's `time` as its `clock=`.

    While a call of `run_in_executor` or `asyncio.to_thread` is under way, time passes as it really does.
    Sockets are polled, never waited for: what talks to a real server, or to threads of its own, belongs on a
    real loop.

    Raises:
        Deadlock: out of `run_until_complete` or `run_forever`, when nothing can ever happen again. A sleep of
            `math.inf` counts as waiting for ever.
    """

    def __init__(self) -> None:
        self._leap = _Leap(self._describe_deadlock)
        super().__init__(self._leap)

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._leap.now

    @property
    def otel_sched_clock(self) -> Callable[[], float]:
        """The clock of queues that are made in this loop and given no other."""
        return self.time

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at the virtual time `when`; what is due at infinity is never scheduled."""
        if when == math.inf:
            # Scheduled, it would wake the loop once a virtual day, for ever, and hide the deadlock.
            return asyncio.TimerHandle(when, callback, args, self, context)
        if when == self._leap.now and _too_coarse(when):
            when = math.nextafter(when, -math.inf)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` in a thread; until it is back, time passes as it really does."""
        future = super().run_in_executor(executor, func, *args)
        self._leap.threads += 1
        future.add_done_callback(self._thread_is_back)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Join the default executor's threads in real time: the virtual time limit would be over at once."""
        self._leap.threads += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._leap.threads -= 1

    def _thread_is_back(self, _: asyncio.Future[Any]) -> None:
        self._leap.threads -= 1

    def _describe_deadlock(self) -> str:
        from .standstill import stands  # only here: most tests need none of what it loads

        waiting = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [
            f"deadlock at virtual time {self.time():g} s: no callback is ready and no timer is set, so "
            f"nothing can happen any more; asyncio tasks that wait: {len(waiting)}",
            *(f"  {stands(task)}" for task in waiting[:NAMED_TASKS]),
        ]
        if len(waiting) > NAMED_TASKS:
            lines.append(f"  and {len(waiting) - NAMED_TASKS} more")
        return "\n".join(lines)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new VirtualLoop, close the loop, return the result: `asyncio.run` in virtual time.

    What is still running when `main` ends is cancelled, as `asyncio.run` does.

    Raises:
        Deadlock: when nothing can ever happen again; then, too, everything is cancelled and closed.
    """
    with asyncio.Runner(debug=debug, loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class _Leap(selectors.DefaultSelector):
    """A selector that moves the clock forward where any other would sleep."""

    def __init__(self, describe_deadlock: Callable[[], str]) -> None:
        super().__init__()
        self.now = 0.0
        # Calls handed to threads that are not back yet.
        self.threads = 0
        self._describe_deadlock = describe_deadlock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads:
            return self._select_in_real_time(timeout)
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise Deadlock(self._describe_deadlock())
        # asyncio has computed the timeout as due - now: the sum is the due time.
        self.now += timeout
        if _too_coarse(self.now):
            self.now = math.nextafter(self.now, math.inf)
        return events

    def _select_in_real_time(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        # A thread's work cannot be hurried, and leaping on would time it out before it began.
        began = time.monotonic()
        events = super().select(timeout)
        self.now += time.monotonic() - began
        return events


def _too_coarse(now: float) -> bool:
    """Say whether the clock's resolution is lost in a float so large, from half a year on.

    asyncio runs the timers due before now + resolution. Where that sum is just now, one due now would never
    run and the loop would spin: such timers are moved by the smallest step that a float can make.
    """
    return now + CLOCK_RESOLUTION == now
