"""Floor 5: puts the histograms that are kept here into what an SDK's reader exports. Needs the SDK."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Exemplar, Meter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ..._core import names
from ..._core.version import VERSION
from ..providers import SCHEMA_URL
from .histogram import FastHistogram, Point, held
from .refusal import enabled, plain_histograms

TICK = "otel_sched.telemetry.tick"
"""A gauge, and its scope, that never leaves: a reader with nothing of the SDK's own to collect would not export."""

_log = logging.getLogger("otel_sched")


class ReaderPort:
    """One metric reader: which temporality it wants, and when it last collected."""

    def __init__(self, owner: "FastMetrics", index: int, reader: Any, temporality: AggregationTemporality) -> None:
        self.reader = reader
        self._owner = owner
        self._index = index
        self._temporality = temporality
        self._last_collected: dict[FastHistogram, int] = {}
        self._complained = False

    def wrap(self, exporter: Any) -> None:
        """Have every `export()` of *exporter* bring our histograms along, in place."""
        export = exporter.export

        def fuller(metrics_data: Any, *args: Any, **kwargs: Any) -> Any:
            full = self._fuller(metrics_data)
            if not any(resource.scope_metrics for resource in full.resource_metrics):
                return MetricExportResult.SUCCESS  # there was nothing but the tick
            return export(full, *args, **kwargs)

        fuller.otel_sched = self  # type: ignore[attr-defined]
        exporter.export = fuller

    def _fuller(self, metrics_data: MetricsData) -> MetricsData:
        try:
            return self.add_to(metrics_data)
        except Exception:
            if not self._complained:  # every few seconds, else
                self._complained = True
                _log.exception("durations could not be added to the metrics that are exported")
            return metrics_data

    def add_to(self, metrics_data: MetricsData) -> MetricsData:
        """Return *metrics_data* with our histograms, and without the tick."""
        return MetricsData([self._resource(each) for each in metrics_data.resource_metrics])

    def _resource(self, before: ResourceMetrics) -> ResourceMetrics:
        ours = self._collect(_collected_at(before))
        scopes = []
        for scope in before.scope_metrics:
            if scope.scope.name == TICK:
                continue
            more = ours.pop(scope.scope, [])
            scopes.append(ScopeMetrics(scope.scope, [*scope.metrics, *more], scope.schema_url) if more else scope)
        scopes += [ScopeMetrics(scope, more, scope.schema_url or "") for scope, more in ours.items()]
        return ResourceMetrics(before.resource, scopes, before.schema_url)

    def _collect(self, now: int) -> dict[InstrumentationScope, list[Metric]]:
        found: dict[InstrumentationScope, list[Metric]] = {}
        for (scope, instrument), histogram in self._owner.histograms():
            points = [_data_point(point, histogram.bounds, now) for point in self._points(histogram, now)]
            if points:
                data = Histogram(points, self._temporality)
                found.setdefault(scope, []).append(
                    Metric(instrument.name, instrument.description, instrument.unit, data)
                )
        return found

    def _points(self, histogram: FastHistogram, now: int) -> Iterator[Point]:
        """Yield what this reader is to get; a series that is being folded elsewhere is waited for."""
        delta = self._temporality is AggregationTemporality.DELTA
        last = self._last_collected.get(histogram)
        with held():
            all_series = histogram.all_series()
        if all_series:  # as in the SDK, an interval begins with the first measurement
            self._last_collected[histogram] = now
        for series in all_series:
            with held():  # for one series at a time: who measures may want to fold meanwhile
                series.fold_locked()
                tally = series.tallies[self._index]
                if delta:
                    point = tally.delta(series.attributes, tally.start if last is None else last)
                else:
                    point = tally.cumulative(series.attributes)
            if point is not None:
                yield point


class FastMetrics:
    """The histograms that are kept here for one meter provider."""

    def __init__(self, limit: int, keep_exemplars: bool) -> None:
        self.ports: list[ReaderPort] = []
        self._limit = limit
        self._keep_exemplars = keep_exemplars
        self._histograms: dict[tuple[InstrumentationScope, names.Instrument], FastHistogram] = {}

    def histogram(
        self, instrument: names.Instrument, bounds: tuple[float, ...], scope_attributes: dict[str, Any] | None = None
    ) -> FastHistogram:
        """Return the histogram of this instrument, always the same one for the same attributes of its scope."""
        key = InstrumentationScope(names.SCOPE, VERSION, SCHEMA_URL, scope_attributes), instrument
        made = self._histograms.get(key)
        if made is None:
            made = FastHistogram(bounds, self.ports, self._limit, self._keep_exemplars)
            made = self._histograms.setdefault(key, made)
        return made

    def histograms(self) -> list[tuple[tuple[InstrumentationScope, names.Instrument], FastHistogram]]:
        """Return all there are, with the scope and the instrument of each."""
        return list(self._histograms.items())

    def join(self, reader: Any, temporality: AggregationTemporality) -> ReaderPort:
        """Begin to count for a reader, as of now."""
        with held():
            port = ReaderPort(self, len(self.ports), reader, temporality)
            self.ports.append(port)
            for histogram in list(self._histograms.values()):
                for series in histogram.all_series():
                    series.fold_locked()
            return port

    def alone(self, provider: Any) -> bool:
        """Say whether nobody records into the provider's own histograms, as an instrument made before it does."""
        return not any(plain_histograms(provider))

    def takes(self, meter: Any) -> bool:
        """Say whether what *meter* would record is to be exported at all."""
        return isinstance(meter, Meter) and enabled(meter)

    def add_to(self, metrics_data: MetricsData) -> MetricsData:
        """Return *metrics_data* with our histograms, as the first reader wants them."""
        return self.ports[0].add_to(metrics_data)


def tick(_: CallbackOptions) -> Iterator[Observation]:
    """Give a reader something to collect."""
    yield Observation(1)


def _collected_at(collected: ResourceMetrics) -> int:
    """Return the time of a collection, that of the tick: all its points have the same."""
    for scope in collected.scope_metrics:
        if scope.scope.name == TICK:
            return scope.metrics[0].data.data_points[0].time_unix_nano
    return time.time_ns()


def _data_point(point: Point, bounds: tuple[float, ...], now: int) -> HistogramDataPoint:
    """Return one series as the SDK's data type. An exemplar has no attributes that its point lacks."""
    rest: dict[str, Any] | None = {} if point.attributes else None
    return HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=min(point.start_time_unix_nano, now),  # a series may be newer than the collection
        time_unix_nano=now,
        count=point.count,
        sum=point.sum,
        bucket_counts=point.bucket_counts,
        explicit_bounds=bounds,
        min=point.min,
        max=point.max,
        exemplars=[Exemplar(rest, value, at, span_id, trace_id) for value, at, trace_id, span_id in point.exemplars],
    )
