"""Floor 5: `configure()`: SDK, OTLP export, resource and logging in one call. Imports no SDK before that."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import _logs as otel_logs
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace

from .._core.errors import ConfigurationError
from .endpoint import INSTALL
from .fast.attaching import attach
from .handle import Telemetry
from .keep import Keep
from .settings import Settings

__all__ = ["Telemetry", "attach", "configure"]

_lock = threading.Lock()
_active: Telemetry | None = None


def configure(
    *,
    service_name: str | None = None,
    service_version: str | None = None,
    endpoint: str | None = None,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool | None = None,
    resource: Mapping[str, Any] | None = None,
    sampler: Any = None,
    sampling_ratio: float | None = None,
    keep: Keep | None = None,
    traces: bool = True,
    metrics: bool = True,
    logs: bool = True,
    metric_interval: float | None = None,
    export_timeout: float | None = None,
    logging: bool = True,
    structlog: bool | None = None,
    log_level: int | str = "INFO",
    span_processors: Sequence[Any] = (),
    log_processors: Sequence[Any] = (),
    metric_readers: Sequence[Any] = (),
    shutdown_on_exit: bool = True,
    exit_timeout: float = 5.0,
) -> Telemetry:
    """Set up OpenTelemetry's SDK, OTLP export and the application's logging, and make them the global ones.

    An argument wins over the `OTEL_*` variable, a variable over the default. Called again with the same
    arguments it returns the same handle. Set up your own logging before calling it.

    Args:
        service_name: The resource's `service.name`.
        service_version: The resource's `service.version`.
        endpoint: Base URL of an OTLP receiver; by default `http://localhost:4317`.
        protocol: `grpc` or `http/protobuf`; by default what the endpoint looks like (port 4318 or a path:
            HTTP).
        headers: Sent with every export.
        insecure: True for gRPC without TLS; needed only for an endpoint variable without a scheme.
        resource: Further attributes of the resource.
        sampler: An SDK sampler; by default parent-based, and a job that is only linked to its producer is
            kept when the producer's trace is.
        sampling_ratio: The share of new traces to keep, 0 to 1, in place of a sampler.
        keep: Which jobs to export although their trace was not sampled, decided when they end; see `Keep`.
        traces, metrics, logs: Which signals to set up.
        metric_interval: Seconds between exports of metrics; 15 by default.
        export_timeout: Seconds that one export may take; 10 by default.
        logging: Put the job's fields on the lines of the root logger's handlers, and send its records.
        structlog: Configure structlog; by default when it is installed and not configured yet.
        log_level: The least level to send, and to write where logging was not set up before.
        span_processors, log_processors, metric_readers: SDK objects to add to the pipeline.
        shutdown_on_exit: Export what waits when the interpreter exits.
        exit_timeout: Seconds that the exit may be held up by that.

    Raises:
        TypeError: An argument is of the wrong type.
        ConfigurationError: Arguments and variables contradict each other, `configure()` was called with
            others before, the application has set a provider of its own, or a package is missing. Nothing was
            set up.
    """
    global _active
    arguments = dict(locals())
    settings = Settings(**arguments)
    with _lock:
        if _active is None:
            _active = _start(settings)
        else:
            _same(_active, settings)
        return _active


def _start(settings: Settings) -> Telemetry:
    """Build everything, then make it global: what can fail comes first."""
    try:
        from .applog import install
        from .pipeline import build
    except ImportError as error:
        raise ConfigurationError(f"configure() needs the OpenTelemetry SDK ({error}): {INSTALL}") from error
    _refuse_foreign(settings)
    pipeline = build(settings)
    try:
        restore_logging = install(settings, pipeline.logger_provider)
    except BaseException:
        for _, provider in pipeline.providers():
            provider.shutdown()
        raise
    telemetry = Telemetry(settings, pipeline, restore_logging)
    if pipeline.tracer_provider is not None:
        otel_trace.set_tracer_provider(pipeline.tracer_provider)
    if pipeline.meter_provider is not None:
        otel_metrics.set_meter_provider(pipeline.meter_provider)
    if pipeline.logger_provider is not None:
        otel_logs.set_logger_provider(pipeline.logger_provider)
    return telemetry


def _refuse_foreign(settings: Settings) -> None:
    """Raise when a signal that is to be set up has a provider already: OpenTelemetry lets it be set once."""
    for signal, on, provider in (
        ("traces", settings.traces, otel_trace.get_tracer_provider()),
        ("metrics", settings.metrics, otel_metrics.get_meter_provider()),
        ("logs", settings.logs, otel_logs.get_logger_provider()),
    ):
        if on and "Proxy" not in type(provider).__name__:
            raise ConfigurationError(
                f"a provider for {signal} is set already ({type(provider).__name__}): drop configure(), "
                f"otel_sched uses that provider as it is; or leave this signal out with {signal}=False"
            )


def _same(active: Telemetry, settings: Settings) -> None:
    """Raise unless *active* is running and was made with equal settings."""
    if active.closed:
        raise ConfigurationError(
            "what was shut down cannot be set up again: OpenTelemetry's providers are set once per process"
        )
    if differences := active.settings.differences(settings):
        raise ConfigurationError(f"configure() was called before with other arguments: {'; '.join(differences)}")
