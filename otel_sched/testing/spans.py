"""Floor 6: questions to spans and log records that were told, in the words of the telemetry contract."""

from typing import TYPE_CHECKING, Any, Self

from .._core import names
from .found import Found

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan
else:
    ReadableLogRecord = ReadableSpan = object

ANY: Any = type("Any", (), {"__repr__": lambda _: "ANY"})()
"""Stands for whatever value an attribute has."""


class Spans(Found[ReadableSpan]):
    """Spans that have ended, oldest end first."""

    _noun = "span"

    def named(self, name: str) -> Self:
        """Keep those of that name, such as `process orders`."""
        return self._keep(lambda span: span.name == name, f"named {name!r}")

    def of_queue(self, name: str) -> Self:
        """Keep those of the queue of that name."""
        return self._keep(_has(names.QUEUE_NAME, name), f"of queue {name!r}")

    def of_job(self, job_id: str) -> Self:
        """Keep those of the job with that id: its put, its run, and calls of instrumented functions."""
        return self._keep(_has(names.JOB_ID, job_id), f"of job {job_id!r}")

    def with_outcome(self, outcome: str) -> Self:
        """Keep those of jobs that ended so: `ok`, `error`, `timeout`, `cancelled`, ..."""
        return self._keep(_has(names.JOB_OUTCOME, str(outcome)), f"with outcome {str(outcome)!r}")

    def with_attribute(self, name: str, value: Any = ANY) -> Self:
        """Keep those with that attribute; with that value, where one is given."""
        return self._keep(_has(name, value), f"with {_equal(name, value)}")

    def with_event(self, name: str) -> Self:
        """Keep those that have an event of that name."""
        return self._keep(lambda span: any(each.name == name for each in span.events), f"with an event {name!r}")

    def of_trace(self, trace: Any) -> Self:
        """Keep those of one trace: a span, a span context, or a trace id as a number or in hexadecimal."""
        trace_id = trace_id_of(trace)
        return self._keep(lambda span: _context(span).trace_id == trace_id, f"of trace {trace_id:032x}")

    def children_of(self, span: Any) -> Self:
        """Keep those whose parent is *span*."""
        parent = _context(span)
        return self._keep(
            lambda each: each.parent is not None and _ids(each.parent) == _ids(parent), f"with parent {_called(span)}"
        )

    def linked_to(self, span: Any) -> Self:
        """Keep those that have a link to *span*."""
        target = _ids(_context(span))
        return self._keep(
            lambda each: any(_ids(link.context) == target for link in each.links), f"linked to {_called(span)}"
        )

    @classmethod
    def _line(cls, thing: Any) -> str:
        attributes = thing.attributes or {}
        queue = attributes.get(names.QUEUE_NAME)
        parts = [repr(thing.name)] if queue is None else [repr(thing.name), f"of queue {queue!r}"]
        said = (attributes.get(name) for name in (names.JOB_NAME, names.JOB_OUTCOME, names.ERROR_TYPE))
        return " ".join([*parts, *(str(each) for each in said if each), f"trace {_context(thing).trace_id:032x}"])


class Logs(Found[ReadableLogRecord]):
    """Log records, oldest first; `each.log_record` has body, severity and attributes."""

    _noun = "log record"

    def of_queue(self, name: str) -> Self:
        """Keep those about the queue of that name, or about its jobs."""
        return self._keep(lambda each: _has(names.QUEUE_NAME, name)(each.log_record), f"of queue {name!r}")

    def of_job(self, job_id: str) -> Self:
        """Keep those about the job with that id, or written by it."""
        return self._keep(lambda each: _has(names.JOB_ID, job_id)(each.log_record), f"of job {job_id!r}")

    def of_event(self, name: str) -> Self:
        """Keep those of that event name, such as `otel_sched.job.exception`."""
        return self._keep(lambda each: getattr(each.log_record, "event_name", None) == name, f"of event {name!r}")

    def of_trace(self, trace: Any) -> Self:
        """Keep those of one trace: a span, a span context, or a trace id as a number or in hexadecimal."""
        trace_id = trace_id_of(trace)
        return self._keep(lambda each: each.log_record.trace_id == trace_id, f"of trace {trace_id:032x}")

    def of_span(self, span: Any) -> Self:
        """Keep those that were written while *span* was current."""
        wanted = _ids(_context(span))
        return self._keep(
            lambda each: (each.log_record.trace_id, each.log_record.span_id) == wanted, f"of {_called(span)}"
        )

    def at_least(self, level: int) -> Self:
        """Keep those of that level of `logging`, or of a graver one."""
        from ..telemetry.records import severity

        least = severity(level)[0].value
        return self._keep(
            lambda each: each.log_record.severity_number is not None and each.log_record.severity_number.value >= least,
            f"of level {level} or more",
        )

    def containing(self, text: str) -> Self:
        """Keep those whose body has that text in it."""
        return self._keep(lambda each: text in str(each.log_record.body), f"containing {text!r}")

    def with_attribute(self, name: str, value: Any = ANY) -> Self:
        """Keep those with that attribute; with that value, where one is given."""
        return self._keep(lambda each: _has(name, value)(each.log_record), f"with {_equal(name, value)}")

    @classmethod
    def _line(cls, thing: Any) -> str:
        record = thing.log_record
        queue = (record.attributes or {}).get(names.QUEUE_NAME)
        about = "" if queue is None else f" of queue {queue!r}"
        event = getattr(record, "event_name", None)
        return f"{record.severity_text or ''}{about}{f' {event}' if event else ''}: {str(record.body)!r}".strip()


def trace_id_of(trace: Any) -> int:
    """Return the trace id that is meant by a number, its hexadecimal text, a span, or a span context."""
    if isinstance(trace, int) and not isinstance(trace, bool):
        return trace
    if isinstance(trace, str):
        try:
            return int(trace, 16)
        except ValueError:
            raise ValueError(f"a trace id has hexadecimal digits alone, not {trace!r}") from None
    found: int = _context(trace).trace_id
    return found


def _context(span: Any) -> Any:
    """Return the context of a span, or of what is one itself."""
    if hasattr(span, "trace_id") and hasattr(span, "span_id"):
        return span
    if hasattr(span, "get_span_context"):
        return span.get_span_context()
    raise TypeError(f"expected a span or its context, got {span!r}: ask .one() for a single span first")


def _ids(context: Any) -> tuple[int, int]:
    return context.trace_id, context.span_id


def _called(span: Any) -> str:
    context = _context(span)
    return f"span {span.name!r}" if hasattr(span, "name") else f"span {context.span_id:016x}"


def _has(name: str, value: Any) -> Any:
    def has(told: Any) -> bool:
        attributes = told.attributes or {}
        return name in attributes and (value is ANY or attributes[name] == value)

    return has


def _equal(name: str, value: Any) -> str:
    return f"attribute {name}" if value is ANY else f"{name}={value!r}"
