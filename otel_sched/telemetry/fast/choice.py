"""Floor 5: whether jobs' spans may be light ones: with the SDK's own tracer, as far as this module knows that SDK."""

import functools
import logging
from typing import Any

from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from ..._core import names
from ..._core.ledger import Ledger
from ..._core.version import VERSION
from ..providers import SCHEMA_URL, Providers
from .kept import keeper_of
from .listener import FastListener
from .spans import KNOWN

_log = logging.getLogger("otel_sched")


def fast_listener(providers: Providers, ledger: Ledger, provider: TracerProvider) -> FastListener | None:
    """Return a listener that makes light spans for *provider*; None where its tracer does what they do not."""
    tracer: Any = provider.get_tracer(names.SCOPE, VERSION, SCHEMA_URL)
    if type(tracer) is not Tracer or not understood():
        return None
    enabled = getattr(tracer, "_is_enabled", None)
    metrics = type(getattr(tracer, "_tracer_metrics", None)).__name__
    if (enabled is not None and not enabled()) or metrics not in ("NoneType", "NoOpTracerMetrics"):
        return None  # switched off by a configurator; or the SDK counts its spans, one by one
    return FastListener(providers, ledger, tracer, keeper_of(provider))


@functools.cache
def understood() -> bool:
    """Say whether the SDK's spans are made of what light spans know of; once for each process."""
    try:
        provider = TracerProvider(shutdown_on_exit=False)
        span = provider.get_tracer(names.SCOPE, VERSION, SCHEMA_URL).start_span("probe")
        unknown = set(vars(span)) - KNOWN
        context = tuple(SpanContext(1, 2, False, TraceFlags(1), None))
        _ = provider.get_tracer(names.SCOPE)._span_limits.max_span_attributes  # type: ignore[attr-defined]
    except Exception as error:
        _log.info("light spans are off: this version of the OpenTelemetry SDK is not known: %r", error)
        return False
    if unknown:
        _log.info("light spans are off: the SDK's spans have %s, which is not known", ", ".join(sorted(unknown)))
        return False
    return context == (1, 2, False, TraceFlags(1), TraceState(), True)
