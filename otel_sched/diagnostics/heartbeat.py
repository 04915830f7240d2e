"""Floor 5: the heartbeat of one event loop: a timer that notes how late it comes, and what its thread did meanwhile.

All that happens in the loop happens here, so it is kept short: the watchdog's thread does the telling.
"""

import asyncio
import contextvars
import logging
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from .._core.clock import monotonic
from .._core.complaint import complain
from .._core.liveness import Beats
from .alarm import new_alarm

NOTICEABLE = 0.01
"""Seconds. A beat that is less late tells of the machine's timers, not of work that kept it waiting."""
UNREAL = 0.5
"""A beat after less than this part of its interval comes too early."""
MANY_EARLY = 10
"""So many in a row come from a loop whose clock is not the real one. One alone tells of a clock that was set."""
KEPT = 1000


class Late(NamedTuple):
    """A beat that came late by the threshold or more. Seconds."""

    number: int
    at: float
    """When it came."""
    delay: float
    working: float
    """Processor time of the loop's thread since the beat before."""
    others_working: float
    """Likewise, of all other threads."""


class Heartbeat:
    """Beats in one event loop; read from any thread, written in the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str | None, interval: float, threshold: float) -> None:
        self.beats = Beats(loop, interval, name)
        self.name = self.beats.name
        self.interval = interval
        self.threshold = threshold
        self.loop = weakref.ref(loop)
        self.count = 0
        self.due = 0.0
        """When the next beat should come; 0.0 before the first."""
        self.delays: deque[float] = deque(maxlen=KEPT)
        """How late the beats came that nobody has told of yet."""
        self.late: deque[Late] = deque(maxlen=KEPT)
        self.longest = 0.0
        self.turned_at = 0.0
        """When the last beat came."""
        self.active = self.idle = 0.0
        self.makes_way: Callable[[], None] | None = None
        """Stops this watch where the program wants another, of one that nobody in the program asked for."""
        self.keeps: object = None
        """Who lives as long as the loop does: its timer holds this."""
        self.paused = False
        """Whether the loop has stopped turning because nobody runs it: set by who sees that, cleared by the beat."""
        self.thread = 0
        self.outer = 0
        """How many frames of the thread's stack lie below those of a callback: the loop's own."""
        self.worked = 0.0
        """Processor time of the loop's thread at the last beat."""
        self.all_worked = 0.0
        """Likewise, of all threads."""
        self.alarm = new_alarm()
        """Goes off when a beat is overdue by half the threshold: so that there are two looks before that is over."""
        self._early = 0
        self._cpu_clock: int | None = None
        self._context = contextvars.Context()  # a copy of the starter's would keep its job and spans alive

    def start(self) -> None:
        """Begin to beat; from any thread."""
        loop = self.loop()
        if loop is None:
            return
        if _running() is loop:  # what this very step does after it may be what blocks
            self._start(_depth_of_task(loop))
        else:
            loop.call_soon_threadsafe(self._begin, context=self._context)

    @property
    def over(self) -> bool:
        """Whether there will be no more beats."""
        loop = self.loop()
        return self.beats.over or loop is None or loop.is_closed()

    def stop(self) -> None:
        """Let the next beat be none; from any thread."""
        self.beats.end()

    def processor(self) -> float | None:
        """Return the seconds of processor time that the loop's thread has taken so far, if one can say."""
        if self._cpu_clock is None:
            return None
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:  # the thread is gone
            return None

    def _begin(self) -> None:
        """Count from here: this is the first beat, or the first after the loop stood still."""
        if not self.over:
            self._start(_depth(sys._getframe()))

    def _start(self, outer: int) -> None:
        self.outer = outer
        self.thread = threading.get_ident()
        if hasattr(time, "pthread_getcpuclockid"):  # not on macOS
            self._cpu_clock = time.pthread_getcpuclockid(self.thread)
        now = monotonic()
        self.turned_at, self.worked, self.all_worked = now, time.thread_time(), time.process_time()
        self.due = now + self.interval
        self.paused = False
        self._next(now)

    def _beat(self) -> None:
        now, loop = monotonic(), self.loop()
        if self.beats.over or loop is None:
            return
        if self.paused or threading.get_ident() != self.thread:
            loop.call_soon(self._begin, context=self._context)
            return
        own, all_threads = time.thread_time(), time.process_time()
        delay, passed = now - self.due, now - self.turned_at
        self._early = self._early + 1 if passed < UNREAL * self.interval else 0
        if self._early >= MANY_EARLY:
            self._give_up()
            return
        self.outer = _depth(sys._getframe())  # whoever runs the loop now may do so from elsewhere
        working = own - self.worked
        self.due = now + self.interval  # before the count, or the watchdog would take this for one that is overdue
        if delay >= self.threshold:  # likewise: it takes one that was counted, and is not here, for one in time
            self.late.append(Late(self.count + 1, now, delay, working, all_threads - self.all_worked - working))
        self.count += 1
        self.delays.append(max(0.0, delay))
        self.longest = max(self.longest, delay)
        active = min(passed, max(working, delay if delay >= NOTICEABLE else 0.0))
        self.active += active
        self.idle += passed - active
        self.turned_at, self.worked, self.all_worked = now, own, all_threads
        self._next(now)

    def _give_up(self) -> None:
        """Leave a loop whose time is not the real one: there a heartbeat would run for ever, at full speed."""
        self.stop()
        complain(logging.INFO, "event loop %r is not watched: its clock is not the real one", self.name)

    def _next(self, now: float) -> None:
        loop = self.loop()
        if loop is None:
            return
        self.beats.turned(now)
        if self.beats.over:  # stopped by another thread in between
            return
        if self.alarm is not None:
            self.alarm.put_off(self.interval + self.threshold / 2)
        loop.call_later(self.interval, self._beat, context=self._context)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _depth_of_task(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many frames lie below those of the running task; none outside of any, until the first beat."""
    task = asyncio.current_task(loop)
    bottom = getattr(None if task is None else task.get_coro(), "cr_frame", None)
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not bottom:
        frame = frame.f_back
    return 0 if frame is None else _depth(frame)


def _depth(frame: FrameType | None) -> int:
    """Return how many frames lie below this one."""
    number = -1
    while frame is not None:
        number += 1
        frame = frame.f_back
    return number
