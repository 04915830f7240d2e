"""Floor 5: how fast the jobs of one queue end, and how long what waits will take at that pace."""

from typing import NamedTuple

SHORTEST = 1.0
"""Seconds to look at a queue before anything is said of its pace."""
KEPT = 12
"""How many readings are kept of one window."""


class Pace(NamedTuple):
    """Jobs a second, over so many seconds; no rate while too little was seen."""

    rate: float | None = None
    span: float = 0.0

    def with_also(self, other: "Pace") -> "Pace":
        """Return the pace of both queues together."""
        if self.rate is None or other.rate is None:
            return other if self.rate is None else self
        return Pace(self.rate + other.rate, min(self.span, other.span))


class Reading(NamedTuple):
    """Two counts of a queue at one instant."""

    at: float
    taken: int
    finished: int


class Odometer:
    """The readings of one queue within a moving window, a few of them however often it is read."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._readings: list[Reading] = []

    def read(self, now: Reading) -> Pace:
        """Take a reading, and return the pace since the newest one that is a window old, or else the oldest.

        Where no job was ever seen to end (consumers without task_done()), what is taken counts.
        """
        readings = self._readings
        while len(readings) > 1 and readings[1].at <= now.at - self._window:
            del readings[0]
        if not readings or now.at - readings[-1].at >= self._window / KEPT:
            readings.append(now)
        since = readings[0]
        span = now.at - since.at
        if span < SHORTEST:
            return Pace()
        done = now.finished - since.finished if now.finished else now.taken - since.taken
        return Pace(max(0, done) / span, span)


def backlog_seconds(size: int, oldest_age: float, pace: Pace) -> float:
    """Return how long the jobs that wait will take; always a number, for autoscalers can do nothing without.

    Where no job ended in the time looked at, as if one had: an estimate from below. Before there is a pace, the age of
    the oldest.
    """
    if size <= 0:
        return 0.0
    if pace.rate is None:
        return oldest_age
    return size / pace.rate if pace.rate else size * pace.span
