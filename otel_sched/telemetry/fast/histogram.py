"""Floor 5: histograms that are kept here instead of in the SDK, which charges for each measurement. No SDK needed.

A measurement is one append to a list. Every thousandth, and each collection, folds the list into counts, sums and
extremes, by the SDK's own rules and in its own order of addition, so that the points are equal to the last bit.
"""

import math
import os
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sized
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

FOLD_AT = 1024
"""Measurements that may wait in a list before whoever adds one folds it."""

LIMIT = 2000
"""Attribute sets of one histogram, as in the SDK; further ones share one series."""

OVERFLOW: dict[str, Any] = {"otel.metric.overflow": True}

ATTACHED = "_otel_sched_fast_metrics"
"""The attribute of a meter provider that holds its fast metrics."""

Sampled = tuple[float, int, int, int]
"""One measurement under a sampled span: its value, the wall clock in ns, trace id and span id."""


@dataclass(frozen=True, slots=True)
class Point:
    """One series as one reader gets it; the field names are those of the SDK's HistogramDataPoint."""

    attributes: dict[str, Any]
    start_time_unix_nano: int
    count: int
    sum: float
    bucket_counts: tuple[int, ...]
    min: float
    max: float
    exemplars: list[Sampled]


if sys.version_info < (3, 12):
    _sum = sum
else:  # sum() compensates for rounding there, and the SDK does not

    def _sum(taken: list[float], start: float) -> float:
        return reduce(add, taken, start)


class Tally:
    """What one reader has yet to get of one series, and what it got so far."""

    __slots__ = ("all_counts", "all_max", "all_min", "all_sum", "counts", "exemplars", "max", "min", "start", "sum")

    def __init__(self, start: int, buckets: int) -> None:
        self.start = start
        self.all_counts = [0] * buckets
        self.all_sum: float = 0
        self.all_min, self.all_max = math.inf, -math.inf
        self.exemplars: dict[int, Sampled] = {}
        self.counts: list[int] | None = None
        self.sum: float = 0
        self.min, self.max = math.inf, -math.inf

    def add(self, taken: list[float], least: float, most: float, counts: list[int]) -> None:
        """Add measurements: as they came, and by bucket."""
        self.counts = counts if self.counts is None else list(map(add, self.counts, counts))
        self.sum = _sum(taken, self.sum)
        self.min = min(self.min, least)
        self.max = max(self.max, most)

    def delta(self, attributes: dict[str, Any], start: int) -> Point | None:
        """Return what is new since *start*, if anything is, and forget it."""
        if self.counts is None:
            return None
        point = Point(
            attributes, start, sum(self.counts), self.sum, tuple(self.counts), self.min, self.max, self._exemplars()
        )
        self._reset()
        return point

    def cumulative(self, attributes: dict[str, Any]) -> Point | None:
        """Return everything so far; None before the first measurement."""
        if self.counts is not None:
            self.all_counts = list(map(add, self.all_counts, self.counts))
            self.all_sum = self.sum + self.all_sum
            self.all_min = min(self.min, self.all_min)
            self.all_max = max(self.max, self.all_max)
            self._reset()
        count = sum(self.all_counts)
        if not count:
            return None
        counts = tuple(self.all_counts)
        return Point(attributes, self.start, count, self.all_sum, counts, self.all_min, self.all_max, self._exemplars())

    def _exemplars(self) -> list[Sampled]:
        kept, self.exemplars = self.exemplars, {}
        return [kept[bucket] for bucket in sorted(kept)]

    def _reset(self) -> None:
        self.counts = None
        self.sum = 0
        self.min, self.max = math.inf, -math.inf


