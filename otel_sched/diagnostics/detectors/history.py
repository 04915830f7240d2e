"""Floor 5: how long the jobs of one kind take: a histogram that forgets, for their own p99. Pure."""

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..._core.job import Outcome

ENOUGH = 100
"""From so many jobs on a p99 means something."""
FORGET = 10_000
"""At so many jobs all counts are halved, so that what was long ago weighs less and less."""
MAX_KINDS = 1000
"""How many (queue, job name) are measured; names should be few, but nobody is made to keep them so."""
LEAST = 1e-6
"""Shorter runs, in seconds, are one bucket."""

_STEPS = 8  # buckets to each doubling: a bound is at most 9 % above what it stands for
_RUNS = frozenset({Outcome.OK, Outcome.ERROR, Outcome.TIMEOUT})  # the others were cut short, or not seen whole


class Durations:
    """Run times of one kind of job, in buckets."""

    __slots__ = ("_counts", "recent", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0
        self.recent: deque[float] = deque(maxlen=ENOUGH)
        """When those that have ended last were taken."""

    def add(self, seconds: float, taken_at: float = 0.0) -> None:
        """Count one run."""
        self.recent.append(taken_at)
        bucket = _bucket(seconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.total += 1
        if self.total >= FORGET:
            self._counts = {bucket: count // 2 for bucket, count in self._counts.items() if count > 1}
            self.total = sum(self._counts.values())

    def p99(self, running: Sequence[float] = ()) -> float | None:
        """Return the time, in seconds, that 99 of 100 runs stay within; None while too few have ended.

        Args:
            running: How long others have run so far that are to be counted too, as if they ended now. The slow ones
                of a kind end last: without them the first p99 is that of the quick ones alone.
        """
        if self.total < ENOUGH:
            return None
        counts = self._counts
        if running:
            counts = Counter(counts)
            counts.update(map(_bucket, running))
        rank = math.ceil(0.99 * (self.total + len(running)))
        for bucket in sorted(counts):
            rank -= counts[bucket]
            if rank <= 0:
                return float(2.0 ** (bucket / _STEPS))
        return None  # not reached


class History:
    """The run times of all kinds of jobs, by queue and job name: queues of one name are one."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], Durations] = {}

    def fold(self, queue: str, ended: Iterable[tuple[Any, ...]]) -> None:
        """Take in what `Follower` noted of jobs that have ended."""
        for _, series, outcome, taken_at, settled_at in ended:
            if series is None or taken_at is None or settled_at is None or outcome not in _RUNS:
                continue
            durations = self._kinds.get((queue, series.name))
            if durations is None:
                if len(self._kinds) >= MAX_KINDS:
                    continue
                durations = self._kinds[queue, series.name] = Durations()
            durations.add(settled_at - taken_at, taken_at)

    def of(self, queue: str, name: str) -> Durations | None:
        """Return the run times of the jobs *name* of *queue*; None where none has ended."""
        return self._kinds.get((queue, name))


def stalled(running: Sequence[float], ended: Iterable[float]) -> int:
    """Return how many of the jobs that run for long do so because something has changed, and not since their kind does.

    Of those that were taken since it changed more run than have ended. Where one job of fifty is slow by nature, many
    quick ones that were taken after it have ended.

    Args:
        running: When they were taken, in that order.
        ended: When jobs that have ended of late were taken.
    """
    most = 0
    for number, taken_at in enumerate(sorted(ended, reverse=True)):  # so many were taken later, and have ended
        since = len(running) - bisect_right(running, taken_at)
        if since > number:
            most = max(most, since)
    return most


def _bucket(seconds: float) -> int:
    return math.ceil(math.log2(max(seconds, LEAST)) * _STEPS)
