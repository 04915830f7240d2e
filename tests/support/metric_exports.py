"""A metric exporter that keeps what it gets, the provider of it, and what two of them got, compared field by field."""

import math
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA

RESOURCE = Resource({"service.name": "shop"})


class KeepingExporter(MetricExporter):
    """Keeps every export."""

    def __init__(self, temporality: dict[type, Any] | None = None, aggregation: dict[type, Any] | None = None) -> None:
        super().__init__(temporality, aggregation)
        self.exports: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Keep it."""
        self.exports.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Have nothing to flush."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Have nothing to shut down."""


def reader_of(exporter: MetricExporter, **arguments: Any) -> PeriodicExportingMetricReader:
    """Return a reader that collects only when it is told to."""
    return PeriodicExportingMetricReader(exporter, math.inf, **arguments)


def provider_of(*readers: Any, **arguments: Any) -> MeterProvider:
    """Return a provider of these readers, shut down by nobody."""
    return MeterProvider(readers, resource=RESOURCE, shutdown_on_exit=False, **arguments)


def context_of(number: int, *, sampled: bool = True) -> Context:
    """Return a context in which a span with this trace id and span id is current."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(number, number, False, flags)), Context())


def points(data: MetricsData) -> dict[tuple[str, frozenset[tuple[str, Any]]], Any]:
    """Return the points of one export, by metric and attributes; none comes twice."""
    found: dict[tuple[str, frozenset[tuple[str, Any]]], Any] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    key = metric.name, frozenset((point.attributes or {}).items())
                    assert key not in found, f"{key} came twice"
                    found[key] = point
    return found


def told(exports: list[MetricsData]) -> list[dict[Any, Any]]:
    """Return all that several exports say, but for the times, in a form that compares; empty ones are left out."""
    return [said for said in ({**_fields(each)} for each in exports) if said]


def _fields(data: MetricsData) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                where = (
                    resource.resource, resource.schema_url, scope.scope, scope.schema_url, metric.name,
                    metric.description, metric.unit, type(metric.data), metric.data.aggregation_temporality,
                )  # fmt: skip
                for point in metric.data.data_points:
                    found[where, frozenset(point.attributes.items())] = (
                        type(point), point.count, repr(float(point.sum)), point.bucket_counts, point.explicit_bounds,
                        point.min, point.max,
                        [(e.value, e.trace_id, e.span_id, e.filtered_attributes) for e in point.exemplars],
                    )  # fmt: skip
    return found
