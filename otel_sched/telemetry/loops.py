"""Floor 5: the metrics of event loops, and how many findings there were."""

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from .._core import liveness, names
from .._core.clock import monotonic
from .._core.finding import tally
from .._core.names import Instrument
from .providers import Providers

Points = list[Observation]


class Loops:
    """What was measured of all event loops, and the instruments that show it; one for all reporters of a meter."""

    def __init__(self, providers: Providers) -> None:
        self._lock = threading.Lock()
        _all.add(self)
        self._times: dict[str, list[float]] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        """Both times of each loop at the last collection."""
        self._attributes: dict[str, dict[str, str]] = {}
        meter = providers.meter()
        self._delays = meter.create_histogram(
            names.EVENTLOOP_DELAY.name,
            unit=names.EVENTLOOP_DELAY.unit,
            description=names.EVENTLOOP_DELAY.description,
            explicit_bucket_boundaries_advisory=names.BUCKETS,
        )
        _observed(meter.create_observable_gauge, names.EVENTLOOP_UTILIZATION, self._utilizations)
        _observed(meter.create_observable_counter, names.EVENTLOOP_TIME, self._states)
        _observed(meter.create_observable_gauge, names.EVENTLOOP_BEAT_AGE, self._ages)
        _observed(meter.create_observable_counter, names.FINDINGS, self._findings)

    def delay(self, loop: str, seconds: float) -> None:
        """Record how late a beat of *loop* came."""
        attributes = self._attributes.get(loop)
        if attributes is None:
            attributes = self._attributes[loop] = {names.EVENTLOOP_NAME: loop}
        self._delays.record(seconds, attributes)

    def state(self, loop: str, active: float, idle: float) -> None:
        """Add to the times of *loop*."""
        with self._lock:
            times = self._times.setdefault(loop, [0.0, 0.0])
            times[0] += active
            times[1] += idle

    def _utilizations(self) -> Points:
        """Return the utilization since the last collection, by whatever reader; none of a loop that is gone."""
        points = []
        with self._lock:
            for loop, (active, idle) in self._times.items():
                active_before, idle_before = self._seen.get(loop, (0.0, 0.0))
                passed = active + idle - active_before - idle_before
                if passed > 1e-6:  # what rounding leaves is no time
                    self._seen[loop] = active, idle
                    points.append(Observation((active - active_before) / passed, {names.EVENTLOOP_NAME: loop}))
        return points

    def _states(self) -> Points:
        with self._lock:
            return [
                Observation(seconds, {names.EVENTLOOP_NAME: loop, names.EVENTLOOP_STATE: state})
                for loop, times in self._times.items()
                for state, seconds in zip((names.LOOP_ACTIVE, names.LOOP_IDLE), times, strict=True)
            ]

    def _ages(self) -> Points:
        ages = liveness.ages(monotonic())
        return [Observation(age, {names.EVENTLOOP_NAME: loop}) for loop, age in ages.items()]

    def _findings(self) -> Points:
        return [
            Observation(number, {names.FINDING_KIND: kind, **({names.QUEUE_NAME: queue} if queue else {})})
            for (kind, queue), number in tally.copy().items()
        ]


_all: "weakref.WeakSet[Loops]" = weakref.WeakSet()


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent held."""
    for loops in list(_all):
        loops._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _observed(create: Callable[..., Any], instrument: Instrument, points: Callable[[], Points]) -> None:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return points()

    create(instrument.name, callbacks=[callback], unit=instrument.unit, description=instrument.description)
