"""Floor 5: the SDK's providers for given settings, all of them or none. Needs the SDK."""

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from .._core.errors import ConfigurationError
from .counting import ExporterCount, count_exports
from .endpoint import EXPORTERS, INSTALL, SIGNALS, Signal, exporter_names
from .export.limits import limits_of
from .export.metrics import MetricFeed, PointSender
from .export.own import Rules, tell
from .export.processors import LogFeed, SpanFeed
from .export.sender import Sender
from .export.transport import otlp_transport_of, transport_of
from .fast.attaching import try_to_attach
from .fast.kept import Keeper, keep_in
from .keep import fast_wanted
from .sampling import choose
from .settings import Settings

METRIC_INTERVAL = 15.0
"""Seconds between two exports of metrics: at the SDK's 60, a dashboard's rates over a minute are empty."""

Exporters = list[tuple[str, Any]]

_log = logging.getLogger("otel_sched")


@dataclass(slots=True)
class Pipeline:
    """The providers of the signals that are on, and what is counted at their exporters."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    counts: list[ExporterCount] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    keeper: Keeper | None = None

    readers: list[MetricReader] = field(default_factory=list)

    def collecting(self) -> bool:
        """Say whether a reader of metrics is still at work, though it was shut down."""
        threads = [getattr(reader, "_daemon_thread", None) for reader in self.readers]
        return any(thread is not None and thread.is_alive() for thread in threads)

    def crowded_out(self) -> int:
        """Return how many spans the keeper had no room for."""
        return 0 if self.keeper is None else self.keeper.dropped

    def providers(self) -> Iterator[tuple[Signal, Any]]:
        """Yield each signal that is on, with its provider."""
        if self.tracer_provider is not None:
            yield "traces", self.tracer_provider
        if self.meter_provider is not None:
            yield "metrics", self.meter_provider
        if self.logger_provider is not None:
            yield "logs", self.logger_provider


def build(settings: Settings) -> Pipeline:
    """Build what *settings* and the environment ask for.

    Raises:
        ConfigurationError: They contradict each other or ask for what is not installed. Nothing is left
            running.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Pipeline()
    if os.environ.get("OTEL_CONFIG_FILE", "").strip():
        raise ConfigurationError(
            "OTEL_CONFIG_FILE describes a whole SDK, and so does configure(): start the program with "
            "opentelemetry-instrument and drop configure(), or unset the variable"
        )
    with ExitStack() as undo:
        try:
            pipeline = _build(settings, undo)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"the OpenTelemetry SDK refused its settings: {error}") from error
        undo.pop_all()
        return pipeline


def _build(settings: Settings, undo: ExitStack) -> Pipeline:
    """Build exporters first, for they start no thread, then what runs."""
    pipeline = Pipeline()
    on = {"traces": settings.traces, "metrics": settings.metrics, "logs": settings.logs}
    exporters = {signal: list(_exporters(signal, settings)) for signal in SIGNALS if on[signal]}
    resource = Resource.create(settings.resource_attributes)
    if settings.traces:
        pipeline.tracer_provider = _tracer_provider(settings, resource, exporters["traces"], pipeline, undo)
    if settings.logs:
        pipeline.logger_provider = _logger_provider(settings, resource, exporters["logs"], pipeline, undo)
    if settings.metrics:
        pipeline.meter_provider = _meter_provider(settings, resource, exporters["metrics"], pipeline)
        tell(pipeline.meter_provider, pipeline.counts, pipeline.senders, pipeline.rules, pipeline.crowded_out)
    return pipeline


def _tracer_provider(
    settings: Settings, resource: Resource, exporters: Exporters, pipeline: Pipeline, undo: ExitStack
) -> TracerProvider:
    provider = TracerProvider(
        sampler=choose(settings.sampler, settings.sampling_ratio),
        resource=resource,
        id_generator=_id_generator(),
        shutdown_on_exit=False,
        **_configurator("tracer", TracerProvider),
    )
    undo.callback(provider.shutdown)
    for processor in settings.span_processors:
        provider.add_span_processor(processor)
    if settings.keep is not None and fast_wanted():
        pipeline.keeper = keep_in(provider, settings.keep)
    elif settings.keep is not None:  # whoever sets a variable cannot always change the program
        _log.warning("OTEL_SCHED_FAST is off: nothing is kept but what the sampler keeps")
    keeper = pipeline.keeper
    for name, exporter in exporters:
        feed = SpanFeed(_sender(pipeline, "traces", name, exporter))
        provider.add_span_processor(feed)
        if keeper is not None:
            keeper.deliver.append(feed.keep)
    return provider


def _logger_provider(
    settings: Settings, resource: Resource, exporters: Exporters, pipeline: Pipeline, undo: ExitStack
) -> LoggerProvider:
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False, **_configurator("logger", LoggerProvider))
    undo.callback(provider.shutdown)
    for processor in settings.log_processors:
        provider.add_log_record_processor(processor)
    for name, exporter in exporters:
        provider.add_log_record_processor(LogFeed(_sender(pipeline, "logs", name, exporter)))
    return provider


