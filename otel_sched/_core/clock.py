"""Floor 1: what time it is. Durations come from a monotonic clock, never from the loop (uvloop's ticks are 1 ms)."""

import asyncio
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that never run backwards; tests pass a loop's `time`."""

monotonic: Clock = time.monotonic


def default_clock() -> Clock:
    """Return the clock of a queue that is given none: one that the running loop keeps for us, else the real one."""
    loop = asyncio._get_running_loop()
    return monotonic if loop is None else getattr(loop, "otel_sched_clock", monotonic)
