"""What watching an event loop costs: heartbeat, watchdog, the garbage collector's hook, and jobs being followed.

On a busy loop the cost of the monitor is too small to be measured as it is. So the heart beats many times as often, the
watchdog looks as many times as often, and what they take is divided by the number of beats. An idle loop is measured
beside a bare timer with the same interval: most of what it pays is the machine's price for being woken up, on a virtual
one many times that of the work.
"""

import asyncio
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from otel_sched._core.finding import Finding, Reporter
from otel_sched._core.job import Job
from otel_sched._core.ledger import Ledger
from otel_sched._core.observer import Listener, Observer
from otel_sched.diagnostics import LoopMonitor, lookout

from . import ours
from .rounds import Settings, interleave

JOBS = 100_000
TIMES = 50
ROUNDS = 5
"""So many times as many as usual: they are short, and what is looked for is little."""
IDLE = 2.0
"""Seconds that an idle loop is measured."""
IDLE_ROUNDS = 5
"""At most."""


class Deaf(Reporter):
    """Is told of everything and does nothing."""

    def finding(self, finding: Finding, job: Job[object] | None) -> None:
        """Do nothing."""


async def alone(jobs: int, observer: Observer | None = None) -> float:
    """Return the processor time of one job, nobody watching."""
    began = time.process_time()
    await ours.loop(jobs, observer)
    return (time.process_time() - began) / jobs


class Watch:
    """The same with a monitor; it counts the beats."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.beats: list[int] = []
        self.interval = 0.0
        """Of a monitor as it is by default."""

    async def run(self, jobs: int) -> float:
        """Return the processor time of one job."""
        monitor = LoopMonitor(reporter=Deaf())
        self.interval = monitor.interval
        monitor.interval /= self.times
        usual, lookout.STATE_EVERY = lookout.STATE_EVERY, lookout.STATE_EVERY / self.times
        try:
            with monitor:
                took = await alone(jobs)
                self.beats.append(monitor.stats().beats)
                return took
        finally:
            lookout.STATE_EVERY = usual


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
    watch, often = Watch(), Watch(TIMES)
    rounds = interleave(
        {
            "alone": lambda: settings.run(alone(jobs)),
            "watched": lambda: settings.run(watch.run(jobs)),
            "often": lambda: settings.run(often.run(jobs)),
            "followed": lambda: settings.run(alone(jobs, Following())),
        },
        ROUNDS * settings.rounds,
    )
    beats = often.beats[1:]  # the first round does not count
    each = [
        (took - base) * jobs / count
        for took, base, count in zip(rounds.taken["often"], rounds.taken["alone"], beats, strict=True)
        if count
    ]
    return {
        "monitor_share": statistics.median(each) / watch.interval,
        "monitored_loop": rounds.ratio("watched", "alone"),
        "followed_loop": rounds.ratio("followed", "alone"),
        **_idle(settings, watch.interval),
    }


def _idle(settings: Settings, interval: float) -> dict[str, float]:
    seconds = max(0.2, IDLE * settings.scale)
    rounds = interleave(
        {
            "alone": lambda: settings.run(idle(seconds, nullcontext)),
            "timer": lambda: settings.run(idle(seconds, lambda: Timer(interval))),
            "watched": lambda: settings.run(idle(seconds, lambda: LoopMonitor(reporter=Deaf()))),
        },
        min(settings.rounds, IDLE_ROUNDS),
    )
    alone = rounds.taken["alone"]
    return {
        f"idle_{name}_share": statistics.median(a - b for a, b in zip(rounds.taken[name], alone, strict=True))
        for name in ("timer", "watched")
    }
