"""Floor 5: what `configure()` does to the application's logging, and how to take it back."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

from opentelemetry._logs import LoggerProvider

from .._core.errors import ConfigurationError
from .logs import JobFilter, OtlpHandler
from .settings import Settings
from .structlog import OtlpProcessor, add_job_context

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s [trace_id=%(trace_id)s job_id=%(job_id)s]"
"""The format of lines on stderr where the application had set up no logging."""

_log = logging.getLogger("otel_sched")


def install(settings: Settings, provider: LoggerProvider | None) -> Callable[[], None]:
    """Correlate the application's log lines and, with a *provider*, send them over OTLP; return how to undo
    it.

    Raises:
        ConfigurationError: structlog was asked for and is not there, or is the application's already.
    """
    processors = _structlog_wanted(settings)
    with ExitStack() as undo:
        if settings.logging:
            _install_stdlib(settings.log_level, provider, undo)
        if processors:
            _install_structlog(settings.log_level, provider, undo)
        return undo.pop_all().close


def _install_stdlib(level: int, provider: LoggerProvider | None, undo: ExitStack) -> None:
    """Put `JobFilter` on the root's handlers and `OtlpHandler` on the root.

    A root without a handler would lose its warnings on stderr (Python's last resort) to the new one, so it
    gets a handler for lines first.
    """
    root = logging.getLogger()
    if not root.handlers:
        lines = logging.StreamHandler()
        lines.setFormatter(logging.Formatter(LINE))
        before = root.level
        root.addHandler(lines)
        root.setLevel(level)
        undo.callback(lambda: root.setLevel(before) if root.level == level else None)
        undo.callback(root.removeHandler, lines)
    job_filter = JobFilter()
    for handler in root.handlers:
        handler.addFilter(job_filter)
        undo.callback(handler.removeFilter, job_filter)
    if provider is not None:
        sender = OtlpHandler(level, logger_provider=provider)
        root.addHandler(sender)
        undo.callback(sender.close)
        undo.callback(root.removeHandler, sender)


def _structlog_wanted(settings: Settings) -> bool:
    """Return whether structlog is ours to configure."""
    if settings.structlog is False:
        return False
    if find_spec("structlog") is None:
        if settings.structlog:
            raise ConfigurationError("structlog=True, but it is not installed: pip install 'otel-sched[structlog]'")
        return False
    import structlog

    if not structlog.is_configured():
        return True
    way_out = "add add_job_context and OtlpProcessor() of otel_sched.telemetry.structlog before its renderer"
    if settings.structlog:
        raise ConfigurationError(f"structlog=True, but the application has configured structlog already: {way_out}")
    _log.debug("structlog is configured already and left as it is: %s", way_out)
    return False


def _install_structlog(level: int, provider: LoggerProvider | None, undo: ExitStack) -> None:
    """Configure structlog for JSON lines, or coloured ones on a terminal.

    Undoing stops the export alone: loggers keep the processors they were made with, and lines go on.
    """
    import structlog

    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_job_context,
    ]
    if provider is not None:
        sender = OtlpProcessor(provider)
        processors.append(sender)
        undo.callback(sender.close)
    if sys.stdout is not None and sys.stdout.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