class LocalSeries:
    """One attribute set of one histogram.

    Whoever measures appends to `values` and, under a sampled span only, extends `exemplars` by a `Sampled`'s four
    numbers: no tuple is kept, which the garbage collector would count. Both lists stay the same objects. At FOLD_AT
    values it calls `fold()`.
    """

    __slots__ = ("_bounds", "_keep_exemplars", "_readers", "attributes", "exemplars", "tallies", "values")

    def __init__(
        self, attributes: dict[str, Any], bounds: tuple[float, ...], readers: Sized, keep_exemplars: bool
    ) -> None:
        self.values: list[float] = []
        self.exemplars: list[Any] = []
        self.attributes = attributes
        self._bounds = bounds
        self._keep_exemplars = keep_exemplars
        self._readers = readers
        start = time.time_ns()
        self.tallies = [Tally(start, len(bounds) + 1) for _ in range(len(readers))]

    def fold(self) -> None:
        """Fold what waits, unless somebody is folding now: then it waits for the next call."""
        lock = _lock
        if lock.acquire(blocking=False):
            try:
                self.fold_locked()
            finally:
                lock.release()

    def fold_locked(self) -> None:
        """Fold what waits; the caller holds the lock.

        The garbage collector may run in here, and in it somebody's finalizer, which ends a job and measures: what it
        appends stays for the next fold, and for nothing that it does is the lock needed.
        """
        values, sampled = self.values, self.exemplars
        taken = values[:]
        del values[: len(taken)]  # what another thread appended meanwhile stays
        counts: list[int] = []
        if taken:
            least, most = min(taken), max(taken)
            counts = self._by_bucket(taken, least, most)
            for tally in self.tallies:
                tally.add(taken, least, most, counts)
        if sampled:
            kept = sampled[:]
            del sampled[: len(kept)]
            if self._keep_exemplars:
                latest = self._latest(kept, len(counts) - counts.count(0))
                for tally in self.tallies:
                    tally.exemplars.update(latest)
        while len(self.tallies) < len(self._readers):  # a reader has come: it counts from here on
            self.tallies.append(Tally(time.time_ns(), len(self._bounds) + 1))

    def _by_bucket(self, taken: list[float], least: float, most: float) -> list[int]:
        """Count measurements by bucket; most often all of them are in one, for like takes as long as like."""
        bounds = self._bounds
        bucket = bisect_left(bounds, least)
        if bisect_left(bounds, most) == bucket:
            counts = [0] * (len(bounds) + 1)
            counts[bucket] = len(taken)
            return counts
        ordered = sorted(taken)
        below = [bisect_right(ordered, bound) for bound in bounds]
        return [high - low for low, high in zip([0, *below], [*below, len(ordered)], strict=True)]

    def _latest(self, kept: list[Any], buckets: int) -> dict[int, Sampled]:
        """Return the last example of each bucket; *buckets* have one, as far as values and examples came together."""
        bounds = self._bounds
        latest: dict[int, Sampled] = {}
        for at in range(len(kept) - 4, -1, -4):
            bucket = bisect_left(bounds, kept[at])
            if bucket not in latest:
                latest[bucket] = kept[at], kept[at + 1], kept[at + 2], kept[at + 3]
                if len(latest) == buckets:
                    break
        return latest


class FastHistogram:
    """Stands in for an SDK's histogram: `record` as there, and `series` for who measures often."""

    def __init__(self, bounds: tuple[float, ...], readers: list[Any], limit: int = LIMIT, keep: bool = True) -> None:
        self.bounds = bounds
        self._readers = readers
        self._limit = limit
        self._keep_exemplars = keep
        self._series: dict[frozenset[tuple[str, Any]], LocalSeries] = {}
        self._rest: dict[str, LocalSeries] = {}
        """The one series of all attribute sets beyond the limit, once there are any."""

    def series(self, attributes: dict[str, str]) -> LocalSeries:
        """Return the series of these attributes, always the same one. Takes no lock: a finalizer may call it."""
        key = frozenset(attributes.items())
        series = self._series.get(key)
        return self._new(key, attributes) if series is None else series

    def record(self, value: float, attributes: dict[str, str] | None = None, context: Context | None = None) -> None:
        """Record one measurement; under a sampled span, as an example for its bucket too."""
        if not math.isfinite(value) or value < 0:
            return  # as the SDK does
        series = self.series(attributes or {})
        series.values.append(value)
        current = trace.get_current_span(context)
        span = current.get_span_context()
        if span.trace_flags.sampled or getattr(current, "keep", None) is not None:  # exported, either way
            series.exemplars.extend((value, time.time_ns(), span.trace_id, span.span_id))
        if len(series.values) >= FOLD_AT:
            series.fold()

    def all_series(self) -> list[LocalSeries]:
        """Return what there is; the caller holds the lock."""
        return [*list(self._series.values()), *list(self._rest.values())]

    def _new(self, key: frozenset[tuple[str, Any]], attributes: dict[str, str]) -> LocalSeries:
        if len(self._series) < self._limit:
            return self._series.setdefault(key, self._make(dict(attributes)))  # atomic: two threads get the same
        rest = self._rest
        return rest.get("") or rest.setdefault("", self._make(dict(OVERFLOW)))

    def _make(self, attributes: dict[str, Any]) -> LocalSeries:
        return LocalSeries(attributes, self.bounds, self._readers, self._keep_exemplars)


def attached(provider: Any) -> Any:
    """Return the FastMetrics of a meter provider, or None."""
    return getattr(provider, "__dict__", {}).get(ATTACHED)


# One lock for all: a fold is short, and a fork has only this one to wait for.
_lock = threading.Lock()
_held_for_fork = False


def held() -> threading.Lock:
    """Return the lock that folding and collecting hold."""
    return _lock


def _before_fork() -> None:
    """Let no fork come between a list and its counts: the child goes on from a copy of both."""
    global _held_for_fork
    _held_for_fork = _lock.acquire(timeout=1.0)


def _after_in_parent() -> None:
    global _held_for_fork
    if _held_for_fork:
        _held_for_fork = False
        _lock.release()


def _after_in_child() -> None:
    global _lock, _held_for_fork
    _lock, _held_for_fork = threading.Lock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
