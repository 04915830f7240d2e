"""Floor 5: how long the jobs of one kind take: a histogram that forgets, for their own p99. Pure."""

import math
from collections.abc import Iterable
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

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0

    def add(self, seconds: float) -> None:
        """Count one run."""
        bucket = math.ceil(math.log2(max(seconds, LEAST)) * _STEPS)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.total += 1
        if self.total >= FORGET:
            self._counts = {bucket: count // 2 for bucket, count in self._counts.items() if count > 1}
            self.total = sum(self._counts.values())

    def p99(self) -> float | None:
        """Return the time, in seconds, that 99 of 100 runs stay within; None while there are too few of them."""
        if self.total < ENOUGH:
            return None
        rank = math.ceil(0.99 * self.total)
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
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
            durations.add(settled_at - taken_at)

    def of(self, queue: str, name: str) -> Durations | None:
        """Return the run times of the jobs *name* of *queue*; None where none has ended."""
        return self._kinds.get((queue, name))
