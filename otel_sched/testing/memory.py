"""Floor 6: InMemoryTelemetry: the SDK's own providers, with exporters that keep everything in memory."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from .._core.errors import ConfigurationError
from ..telemetry import interest
from ..telemetry.keep import fast_wanted
from ..telemetry.observer import OtelObserver
from ..telemetry.reporter import OtelReporter
from .metric import Metric, find
from .spans import Logs, Spans
from .standing import reporting_to, standing_in

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

INSTALL = "it needs the OpenTelemetry SDK: pip install opentelemetry-sdk, or 'otel-sched[otlp]'"


class InMemoryTelemetry:
    """Providers of its own for spans, metrics and log records, and what was told to them.

    None of them is installed globally. Hand them on with `Queue(observer=telemetry.observer)`, or let all queues use
    them for a while: `with telemetry.as_default():`.

    Args:
        sampler: Of the SDK; by default everything is recorded.

    Raises:
        ConfigurationError: The OpenTelemetry SDK is not installed.
    """

    def __init__(self, sampler: "Sampler | None" = None) -> None:
        try:
            from opentelemetry.sdk._logs import LoggerProvider
            from opentelemetry.sdk._logs import export as logs
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import InMemoryMetricReader
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        except ImportError as error:
            raise ConfigurationError(f"{type(self).__name__}: {INSTALL} ({error})") from error
        self._spans = InMemorySpanExporter()
        # It was called otherwise before version 1.39.
        kind: Any = getattr(logs, "InMemoryLogRecordExporter", None) or getattr(logs, "InMemoryLogExporter")  # noqa: B009
        self._logs = kind()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(logs.SimpleLogRecordProcessor(self._logs))
        self.observer = OtelObserver(**self.providers)
        self.reporter = OtelReporter(**self.providers)

    @property
    def providers(self) -> dict[str, Any]:
        """The three, under the names that every entry point of ours takes them by."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
        }

    @property
    def tracer(self) -> Any:
        """A tracer, for spans of the test's own: `with telemetry.tracer.start_as_current_span("request"):`."""
        return self.tracer_provider.get_tracer("test")

    @property
    def spans(self) -> Spans:
        """The spans that have ended so far, in the order of their ends."""
        return Spans(self._spans.get_finished_spans())

    @property
    def logs(self) -> Logs:
        """The log records that were emitted so far, oldest first."""
        return Logs(self._logs.get_finished_logs())

    def metrics(self) -> dict[str, list[Any]]:
        """Collect now, and return the data points of each metric by the metric's name."""
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data is not None else ()
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def metric(self, name: str, *, queue: str | None = None, attributes: Mapping[str, Any] | None = None) -> Metric:
        """Collect now, and return the points of one metric: those of one queue, and with these attributes.

        Raises:
            AssertionError: there is no such point; with those that there are.
        """
        return find(self.metrics(), name, queue, attributes)

    def clear(self) -> None:
        """Forget the spans and log records so far; what metrics have counted stays."""
        self._spans.clear()
        self._logs.clear()

    @contextmanager
    def as_default(self) -> Iterator[Self]:
        """Tell of everything that would go to the global providers: code under test needs no change for it.

        That is: queues made inside without `observer=`, and idle ones of before, from their next put on; functions
        under `@instrument`, whenever they were made; what diagnostics find; and lines of the application that reach
        the root logger, at the levels that its loggers let through.
        """
        from ..telemetry.logs import OtlpHandler

        with ExitStack() as undo:
            undo.callback(setattr, interest, "correlating", interest.correlating)
            undo.enter_context(self._calls())
            undo.enter_context(standing_in(self.observer, beside=False))
            undo.enter_context(reporting_to(self.reporter))
            handler = OtlpHandler(logger_provider=self.logger_provider)
            logging.getLogger().addHandler(handler)
            undo.callback(logging.getLogger().removeHandler, handler)
            undo.callback(handler.close)
            yield self

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Lend our providers to those who asked for the global ones: @instrument asks when a module is imported."""
        from ..telemetry.hub import hub_of

        hub = hub_of(None, None, None, fast=fast_wanted())  # held, or the next to ask would get another one
        theirs = vars(hub.providers)
        before = dict(theirs)
        theirs |= vars(self.observer.hub.providers)
        try:
            yield
        finally:
            theirs.clear()
            theirs |= before

    def close(self) -> None:
        """Shut the providers down, as an application does when it ends; what was told can still be read."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()
