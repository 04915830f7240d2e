"""Floor 5: LoopMonitor: how late an event loop is, how busy its thread is, and who blocks it while it is blocked."""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from .._core.finding import Reporter
from .._core.observer import prepare
from .heartbeat import Heartbeat
from .lookout import Lookout
from .telling import Telling
from .watchdog import watchdog

_at_work: "weakref.WeakKeyDictionary[Any, weakref.ref[Heartbeat]]" = weakref.WeakKeyDictionary()

LEAST = 0.01
"""The shortest threshold: below it one measures the machine's timers."""
LEAST_INTERVAL = 0.005
LONGEST_INTERVAL = 0.25
"""Of beats that nobody gave another interval: health wants to know soon whether a loop still turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStats:
    """What a monitor has measured since its start. Seconds."""

    name: str
    beats: int
    blocks: int
    """How often the loop was blocked for longer than the threshold."""
    longest_delay: float
    active: float
    """For how long the loop's thread has worked, or was blocked."""
    idle: float

    @property
    def utilization(self) -> float:
        """The part of the time that it was active, from 0 to 1."""
        passed = self.active + self.idle
        return self.active / passed if passed else 0.0


class LoopMonitor:
    """Watches one event loop; `monitor_loop()` makes one and starts it.

    A heartbeat in the loop notes how late it comes. When it is overdue, a thread looks what the loop's thread does and
    tells: while the loop is blocked where that lets other threads run, as `time.sleep()` does, else in the moment that
    it lets go. Once started, it lives as long as its loop, whether you keep it or not.

    Args:
        threshold: For how many seconds the loop may fail to turn. What takes longer than this and one *interval* is
            always noticed, what takes less than this never.
        interval: Seconds between two beats; by default half the threshold, and a quarter of a second at most.
        name: What the loop is called in telemetry: by default `main` in the main thread, else the thread's name.
        reporter: Who is told; by default whoever `set_default_reporter()` has set.
        loop: The loop; by default the running one.

    Raises:
        ValueError: *threshold* or *interval* is too short, or *interval* is longer than *threshold*.
        TypeError: An argument is of the wrong type.
        RuntimeError: No loop is running and none was given.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        interval: float | None = None,
        *,
        name: str | None = None,
        reporter: Reporter | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.threshold, self.interval = _times(threshold, interval)
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name must be a text that is not empty, not {name!r}")
        if reporter is not None and not isinstance(reporter, Reporter):
            raise TypeError(f"reporter must be an otel_sched Reporter, not {reporter!r}")
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an event loop, not {loop!r}")
        running = asyncio._get_running_loop() if loop is None else loop
        if running is None:
            raise RuntimeError("no event loop runs here: call it in a coroutine, or pass LoopMonitor(loop=...)")
        self._loop = weakref.ref(running)
        self._name = name
        self._telling = Telling(reporter)
        self._heart: Heartbeat | None = None
        self._lookout: Lookout | None = None

    def start(self) -> Self:
        """Begin to watch, from any thread; a loop that does not run yet is watched as soon as it does.

        Raises:
            RuntimeError: It was started before, the loop is closed, or another monitor watches it.
        """
        loop = self._loop()
        if self._heart is not None:
            raise RuntimeError("this monitor was started before: make another one")
        if loop is None or loop.is_closed():
            raise RuntimeError("the event loop is closed: there is nothing to watch")
        known = _at_work.get(loop)
        other = None if known is None else known()
        if other is not None and not other.over:
            if other.makes_way is None:
                raise RuntimeError("this event loop is monitored already: stop() that monitor before you start another")
            other.makes_way()
        prepare()  # before it measures
        heart = self._heart = Heartbeat(loop, self._name, self.interval, self.threshold)
        _at_work[loop] = weakref.ref(heart)
        heart.keeps = self._lookout = Lookout(heart, self._telling)  # it lives as long as the heart beats
        watchdog().adopt(self._lookout, heart.alarm)
        heart.start()
        return self

    def stop(self) -> None:
        """Watch no more, from any thread; a second call does nothing."""
        if self._heart is not None:
            self._heart.stop()
            watchdog().wake()

    def make_way(self, stop: Callable[[], None]) -> None:
        """Let a monitor that the program starts later take its place: then *stop* is called, and no error raised."""
        if self._heart is not None:
            self._heart.makes_way = stop

    def stats(self) -> LoopStats:
        """Return what was measured so far; from any thread."""
        heart, lookout = self._heart, self._lookout
        if heart is None or lookout is None:
            return LoopStats(name=self._name or "", beats=0, blocks=0, longest_delay=0.0, active=0.0, idle=0.0)
        return LoopStats(
            name=heart.name,
            beats=heart.count,
            blocks=lookout.blocks,
            longest_delay=heart.longest,
            active=heart.active,
            idle=heart.idle,
        )

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()


def monitor_loop(
    threshold: float = 0.1,
    interval: float | None = None,
    *,
    name: str | None = None,
    reporter: Reporter | None = None,
) -> LoopMonitor:
    """Watch the running event loop from here on; see `LoopMonitor`, which this returns, for the arguments.

    Call it once, early in the program's main coroutine.
    """
    return LoopMonitor(threshold, interval, name=name, reporter=reporter).start()


def _times(threshold: object, interval: object) -> tuple[float, float]:
    """Return both as floats, the default put in; raise for what makes no sense."""
    for name, value in (("threshold", threshold), ("interval", interval)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not isinstance(threshold, int | float):
        raise TypeError("threshold must be a number of seconds, not None")
    if not LEAST <= threshold < float("inf"):
        raise ValueError(f"threshold must be at least {LEAST:g} s, not {threshold!r}: timers are no better than that")
    if not isinstance(interval, int | float):
        return float(threshold), min(max(threshold / 2, LEAST_INTERVAL), LONGEST_INTERVAL)
    if not LEAST_INTERVAL <= interval <= threshold:
        raise ValueError(
            f"interval must be at least {LEAST_INTERVAL:g} s and at most the threshold, {threshold:g} s, "
            f"not {interval!r}: a block is noticed by a beat that does not come"
        )
    return float(threshold), float(interval)
