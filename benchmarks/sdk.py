"""OpenTelemetry's SDK as every observed variant gets it: providers of its own, never global ones, and null exporters.

Sending is therefore in no time. Encoding is in those of the variants that say so, by a processor of `encoding`.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader as Reader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from otel_sched import OtelObserver
from otel_sched.telemetry.fast.attaching import attach
from otel_sched.telemetry.fast.kept import keep_in
from otel_sched.telemetry.keep import Keep

SAMPLERS: dict[str, Sampler] = {"all": ALWAYS_ON, "1pct": ParentBased(TraceIdRatioBased(0.01)), "off": ALWAYS_OFF}


class CountingExporter(SpanExporter):
    """Sends spans nowhere, and counts them: a variant that tells nothing must not pass for a fast one."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


class KeepingExporter(MetricExporter):
    """Sends metrics nowhere, and keeps the last ones: they are cumulative, so those are all."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[Any] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        self.metrics = [metric for scope in scopes for metric in scope.metrics]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


class Sdk:
    """A tracer provider and a meter provider for one measurement, shut down when it is over.

    Args:
        sampler: The tracer provider's.
        fast: Let otel_sched aggregate its histograms itself, as `configure()` does.
        processor: Takes the ended spans; by default a batch processor with an exporter that counts them.
        keep: Which jobs to keep although they were not sampled; they are counted as `kept`.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        fast: bool = False,
        processor: SpanProcessor | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._spans = CountingExporter()
        self._exporter = KeepingExporter()
        self._fast = fast
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(processor or BatchSpanProcessor(self._spans, max_queue_size=100_000))
        self._keeper = None if keep is None else keep_in(self.tracer_provider, keep)
        # Without an interval nothing is collected until the end.
        self.meter_provider = MeterProvider([Reader(self._exporter, math.inf)], shutdown_on_exit=False)
        if fast and not attach(self.meter_provider):
            raise RuntimeError("attach() refused the SDK's own meter provider: there is no fast path to measure")
        self.counts: dict[str, int] = {}
        """By name, once it is closed: the exported spans, and each histogram's measurements or counter's sum."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.meter_provider.force_flush()
        self.counts = {each.name: sum(map(_count, each.data.data_points)) for each in self.metrics}
        self.meter_provider.shutdown()
        self.tracer_provider.shutdown()
        self.counts["spans"] = self._spans.spans
        self.counts["kept"] = self._keeper.kept.total() if self._keeper else 0

    @property
    def metrics(self) -> list[Any]:
        """The metrics that were exported last."""
        return self._exporter.metrics

    def observer(self, *, traces: bool = True) -> OtelObserver:
        """Return an observer that tells these providers; without *traces* the meter provider alone."""
        tracer_provider = self.tracer_provider if traces else None
        return OtelObserver(tracer_provider=tracer_provider, meter_provider=self.meter_provider, fast=self._fast)

    def expect(self, **counts: int) -> None:
        """Raise RuntimeError unless exactly *counts* came out; a `.` in a name is written as `_`."""
        came = {name.replace(".", "_"): count for name, count in self.counts.items()}
        wrong = {name: came.get(name, 0) for name, count in counts.items() if came.get(name, 0) != count}
        if wrong:
            raise RuntimeError(f"the telemetry is not complete: expected {counts}, but there came {wrong}")


def _count(point: Any) -> int:
    return int(point.count if hasattr(point, "count") else point.value)
