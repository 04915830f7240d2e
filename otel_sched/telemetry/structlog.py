"""Floor 5: two structlog processors: a job's identity on every line, and every line over OTLP.

Put both before the renderer and before `format_exc_info`, `add_job_context` first. Neither needs structlog
itself.
"""

import logging
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from opentelemetry._logs import Logger, LoggerProvider, get_logger

from . import logs
from .interest import correlate
from .records import emit_record, exception_attributes, severity, suppressed, wants

_LEVELS: Mapping[str, int] = {
    "notset": logging.NOTSET,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "msg": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "err": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "failure": logging.CRITICAL,
}
_SCOPE = "structlog"
_MAX_LOGGERS = 1000
_log = logging.getLogger("otel_sched")


def level_of(method: str, event: Mapping[str, Any]) -> int:
    """Return the level of `logging` that an event was logged at."""
    return _LEVELS.get(str(event.get("level", method)).lower(), _LEVELS.get(method, logging.INFO))


def add_job_context(_logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `trace_id`, `span_id`, `trace_flags`, `queue`, `job_id`, `job_name` and `attempt` where they apply.

    Keys that the event already has stay as they are. A processor: `structlog.configure(processors=[...])`.
    """
    correlate()
    for name, value in logs.correlation().items():
        event_dict.setdefault(name, value)
    level = level_of(method, event_dict)
    if level >= logging.ERROR:
        logs.note_error(level, logs.event_error(event_dict))
    return event_dict


class OtlpProcessor:
    """Sends every event to OpenTelemetry's log pipeline and passes it on unchanged.

    Where structlog writes through `logging` and a `logs.OtlpHandler` will see the line there, the handler
    sends it and this processor does not, so that each line goes out once.

    Args:
        logger_provider: Where to; the global provider by default, also one that is set later.
    """

    def __init__(self, logger_provider: LoggerProvider | None = None) -> None:
        self._provider = logger_provider
        self._loggers: dict[str, Logger] = {}
        self._open = True
        self._failed = False
        correlate()

    def __call__(self, logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Send *event_dict*; a failure is logged once and never reaches the caller."""
        if not self._open or suppressed():
            return event_dict
        try:
            self._send(logger, method, event_dict)
        except Exception:
            if not self._failed:
                self._failed = True
                _log.exception("a structlog event could not be sent over OTLP (reported once)")
        return event_dict

    def close(self) -> None:
        """Send nothing from now on; events still pass through."""
        self._open = False

    def _send(self, logger: Any, method: str, event: Mapping[str, Any]) -> None:
        level = level_of(method, event)
        error = logs.event_error(event)
        logs.note_error(level, error, exported=True)
        if isinstance(logger, logging.Logger) and _handled(logger, level):
            return
        number, name = severity(level)
        sink = self._logger(str(event.get("logger") or getattr(logger, "name", None) or _SCOPE))
        if not wants(sink, number):
            return
        body, attributes = logs.event_parts(event, logs.correlation())
        if error is not None:
            attributes |= exception_attributes(error)
        emit_record(
            sink,
            body=body,
            severity_number=number,
            severity_text=name,
            attributes=attributes,
            timestamp=time.time_ns(),
        )

    def _logger(self, name: str) -> Logger:
        logger = self._loggers.get(name)
        if logger is None:
            if len(self._loggers) >= _MAX_LOGGERS:
                self._loggers = {}
            logger = self._loggers[name] = get_logger(name, logger_provider=self._provider)
        return logger


def _handled(logger: logging.Logger, level: int) -> bool:
    """Return whether a line that *logger* writes at *level* reaches an `OtlpHandler`."""
    if not logger.isEnabledFor(level):
        return False
    at: logging.Logger | None = logger
    while at is not None:
        if any(isinstance(handler, logs.OtlpHandler) and handler.level <= level for handler in at.handlers):
            return True
        at = at.parent if at.propagate else None
    return False
