"""Telemetry in memory for one run on one of the two paths, plain or fast, and the wall clock that goes with it."""

import contextlib
import importlib
import inspect
import pkgutil
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType
from typing import Any, cast
from unittest import mock

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sched import OtelObserver
from otel_sched.telemetry import fast as fast_path
from otel_sched.telemetry.export.encode import SpanEncoder
from otel_sched.telemetry.export.pack import Packer
from otel_sched.telemetry.export.processors import SpanFeed
from otel_sched.telemetry.export.sender import Sender
from otel_sched.telemetry.fast.attaching import attach
from tests.support.compare import Renamed, log_of, metrics_of, span_of

for each in pkgutil.iter_modules(fast_path.__path__, f"{fast_path.__name__}."):
    importlib.import_module(each.name)  # one that is loaded during a run would keep that run's clock

SLOW: dict[str, Any] = {"fast": False} if "fast" in inspect.signature(OtelObserver).parameters else {}
EPOCH = 1_700_000_000
"""The second at which virtual time begins."""

DELTA = dict.fromkeys((Counter, ObservableCounter, Histogram), AggregationTemporality.DELTA)


class KeepMetrics(MetricExporter):
    """Keeps what it is given."""

    def __init__(self, delta: bool) -> None:
        super().__init__(preferred_temporality=dict(DELTA) if delta else None)
        self.collected: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Keep it."""
        self.collected.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held back."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing to close."""


class Wire:
    """Stands where a feed has its sender: keeps what would wait there, spans or bytes."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.add = self.items.append
        self.pieces = SpanEncoder()
        self.crowded = False

    def close(self, deadline: float) -> None:
        """Send nothing: `sent` tells what it would be."""

    def sent(self) -> list[bytes]:
        """Return all spans as they would arrive, each with its resource and scope, in order of their bytes."""
        packed = Packer(self.pieces.encode, self.pieces)(self.items)
        assert packed.failed == 0
        return by_place(ExportTraceServiceRequest.FromString(packed.data))


def by_place(request: ExportTraceServiceRequest) -> list[bytes]:
    """Return the spans of a request, each with its resource and scope, in order of their bytes."""
    found: list[bytes] = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                alone = ScopeSpans(scope=scope.scope, schema_url=scope.schema_url, spans=[span])
                around = ResourceSpans(resource=resource.resource, schema_url=resource.schema_url, scope_spans=[alone])
                found.append(around.SerializeToString(deterministic=True))
    return sorted(found)


class PathTelemetry:
    """Three SDK providers, none installed globally, and the choice of path; used as `InMemoryTelemetry` is."""

    def __init__(
        self,
        fast: bool,
        *,
        delta: bool = False,
        logs: bool = True,
        light_metrics: bool = True,
        processors: Sequence[SpanProcessor] = (),
        **sdk: Any,
    ) -> None:
        self.fast = fast
        resource = Resource({"service.name": "both", "service.version": "1"}, "https://example.org/schema")
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()
        self.metric_exporter = KeepMetrics(delta)
        self.reader = PeriodicExportingMetricReader(self.metric_exporter, export_interval_millis=float("inf"))
        self.tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False, **sdk)
        self.wire = Wire()
        for processor in (*processors, SimpleSpanProcessor(self._spans), SpanFeed(cast(Sender, self.wire))):
            self.tracer_provider.add_span_processor(processor)
        self.meter_provider = MeterProvider([self.reader], resource, shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self._with_logs = logs
        self.attached = fast and light_metrics and attach(self.meter_provider)

    @property
    def providers(self) -> dict[str, Any]:
        """What an OtelObserver takes, the choice of path included."""
        given: dict[str, Any] = {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}
        if self._with_logs:
            given["logger_provider"] = self.logger_provider
        if not self.fast:
            given |= SLOW
        return given

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Return the spans that have ended, oldest first."""
        return self._spans.get_finished_spans()

    def assert_sent_as_told(self) -> None:
        """Assert that the bytes for OTLP, some of them made when a span ended, are the official encoder's."""
        assert self.wire.sent() == by_place(encode_spans(self.spans))

    @property
    def logs(self) -> Sequence[ReadableLogRecord]:
        """Return the log records that were emitted, oldest first."""
        return self._logs.get_finished_logs()

    def metrics(self) -> dict[str, list[Any]]:
        """Collect now, and return the data points of each metric by the metric's name."""
        self.meter_provider.force_flush()
        resources = self.metric_exporter.collected[-1].resource_metrics if self.metric_exporter.collected else ()
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def told(self, names: Renamed | None = None) -> dict[str, Any]:
        """Return all that was told, fit to be compared with another run."""
        names = names or Renamed()
        return {
            "spans": [span_of(each, names) for each in self.spans],
            "logs": [log_of(each, names) for each in self.logs],
            "metrics": [metrics_of(each, names) for each in self.metric_exporter.collected],
        }

    def exemplars(self) -> list[Any]:
        """Return the exemplars of all collections."""
        return [
            exemplar
            for data in self.metric_exporter.collected
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            for exemplar in point.exemplars
        ]

    def close(self) -> None:
        """Shut the providers down, as an application does when it ends."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()


class WallClock:
    """A wall clock that follows a loop's virtual time: to read it more often changes nothing."""

    def __init__(self) -> None:
        self.loop: Any = None

    def time(self) -> float:
        """Stand in for `time.time`."""
        return EPOCH + (0.0 if self.loop is None else self.loop.time())

    def time_ns(self) -> int:
        """Stand in for `time.time_ns`."""
        return EPOCH * 10**9 + (0 if self.loop is None else round(self.loop.time() * 1e9))


def stand_ins(real: Mapping[Any, Any]) -> contextlib.ExitStack:
    """Put other functions in place of built-in ones, also where a module has taken one by name, until it is closed."""
    stack = contextlib.ExitStack()
    for name, module in list(sys.modules.items()):
        if name in ("time", "random") or name.startswith(("opentelemetry", "otel_sched")):
            for key, value in list(vars(module).items()):
                if isinstance(value, BuiltinFunctionType) and value in real:
                    stack.enter_context(mock.patch.object(module, key, real[value]))
    return stack


@contextlib.contextmanager
def virtual_wall() -> Iterator[WallClock]:
    """Put a virtual wall clock in place of the real one, and random ids that are the same in every run."""
    wall = WallClock()
    with stand_ins({time.time: wall.time, time.time_ns: wall.time_ns, random.getrandbits: SeededBits().getrandbits}):
        yield wall


class SeededBits:
    """Random numbers in the same order for each width: who asks for more span ids has the same trace ids still."""

    def __init__(self) -> None:
        self._made: dict[int, int] = {}

    def getrandbits(self, bits: int) -> int:
        """Return the next number of that width."""
        number = self._made[bits] = self._made.get(bits, 0) + 1
        return random.Random(number * 1000 + bits).getrandbits(bits)
