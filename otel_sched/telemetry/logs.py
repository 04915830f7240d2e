"""Floor 5: a job's identity on every stdlib log line, and those lines over OTLP.

`JobFilter` belongs on handlers that write lines, `OtlpHandler` on the root logger. Both also tell the running
job of an exception that was logged under it: the commonest worker logs its failure, swallows it and calls
task_done().
"""

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import Logger, LoggerProvider, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from .._core.ledger import current_job
from .._core.names import EXCEPTION_STACKTRACE, JOB_ATTEMPT, JOB_ID, JOB_NAME, QUEUE_NAME
from .interest import correlate
from .records import attribute, emit_record, exception_attributes, severity, suppressed, text, wants

DEFAULTS: Mapping[str, str | None] = {
    "trace_id": "",
    "span_id": "",
    "trace_flags": "",
    "queue": "",
    "job_id": "",
    "job_name": "",
    "attempt": None,
}
"""The fields of a log line, and what they say where there is no span and no job."""

EMITTED = "otel_sched_emitted"
"""Set to True on a `logging.LogRecord` that has gone out over OTLP already: `OtlpHandler` then leaves it."""

_OTLP_NAMES = {"queue": QUEUE_NAME, "job_id": JOB_ID, "job_name": JOB_NAME, "attempt": JOB_ATTEMPT}
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", EMITTED})
_EVENT_KEYS = frozenset({"event", "level", "logger", "timestamp", "exc_info", "exception"})
_MAX_LOGGERS = 1000
_here = threading.local()


def correlation() -> dict[str, str | int]:
    """Return the fields of a log line written here and now: the span's, if any, and the job's."""
    fields: dict[str, str | int] = {}
    span = get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = format(span.trace_id, "032x")
        fields["span_id"] = format(span.span_id, "016x")
        fields["trace_flags"] = format(span.trace_flags, "02x")
    job = current_job()
    if job is not None:
        fields["queue"] = job.queue
        fields["job_id"] = job.id
        if job.name:
            fields["job_name"] = job.name
        fields["attempt"] = job.attempt
    return fields


def note_error(level: int, error: BaseException | None, *, exported: bool = False) -> None:
    """Tell the running job of *error*, which is being logged at *level* of `logging`."""
    if error is not None and level >= logging.ERROR and (job := current_job()) is not None:
        job.note_error(error, exported=exported)


def stamp(record: logging.LogRecord) -> None:
    """Give *record* the correlation fields it has not got, so that a format string may name them all."""
    fields = correlation()
    known = record.__dict__
    for name, default in DEFAULTS.items():
        if name not in known:
            known[name] = fields.get(name, default)
    note_error(record.levelno, _raised(record.exc_info))


def _raised(exc_info: object) -> BaseException | None:
    """Return the exception that an `exc_info` in any of its forms stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 and isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def otlp_attributes(extra: Mapping[str, Any], fields: Mapping[str, str | int]) -> dict[str, AttributeValue]:
    """Return the attributes of a record: *extra* made fit for OTLP, and the job of *fields* by its span's
    names.

    Correlation fields inside *extra* are left out, for the record has them natively; a field of the same name
    that the application set itself stays. Names with a leading underscore are nobody's business.
    """
    attributes: dict[str, AttributeValue] = {
        name: fields[field] for field, name in _OTLP_NAMES.items() if field in fields
    }
    for name, value in extra.items():
        ours = name in DEFAULTS and value in (DEFAULTS[name], fields.get(name))
        if not ours and not name.startswith("_") and (fit := attribute(value)) is not None:
            attributes[name] = fit
    return attributes


def event_parts(event: Mapping[str, Any], fields: Mapping[str, str | int]) -> tuple[str, dict[str, AttributeValue]]:
    """Return body and attributes for one of structlog's event dictionaries, its exception left out."""
    extra = {str(name): value for name, value in event.items() if name not in _EVENT_KEYS}
    attributes = otlp_attributes(extra, fields)
    if isinstance(rendered := event.get("exception"), str):
        attributes[EXCEPTION_STACKTRACE] = text(rendered)
    return body_text(event.get("event", "")), attributes


