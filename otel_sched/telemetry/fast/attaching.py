"""Floor 5: `attach()`, which has durations kept here for an application's own meter provider. Imports no SDK."""

import logging
import threading
from typing import Any

from opentelemetry import metrics

from .histogram import ATTACHED, LIMIT, attached

_log = logging.getLogger("otel_sched")
_lock = threading.Lock()

LATER = (
    "durations of jobs do not reach the metric reader that was added: %s. Give all readers to MeterProvider(...), or "
    "to configure(metric_readers=...), from the start: then they are recorded the plain way, which reaches them all"
)


def attach(meter_provider: metrics.MeterProvider | None = None) -> bool:
    """Make the histograms of job durations cheap, for an application that set up its own `MeterProvider`.

    Call it once, after the provider was made and before the first queue is used; `configure()` does so itself. The
    telemetry is the same. It needs the SDK's own provider with one `PeriodicExportingMetricReader`, and neither a
    View nor an aggregation of its own for these histograms.

    Args:
        meter_provider: The provider; None for the global one.

    Returns:
        True when it is so now. False where it cannot be: a warning says why, and nothing has changed.

    Raises:
        TypeError: *meter_provider* is not a meter provider.
    """
    reason = try_to_attach(meter_provider)
    if reason is not None:
        _log.warning("attach(): durations are recorded through the meter provider's own histograms: %s", reason)
    return reason is None


def try_to_attach(meter_provider: metrics.MeterProvider | None) -> str | None:
    """Do as `attach`, and return the reason where it cannot be."""
    if meter_provider is not None and not isinstance(meter_provider, metrics.MeterProvider):
        raise TypeError(f"meter_provider must be a MeterProvider, not {type(meter_provider).__name__}")
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    with _lock:
        if attached(provider) is not None:
            return None
        try:
            return _attach(provider)
        except ImportError:
            return "there is no OpenTelemetry SDK"
        except Exception as error:  # private names of the SDK have moved
            return f"this version of the OpenTelemetry SDK is not known: {type(error).__name__}: {error}"


def _attach(provider: Any) -> str | None:
    """Attach, or return why not. All that may fail comes before the first change."""
    from .metrics import TICK, FastMetrics, tick
    from .refusal import keeps_exemplars, limit, only_reader, temporality, why_not

    reason = why_not(provider)
    if reason is not None:
        return reason
    reader = only_reader(provider)
    fast = FastMetrics(limit(reader, LIMIT), keeps_exemplars(provider))
    fast.join(reader, temporality(reader)).wrap(reader._exporter)
    provider.get_meter(TICK).create_observable_gauge(TICK, [tick])
    setattr(provider, ATTACHED, fast)
    _join_later_readers(provider, fast)
    return None


def _join_later_readers(provider: Any, fast: Any) -> None:
    """Have readers that are added from here on get our histograms too, or say that they do not."""
    from .refusal import temporality, why_not_reader

    add = getattr(provider, "add_metric_reader", None)
    if add is None:
        return

    def add_metric_reader(metric_reader: Any) -> None:
        add(metric_reader)
        if any(port.reader is metric_reader for port in fast.ports):
            return
        try:
            reason = why_not_reader(metric_reader)
            if reason is None:
                fast.join(metric_reader, temporality(metric_reader)).wrap(metric_reader._exporter)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            _log.warning(LATER, reason)

    provider.add_metric_reader = add_metric_reader


__all__ = ["attach", "attached"]
