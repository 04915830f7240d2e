"""Floor 6: the numbers of the view: each queue's own stats, rates made of two of them, percentiles of its spans."""

import textwrap
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .._core.observed import Observed
from .._core.stats import Stats
from .lines import BOLD, STYLES, Line, rate, seconds, table
from .recorder import Recorder, percentile

WINDOW = 2.0
"""Seconds over which rates are taken."""
PERCENTS = (50, 95, 99)
SHOWN = ("ok", "error", "timeout", "cancelled")

_NUMBERS = (9, 4, 6, 5, 5, 7, 6, 6, 7, 6, 6)
_ENDINGS = (9, 7, 7, 8, 10, 7, 9, 15)


class Board:
    """The tables of the view."""

    def __init__(
        self, queues: Sequence[Observed[Any]], recorder: Recorder, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._queues = queues
        self._recorder = recorder
        self._now = now
        self._samples: deque[tuple[float, tuple[Stats, ...]]] = deque()
        self.peaks: dict[str, dict[str, float]] = {}
        """The largest size and the greatest age of a waiting job that were seen, by queue."""

    def sample(self) -> None:
        """Read the queues; call it several times a second."""
        now, stats = self._now(), tuple(queue.stats() for queue in self._queues)
        self._samples.append((now, stats))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        for each in stats:
            peak = self.peaks.setdefault(each.name, {"size": 0, "oldest_age": 0.0})
            peak["size"] = max(peak["size"], each.size)
            peak["oldest_age"] = max(peak["oldest_age"], each.oldest_age)

    @property
    def open_jobs(self) -> int:
        """How many jobs wait or run."""
        return sum(each.size + each.active for each in self._samples[-1][1])

    def lines(self) -> list[Line]:
        """Return both tables: what the queues do now, and how jobs have ended."""
        (then, before), (now, stats) = self._samples[0], self._samples[-1]
        spent = now - then
        numbers = [self._numbers(old, new, spent) for old, new in zip(before, stats, strict=True)]
        names = [f"p{percent}" for percent in PERCENTS]
        over: Line = [(" " * 34 + "waited".center(21) + " " + "ran".center(21), BOLD)]
        return [
            over,
            *table(("queue", "size", "oldest", "in/s", "out/s", *names, *names), numbers, _NUMBERS),
            [],
            *table(
                ("jobs", *SHOWN, "other", "running", "blocked puts"),
                [self._endings(each) for each in stats],
                _ENDINGS,
            ),
            *self._reasons(),
        ]

    def backlog(self) -> list[Line]:
        """Say in one line how bad it got."""
        worst = [
            f"{name} {peak['size']:.0f} ({seconds(peak['oldest_age'])})"
            for name, peak in self.peaks.items()
            if peak["size"]
        ]
        return [[("longest backlog: " + ", ".join(worst), "")]] if worst else []

    def _numbers(self, old: Stats, new: Stats, spent: float) -> list[tuple[str, str] | str]:
        waits, runs = self._recorder.waits(new.name), self._recorder.runs(new.name)
        return [
            (new.name, BOLD),
            (str(new.size), BOLD if new.size else ""),
            seconds(new.oldest_age) if new.size else "-",
            rate((new.put - old.put) / spent if spent else None),
            rate((new.finished - old.finished) / spent if spent else None),
            *(seconds(percentile(waits, percent)) for percent in PERCENTS),
            *(seconds(percentile(runs, percent)) for percent in PERCENTS),
        ]

    def _endings(self, stats: Stats) -> list[tuple[str, str] | str]:
        counts = [stats.outcomes.get(outcome, 0) for outcome in SHOWN]
        return [
            (stats.name, BOLD),
            *((str(count), STYLES[outcome] if count else "") for outcome, count in zip(SHOWN, counts, strict=True)),
            str(stats.finished - sum(counts)),
            str(stats.active),
            str(stats.puts_waiting),
        ]

    def _reasons(self) -> list[Line]:
        """Say who or what cancelled jobs."""
        found = [
            f"{count} {queue.ledger.name} {state} ({reason})"
            for queue in self._queues
            for (state, reason), count in cancellations(queue).items()
        ]
        wrapped = textwrap.wrap("cancelled: " + ", ".join(found), 80, subsequent_indent=" " * 11)
        return [[(line, "")] for line in wrapped] if found else []


def cancellations(queue: Observed[Any]) -> dict[tuple[str, str], int]:
    """Return how many jobs of *queue* were cancelled, by where they were and why."""
    counts: dict[tuple[str, str], int] = {}
    for series in queue.ledger.snapshot().series.values():
        for key, count in series.cancels.items():
            counts[key] = counts.get(key, 0) + count
    return counts
