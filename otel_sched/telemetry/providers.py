"""Floor 5: where telemetry goes: the providers that were passed in, else the global ones, as soon as there are any."""

from collections.abc import Sequence
from typing import Any

from opentelemetry import _logs, metrics, trace

from .._core import names
from .._core.version import VERSION
from . import interest
from .fast.histogram import attached
from .records import suppressed

SCHEMA_URL = "https://opentelemetry.io/schemas/1.34.0"
"""The semantic conventions whose stable attributes are used: error.type, exception.*, code.function.name."""

trace_state: Any = trace
metrics_state: Any = getattr(metrics, "_internal", None)
logs_state: Any = getattr(_logs, "_internal", None)
FAST = (
    hasattr(trace_state, "_TRACER_PROVIDER")
    and hasattr(metrics_state, "_METER_PROVIDER")
    and hasattr(logs_state, "_LOGGER_PROVIDER")
)
"""Whether the variables behind the public functions are where they were: they answer ten times as fast."""


def tracing() -> bool:
    """Say whether the application has set a global tracer provider."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def metering() -> bool:
    """Say whether the application has set a global meter provider."""
    return "Proxy" not in type(metrics.get_meter_provider()).__name__


def logging_out() -> bool:
    """Say whether the application has set a global logger provider."""
    return "Proxy" not in type(_logs.get_logger_provider()).__name__


def live() -> bool:
    """Say whether there is anybody to tell: a provider of any signal, or log lines that want job ids."""
    return tracing() or metering() or logging_out() or interest.correlating


class Providers:
    """The three providers of one observer, each of which may be None for the global one."""

    def __init__(self, tracer_provider: Any, meter_provider: Any, logger_provider: Any, *, fast: bool = True) -> None:
        self.fast = fast
        """Whether anything but the plain API may be used."""
        self.meter_provider = meter_provider
        self._logger_provider = logger_provider
        self.given = any(each is not None for each in (tracer_provider, meter_provider, logger_provider))
        self.tracer = trace.get_tracer(names.SCOPE, VERSION, tracer_provider, SCHEMA_URL)
        self._logger: Any = None
        self._histograms: dict[tuple[str, tuple[float, ...]] | None, tuple[Any, ...]] = {}
        self._fast: Any = None

    def live(self) -> bool:
        """Say whether there is anybody to tell."""
        return self.given or live()

    def logger(self) -> Any:
        """Return the logger for records of ours, or None where no logger provider was set."""
        if self._logger is None and (self._logger_provider is not None or logging_out()):
            self._logger = _logs.get_logger(names.SCOPE, VERSION, self._logger_provider, SCHEMA_URL)
        return self._logger

    def meter(self, attributes: dict[str, Any] | None = None) -> Any:
        """Return our meter; with *attributes* one of its own, whose instruments may have other buckets."""
        if attributes is None:
            return metrics.get_meter(names.SCOPE, VERSION, self.meter_provider, SCHEMA_URL)
        provider = self.meter_provider or metrics.get_meter_provider()
        return provider.get_meter(names.SCOPE, VERSION, SCHEMA_URL, attributes)

    def histograms(self, queue: str, buckets: Sequence[float] | None) -> tuple[Any, ...]:
        """Return the histograms of waits, runs and blocked puts, for all queues or for those of one name.

        They are made once: while there is no meter provider the API keeps whatever was made, for as long as it lives.
        """
        key = None if buckets is None else (queue, tuple(buckets))
        made = self._histograms.get(key)
        if made is None:
            if not self._histograms:  # decided once: no series may be half here, half there
                self._fast = self._attached()
            attributes = None if key is None else {names.QUEUE_NAME: queue}
            meter, bounds = self.meter(attributes), tuple(buckets or names.BUCKETS)
            if self._fast is not None and self._fast.takes(meter):
                made = tuple(self._fast.histogram(each, bounds, attributes) for each in _DURATIONS)
            else:
                made = tuple(_plain(meter, each, bounds) for each in _DURATIONS)
            self._histograms[key] = made
        return made

    def _attached(self) -> Any:
        """Return the fast metrics of the provider in use, unless its own histograms are in use already."""
        provider = self.meter_provider or metrics.get_meter_provider()
        fast = attached(provider)
        return fast if fast is not None and fast.alone(provider) else None


_DURATIONS = (names.WAIT_DURATION, names.RUN_DURATION, names.PUT_BLOCKED)


def _plain(meter: Any, instrument: names.Instrument, bounds: tuple[float, ...]) -> Any:
    return meter.create_histogram(
        instrument.name,
        unit=instrument.unit,
        description=instrument.description,
        explicit_bucket_boundaries_advisory=bounds,
    )


__all__ = ["FAST", "SCHEMA_URL", "Providers", "live", "logs_state", "metrics_state", "suppressed", "trace_state"]