def _meter_provider(settings: Settings, resource: Resource, exporters: Exporters, pipeline: Pipeline) -> MeterProvider:
    """Build the provider of metrics; a pull exporter such as Prometheus' is a reader already."""
    interval: float | None = settings.metric_interval
    if interval is None and not os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip():
        interval = METRIC_INTERVAL
    readers = pipeline.readers  # ours first: they hold up nobody, and what a program brings may take all the time
    with ExitStack() as undo:
        for name, exporter in exporters:
            if isinstance(exporter, MetricReader):
                readers.append(exporter)
                continue
            exporter = _fed(pipeline, name, exporter)
            undo.callback(exporter.shutdown, 0)
            reader = PeriodicExportingMetricReader(exporter, None if interval is None else interval * 1000.0)
            undo.callback(reader.shutdown)  # its thread runs already
            undo.callback(exporter.shutdown, 0)  # before the reader hands it a last collection
            readers.append(reader)
        readers += settings.metric_readers
        provider = MeterProvider(
            readers, resource=resource, shutdown_on_exit=False, **_configurator("meter", MeterProvider)
        )
        undo.pop_all()
    reason = try_to_attach(provider)
    if reason is not None:  # its own histograms serve then
        _log.info("durations are recorded through the meter provider's own histograms: %s", reason)
    return provider


def _sender(pipeline: Pipeline, signal: Signal, name: str, exporter: Any) -> Sender:
    """Put a buffer and a thread of our own before an exporter; spans are counted by rule at the first one."""
    count = ExporterCount(signal, name)
    first = signal == "traces" and not any(each.signal == "traces" for each in pipeline.counts)
    encoder = next((each.pieces for each in pipeline.senders if each.pieces is not None), None)
    transport = transport_of(exporter, signal, encoder)
    sender = Sender(count, transport, limits_of(signal), pipeline.rules.count if first else None)
    pipeline.counts.append(count)
    pipeline.senders.append(sender)
    return sender


def _fed(pipeline: Pipeline, name: str, exporter: Any) -> Any:
    """Return what a reader is to export to: a sender of ours before OTLP, every other exporter itself."""
    count = ExporterCount("metrics", name)
    pipeline.counts.append(count)
    transport = otlp_transport_of(exporter, "metrics")
    if transport is None:
        count_exports(exporter, count)
        return exporter
    sender = PointSender(count, transport)
    pipeline.senders.append(sender)
    return MetricFeed(exporter, sender)


def _exporters(signal: Signal, settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield name and exporter for all that OTEL_<SIGNAL>_EXPORTER names, OTLP by default."""
    group = f"opentelemetry_{signal}_exporter"
    for name in exporter_names(signal, os.environ):
        arguments: dict[str, Any] = {}
        entry = name
        if name == "otlp" or name in EXPORTERS:
            target = settings.destination.resolve(signal, name, os.environ, lambda e: bool(_entries(group, e)))
            entry, arguments = target.exporter, dict(target.arguments)
        yield name, _load(group, entry, f"OTEL_{signal.upper()}_EXPORTER")(**arguments)


def _entries(group: str, name: str) -> Any:
    return entry_points(group=group, name=name)


def _load(group: str, name: str, variable: str) -> Callable[..., Any]:
    """Load an entry point, or say which variable asked for it."""
    found = list(_entries(group, name))
    if not found:
        known = sorted({entry.name for entry in entry_points(group=group)})
        raise ConfigurationError(f"{variable} names {name!r}, which is not installed: expected one of {known}")
    try:
        loaded: Callable[..., Any] = found[0].load()
    except ImportError as error:
        way_out = f": {INSTALL}" if name in EXPORTERS else ""
        raise ConfigurationError(f"{name!r} ({variable}) cannot be imported: {error}{way_out}") from error
    return loaded


def _id_generator() -> Any:
    """Return the generator that OTEL_PYTHON_ID_GENERATOR names; None for the SDK's own."""
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    return _load("opentelemetry_id_generator", name, "OTEL_PYTHON_ID_GENERATOR")() if name else None


def _configurator(kind: str, provider: type) -> dict[str, Any]:
    """Return the argument for OTEL_PYTHON_<KIND>_CONFIGURATOR, where it is set and this SDK knows it."""
    variable = f"OTEL_PYTHON_{kind.upper()}_CONFIGURATOR"
    name = os.environ.get(variable, "").strip()
    argument = f"_{kind}_configurator"
    if not name:
        return {}
    if argument not in inspect.signature(provider).parameters:
        _log.warning("%s is set, but this version of the OpenTelemetry SDK has no such thing", variable)
        return {}
    return {argument: _load(f"_opentelemetry_{kind}_configurator", name, variable)}
