"""Real SDK providers whose exporters keep everything in memory, for tests that look at what was told."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler


class InMemoryTelemetry:
    """Three providers, none installed globally: pass them on with `OtelObserver(**telemetry.providers)`."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    @property
    def providers(self) -> dict[str, Any]:
        """The three, under the names that every entry point of ours takes them by."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
        }

    def spans(self) -> Sequence[ReadableSpan]:
        """Return the spans that have ended, oldest first."""
        return self._spans.get_finished_spans()

    def logs(self) -> Sequence[ReadableLogRecord]:
        """Return the log records that were emitted, oldest first."""
        return self._logs.get_finished_logs()

    def metrics(self) -> dict[str, list[Any]]:
        """Collect now, and return the data points of each metric by the metric's name."""
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data is not None else ()
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def close(self) -> None:
        """Shut the providers down, as an application does when it ends."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()
