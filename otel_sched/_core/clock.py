"""Floor 1: what time it is. Durations come from a monotonic clock, never from the loop (uvloop's ticks are 1 ms)."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that never run backwards; tests pass a loop's `time`."""

monotonic: Clock = time.monotonic
