"""OpenTelemetry's SDK as every observed variant gets it: providers of its own, never global ones, and a null exporter.

Encoding and sending are therefore not in the times; `encode_us` says what the encoding of one span would add.
"""

from collections.abc import Sequence
from typing import Any, Self

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from otel_sched import OtelObserver

SAMPLERS: dict[str, Sampler] = {"all": ALWAYS_ON, "1pct": ParentBased(TraceIdRatioBased(0.01)), "off": ALWAYS_OFF}


class CountingExporter(SpanExporter):
    """Sends spans nowhere, and counts them: a variant that tells nothing must not pass for a fast one."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


class Sdk:
    """A tracer provider and a meter provider for one measurement, shut down when it is over."""

    def __init__(self, sampler: Sampler) -> None:
        self._exporter = CountingExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=100_000))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.counts: dict[str, int] = {}
        """By name, once it is closed: the exported spans, and each histogram's measurements or counter's sum."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.counts = self._collect()
        self.meter_provider.shutdown()
        self.tracer_provider.shutdown()
        self.counts["spans"] = self._exporter.spans

    def observer(self, *, traces: bool = True) -> OtelObserver:
        """Return an observer that tells these providers; without *traces* the meter provider alone."""
        tracer_provider = self.tracer_provider if traces else None
        return OtelObserver(tracer_provider=tracer_provider, meter_provider=self.meter_provider)

    def _collect(self) -> dict[str, int]:
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        return {
            metric.name: sum(_count(point) for point in metric.data.data_points)
            for scope in scopes
            for metric in scope.metrics
        }

    def expect(self, **counts: int) -> None:
        """Raise RuntimeError unless exactly *counts* came out; a `.` in a name is written as `_`."""
        came = {name.replace(".", "_"): count for name, count in self.counts.items()}
        wrong = {name: came.get(name, 0) for name, count in counts.items() if came.get(name, 0) != count}
        if wrong:
            raise RuntimeError(f"the telemetry is not complete: expected {counts}, but there came {wrong}")


def _count(point: Any) -> int:
    return int(point.count if hasattr(point, "count") else point.value)
