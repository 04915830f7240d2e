"""OpenTelemetry's providers are set once per process; a test that calls configure() needs them as new."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.util._once import Once

from otel_sched.telemetry import setup

_GLOBALS: tuple[tuple[Any, str], ...] = (
    (trace, "_TRACER_PROVIDER"),
    (metrics_internal, "_METER_PROVIDER"),
    (logs_internal, "_LOGGER_PROVIDER"),
)


def _forget() -> None:
    for module, name in _GLOBALS:
        setattr(module, name, None)
        setattr(module, f"{name}_SET_ONCE", Once())
    metrics_internal._PROXY_METER_PROVIDER = metrics_internal._ProxyMeterProvider()
    setup._active = None


@contextmanager
def as_new() -> Iterator[None]:
    """Let the block configure what a process may configure once: the three providers, structlog, the root
    logger.

    A handle that the block leaves open is closed. Instruments made before the block stay with their own
    meter.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    _forget()
    structlog.reset_defaults()
    try:
        yield
    finally:
        if setup._active is not None:
            setup._active.close(timeout=0.2)  # its receiver may be gone already
        _forget()
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