def event_error(event: Mapping[str, Any]) -> BaseException | None:
    """Return the exception that one of structlog's event dictionaries carries."""
    return _raised(event.get("exc_info"))


def body_text(body: object) -> str:
    """Return *body* as text that UTF-8 can hold, whole."""
    return str(body).encode("utf-8", "backslashreplace").decode()


class JobFilter(logging.Filter):
    """Adds `trace_id`, `span_id`, `trace_flags`, `queue`, `job_id`, `job_name` and `attempt` to every record.

    Put it on a handler: a logger's own filters do not see the records of the loggers below it. It lets every
    record pass, never overwrites an attribute, and outside of jobs and spans the fields are empty (`attempt`:
    None).
    """

    def __init__(self) -> None:
        super().__init__()
        correlate()

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp *record* and let it pass."""
        stamp(record)
        return True


class OtlpHandler(logging.Handler):
    """Sends records to OpenTelemetry's log pipeline, with the trace and the job they belong to.

    Records of `opentelemetry.*`, and whatever an exporter logs while it works, stay out.

    Args:
        level: The least level to send.
        logger_provider: Where to; the global provider by default, also one that is set later.
    """

    def __init__(self, level: int = logging.NOTSET, *, logger_provider: LoggerProvider | None = None) -> None:
        super().__init__(level)
        self._provider = logger_provider
        self._loggers: dict[str, Logger] = {}
        correlate()

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*; a failure goes to `handleError`, as for every handler, and never to the caller."""
        if self._leaves(record):
            return
        _here.emitting = True
        try:
            self._send(record)
        except Exception:
            self.handleError(record)
        finally:
            _here.emitting = False

    def _leaves(self, record: logging.LogRecord) -> bool:
        """Return whether sending *record* would repeat or feed upon itself."""
        return (
            getattr(record, EMITTED, False) is True
            or record.name == "opentelemetry"
            or record.name.startswith("opentelemetry.")
            or getattr(_here, "emitting", False)
            or suppressed()
        )

    def _send(self, record: logging.LogRecord) -> None:
        event = record.msg if isinstance(record.msg, dict) and not record.args and "event" in record.msg else None
        error = _raised(record.exc_info) or (event_error(event) if event is not None else None)
        note_error(record.levelno, error, exported=True)
        number, name = severity(record.levelno)
        logger = self._logger(record.name)
        if not wants(logger, number):
            return
        fields, context = _whereabouts(record)
        extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        attributes = otlp_attributes(extra, fields)
        body = body_text(record.getMessage()) if event is None else ""
        if event is not None:  # structlog through its ProcessorFormatter: still a dictionary here
            body, rest = event_parts(event, fields)
            attributes |= rest
        if error is not None:
            attributes |= exception_attributes(error)
        elif record.exc_text:
            attributes[EXCEPTION_STACKTRACE] = text(record.exc_text)
        emit_record(
            logger,
            body=body,
            severity_number=number,
            severity_text=name or record.levelname,
            attributes=attributes,
            timestamp=int(record.created * 1e9),
            context=context,
        )

    def _logger(self, name: str) -> Logger:
        """Return the OpenTelemetry logger of that name; an application uses few names, but who knows."""
        logger = self._loggers.get(name)
        if logger is None:
            if len(self._loggers) >= _MAX_LOGGERS:
                self._loggers = {}
            logger = self._loggers[name] = get_logger(name, logger_provider=self._provider)
        return logger


def _whereabouts(record: logging.LogRecord) -> tuple[Mapping[str, str | int], Context | None]:
    """Return the correlation fields of *record* and the context it belongs to (None: the current one).

    A record that reaches its handler in another thread, through a `QueueListener`, was stamped where it was
    made.
    """
    if record.thread is None or record.thread == threading.get_ident():
        return correlation(), None
    known = record.__dict__
    fields = {name: known[name] for name, empty in DEFAULTS.items() if known.get(name, empty) != empty}
    try:
        span = SpanContext(
            int(fields["trace_id"], 16),
            int(fields["span_id"], 16),
            False,
            TraceFlags(int(fields["trace_flags"], 16)),
        )
    except (KeyError, TypeError, ValueError):
        return fields, Context()
    return fields, set_span_in_context(NonRecordingSpan(span), Context())
