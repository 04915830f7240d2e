"""What watching an event loop costs: heartbeat, watchdog, the garbage collector's hook, and jobs being followed.

On a busy loop what a monitor takes is too little to show in the time of the work, so that the processor time of the
beats and of the watchdog's thread is added up. An idle loop is measured beside a bare timer with the same interval:
most of what it pays is the machine's price for being woken up, on a virtual one many times that of the work.
"""

import asyncio
import contextlib
import statistics
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from otel_sched._core.finding import Finding, Reporter
from otel_sched._core.job import Job
from otel_sched._core.ledger import Ledger
from otel_sched._core.observer import Listener, Observer
from otel_sched.diagnostics import LoopMonitor
from otel_sched.diagnostics.heartbeat import Heartbeat

from . import ours
from .rounds import Settings, interleave

JOBS = 500_000
WARM_UP = 0.1
"""Seconds that a monitor has for what it does but once."""
IDLE = 2.0
"""Seconds that an idle loop is measured."""
BUSY = 6.0
"""Seconds that a busy one is measured: the watchdog looks every two."""
FEW = 5
"""Rounds, at most."""


class Deaf(Reporter):
    """Is told of everything and does nothing."""

    def finding(self, finding: Finding, job: Job[object] | None) -> None:
        """Do nothing."""


async def alone(jobs: int, observer: Observer | None = None) -> float:
    """Return the processor time of one job, nobody watching."""
    began = time.process_time()
    await ours.loop(jobs, observer)
    return (time.process_time() - began) / jobs


async def watched(jobs: int) -> float:
    """Return the same with a monitor."""
    with LoopMonitor(reporter=Deaf()):
        await asyncio.sleep(WARM_UP)
        return await alone(jobs)


async def share(jobs: int, seconds: float) -> float:
    """Return the part of a core that heartbeat and watchdog take while the loop is busy: their processor time."""
    spent = 0.0
    beat = Heartbeat._beat

    def timed(heart: Heartbeat) -> None:
        nonlocal spent
        began = time.thread_time()
        beat(heart)
        spent += time.thread_time() - began

    Heartbeat._beat = timed  # type: ignore[method-assign, assignment]
    try:
        with LoopMonitor(reporter=Deaf()):
            await asyncio.sleep(WARM_UP)
            thread = next(each for each in threading.enumerate() if each.name == "otel_sched-watchdog")
            clock = time.pthread_getcpuclockid(thread.ident or 0)
            began, spent, before = time.monotonic(), 0.0, time.clock_gettime(clock)
            while time.monotonic() < began + seconds:
                await ours.loop(jobs)
            return (spent + time.clock_gettime(clock) - before) / (time.monotonic() - began)
    finally:
        Heartbeat._beat = beat  # type: ignore[method-assign]


class Timer(AbstractContextManager["Timer"]):
    """A timer in the running loop that does nothing."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._set()

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _set(self) -> None:
        self._handle = self._loop.call_later(self._interval, self._set)


async def idle(seconds: float, around: Any) -> float:
    """Return the part of a core that a loop takes in which nothing happens but what *around* makes of it."""
    with around():
        await asyncio.sleep(min(0.1, seconds))
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu) / (time.monotonic() - began)


class Following(Observer):
    """Has jobs followed, as detectors do with queues that would only count."""

    def watch(self, ledger: Ledger) -> Listener:
        """Listen to everything and do nothing."""
        return Listener()


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group."""
    jobs = settings.jobs(JOBS)
    rounds = interleave(
        {
            "alone": lambda: settings.run(alone(jobs)),
            "watched": lambda: settings.run(watched(jobs)),
            "followed": lambda: settings.run(alone(jobs, Following())),
        },
        settings.rounds,
    )
    busy = max(0.3, BUSY * settings.scale)
    shares = interleave({"share": lambda: settings.run(share(jobs // 10, busy))}, min(settings.rounds, FEW))
    return {
        "monitor_share": shares.median("share"),
        "monitored_loop": rounds.ratio("watched", "alone"),
        "followed_loop": rounds.ratio("followed", "alone"),
        **_idle(settings),
    }


def _idle(settings: Settings) -> dict[str, float]:
    seconds, interval = max(0.2, IDLE * settings.scale), _default_interval()
    rounds = interleave(
        {
            "alone": lambda: settings.run(idle(seconds, nullcontext)),
            "timer": lambda: settings.run(idle(seconds, lambda: Timer(interval))),
            "watched": lambda: settings.run(idle(seconds, lambda: LoopMonitor(reporter=Deaf()))),
        },
        min(settings.rounds, FEW),
    )
    alone = rounds.taken["alone"]
    return {
        f"idle_{name}_share": statistics.median(a - b for a, b in zip(rounds.taken[name], alone, strict=True))
        for name in ("timer", "watched")
    }


def _default_interval() -> float:
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        return LoopMonitor(loop=loop).interval
