"""What watching an event loop costs: its heartbeat, the watchdog's thread and the garbage collector's hook.

A loop that is busy is measured, not an idle one: what an idle process pays to be woken up is the machine's price, on a
virtual one many times that of the work. The cost is too small to be measured as it is, so the heart beats many times as
often, the watchdog looks as many times as often, and what they take is divided by the number of beats.
"""

import statistics
import time

from otel_sched._core.finding import Finding, Reporter
from otel_sched._core.job import Job
from otel_sched.diagnostics import LoopMonitor, lookout

from . import ours
from .rounds import Settings, interleave

JOBS = 100_000
TIMES = 50
ROUNDS = 5
"""So many times as many as usual: they are short, and what is looked for is little."""


class Deaf(Reporter):
    """Is told of everything and does nothing."""

    def finding(self, finding: Finding, job: Job[object] | None) -> None:
        """Do nothing."""


async def alone(jobs: int) -> float:
    """Return the processor time of one job, nobody watching."""
    began = time.process_time()
    await ours.loop(jobs)
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


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group."""
    jobs = settings.jobs(JOBS)
    watch, often = Watch(), Watch(TIMES)
    rounds = interleave(
        {
            "alone": lambda: settings.run(alone(jobs)),
            "watched": lambda: settings.run(watch.run(jobs)),
            "often": lambda: settings.run(often.run(jobs)),
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
        "monitor_share": statistics.median(each) / often.interval,
        "monitored_loop": rounds.ratio("watched", "alone"),
    }
