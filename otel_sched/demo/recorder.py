"""Floor 6: what the demo shows of spans and log records: the pipeline's own, seen on their way to the exporter."""

import threading
from collections import deque
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind

from .._core import names
from .stories import LogNote, SpanNote, Stories

RECENT = 1000
"""Jobs of each queue that the percentiles are made of: the latest ones."""


class Recorder(SpanProcessor):
    """A processor of spans and of log records at once: counts them, and keeps what the view needs.

    It is no subclass of the SDK's LogRecordProcessor, whose method changed its name on the way.
    """

    def __init__(self) -> None:
        self.spans = 0
        self.log_records = 0
        self.stories = Stories()
        self._waits: dict[str, deque[float]] = {}
        self._runs: dict[str, deque[float]] = {}
        self._lock = threading.Lock()  # log records come from threads as well

    def on_end(self, span: ReadableSpan) -> None:
        """Take note of a span."""
        note = _span_note(span)
        with self._lock:
            self.spans += 1
            if note is None:
                return
            if note.queue is not None:
                self._waits.setdefault(note.queue, deque(maxlen=RECENT)).append(note.wait)
                self._runs.setdefault(note.queue, deque(maxlen=RECENT)).append(note.seconds)
            self.stories.add_span(note)

    def on_emit(self, data: Any) -> None:
        """Take note of a log record."""
        note = _log_note(data.log_record)
        with self._lock:
            self.log_records += 1
            if note.trace_id:
                self.stories.add_log(note)

    emit = on_emit

    def enabled(self, **_: Any) -> bool:
        """Take all records."""
        return True

    def waits(self, queue: str) -> list[float]:
        """Return the seconds that recent jobs of *queue* waited, the shortest first."""
        return sorted(self._waits.get(queue, ()))

    def runs(self, queue: str) -> list[float]:
        """Return the seconds that recent jobs of *queue* ran, the shortest first."""
        return sorted(self._runs.get(queue, ()))


def percentile(ordered: list[float], percent: float) -> float | None:
    """Return the value that *percent* of the values do not exceed; None where there is none."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def _span_note(span: ReadableSpan) -> SpanNote | None:
    context, attributes = span.context, span.attributes or {}
    if context is None or span.start_time is None or span.end_time is None:
        return None
    wait = attributes.get(names.JOB_WAIT)
    is_job = span.kind is SpanKind.CONSUMER and isinstance(wait, float)
    return SpanNote(
        name=span.name,
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=None if span.parent is None else span.parent.span_id,
        start=span.start_time,
        end=span.end_time,
        queue=str(attributes[names.QUEUE_NAME]) if is_job else None,
        wait=wait if isinstance(wait, float) else 0.0,
        outcome=_text(attributes.get(names.JOB_OUTCOME)),
        error=_text(attributes.get(names.ERROR_TYPE)),
        links=tuple((link.context.trace_id, link.context.span_id) for link in span.links),
    )


def _log_note(record: Any) -> LogNote:
    attributes = record.attributes or {}
    text, message = str(record.body), str(attributes.get(names.EXCEPTION_MESSAGE, ""))
    if names.EXCEPTION_TYPE in attributes:
        error = f"{str(attributes[names.EXCEPTION_TYPE]).rpartition('.')[2]}: {message}".rstrip(": ")
        # Of what the library itself emits the reason comes last, and would be cut off.
        text = error if names.JOB_OUTCOME in attributes else f"{text}: {error}"
    return LogNote(
        at=record.timestamp or record.observed_timestamp or 0,
        trace_id=record.trace_id or 0,
        span_id=record.span_id or 0,
        level=(record.severity_text or "").lower(),
        text=text,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
