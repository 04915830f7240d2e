"""Floor 5: one way to emit an OpenTelemetry log record on every API version, and what may stand in one.

The OTLP encoders fail a whole batch over one value that they cannot encode (a lone surrogate, an int of 65
bits), so everything that comes from an application passes through `attribute` or `text` first.
"""

import inspect
import time
import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import AttributeValue

from .._core.job import type_name
from .._core.names import EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE, STACKTRACE_LIMIT

_CUT = " ... [cut] ... "
_INT64 = 1 << 63
_NAMES = {10: "DEBUG", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "FATAL"}
SUPPRESS: str = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
_EMITS_FIELDS = "severity_number" in inspect.signature(Logger.emit).parameters


def text(value: str, limit: int = STACKTRACE_LIMIT) -> str:
    """Return *value* as UTF-8 can hold it, in at most *limit* bytes: the middle is cut."""
    if len(value) <= limit and value.isascii():
        return value if type(value) is str else str.__str__(value)
    data = value.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    head = limit // 4
    tail = limit - head - len(_CUT)
    return data[:head].decode("utf-8", "ignore") + _CUT + data[-tail:].decode("utf-8", "ignore")


def attribute(value: object) -> AttributeValue | None:
    """Return *value* as OTLP can carry it: primitives and plain lists of them, all else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return text(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, list | tuple) and len({type(each) for each in value}) == 1:
        return _sequence(value)
    return text(_shown(value))


def _sequence(values: list[Any] | tuple[Any, ...]) -> AttributeValue:
    """Return a list of one primitive type as a tuple, any other as text."""
    if type(values[0]) in (bool, float, str) or (
        type(values[0]) is int and all(-_INT64 <= each < _INT64 for each in values)
    ):
        return tuple(text(each) if isinstance(each, str) else each for each in values)
    return text(_shown(values))


def _shown(value: object) -> str:
    """Return str(value), whatever the value's own methods do."""
    try:
        return str(value)
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def message(error: BaseException) -> str:
    """Return what a span's status says of *error*, whatever its `__str__` does."""
    return text(_shown(error), 1024)


def exception_attributes(error: BaseException) -> dict[str, AttributeValue]:
    """Return `exception.type` (qualified), `exception.message` and `exception.stacktrace` (cut)."""
    return {
        EXCEPTION_TYPE: type_name(error),
        EXCEPTION_MESSAGE: text(_shown(error)),
        EXCEPTION_STACKTRACE: text("".join(traceback.format_exception(error))),
    }


def severity(level: int) -> tuple[SeverityNumber, str | None]:
    """Return OpenTelemetry's severity for a level of `logging`, and its name for the five that have one."""
    return SeverityNumber(min(24, max(1, int(level * 0.4) + 1))), _NAMES.get(level)


def suppressed() -> bool:
    """Return whether an exporter is at work here: what it logs must not become more to export."""
    return bool(otel_context.get_value(SUPPRESS) or otel_context.get_value("suppress_instrumentation"))


def wants(logger: Logger, number: SeverityNumber) -> bool:
    """Return whether *logger* would pass a record on; True where the API, or a processor, is too old to say."""
    enabled = getattr(logger, "enabled", None)
    try:
        return True if enabled is None else bool(enabled(severity_number=number))
    except Exception:
        return True


def emit_record(
    logger: Logger,
    *,
    body: str,
    severity_number: SeverityNumber,
    severity_text: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    timestamp: int | None = None,
    context: Context | None = None,
    event_name: str | None = None,
) -> None:
    """Emit one log record.

    Args:
        timestamp: Nanoseconds since the epoch; now by default.
        context: Whose span the record belongs to; the current one by default.
        event_name: Left out where the API has no room for it (before 1.35).
    """
    fields: dict[str, Any] = {
        "timestamp": time.time_ns() if timestamp is None else timestamp,
        "observed_timestamp": time.time_ns(),
        "severity_number": severity_number,
        "severity_text": severity_text,
        "body": body,
        "attributes": dict(attributes or {}),
    }
    if _EMITS_FIELDS:
        logger.emit(context=context, event_name=event_name, **fields)
    else:
        _emit_object(logger, fields, context, event_name)


def _emit_object(logger: Any, fields: dict[str, Any], context: Context | None, event_name: str | None) -> None:
    """Emit through an API that wants the SDK's own record (before 1.37)."""
    logger = getattr(logger, "_logger", logger)  # behind the proxy: the record needs the real one's resource
    if not hasattr(logger, "resource"):
        return
    from opentelemetry.sdk import _logs as sdk_logs

    record_class: Any = sdk_logs.LogRecord  # type: ignore[attr-defined, unused-ignore]
    known = inspect.signature(record_class.__init__).parameters
    if "context" in known:
        fields |= {"context": context if context is not None else otel_context.get_current()}
        fields |= {"event_name": event_name}
    else:
        span = get_current_span(context).get_span_context()
        fields |= {"trace_id": span.trace_id, "span_id": span.span_id, "trace_flags": span.trace_flags}
    logger.emit(record_class(resource=logger.resource, **fields))
