"""Floor 6: the spans and log lines of recent orders, and which order makes the better story. Bounded in memory."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_TRACES = 2000
MAX_LINES = 200
"""Spans, and log lines, that are kept of one trace."""
CHANGE_AFTER = 5.0
"""Seconds that a failed job is shown before a later one takes its place."""


@dataclass(slots=True)
class SpanNote:
    """What is kept of a span; instants are nanoseconds since the epoch, durations seconds."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: int
    end: int
    queue: str | None = None
    """The queue whose job this is; None for all but process spans."""
    wait: float = 0.0
    outcome: str | None = None
    error: str | None = None
    links: tuple[tuple[int, int], ...] = ()

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


@dataclass(slots=True)
class LogNote:
    """What is kept of a log line."""

    at: int
    trace_id: int
    span_id: int
    level: str
    text: str


@dataclass(slots=True)
class Trace:
    """What is kept of one trace."""

    spans: list[SpanNote] = field(default_factory=list)
    logs: list[LogNote] = field(default_factory=list)
    above: int | None = None
    """The trace that this one is linked to."""
    below: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Story:
    """A job, and everything that is known of the order that it belongs to: one trace, or several with links."""

    job: SpanNote
    spans: tuple[SpanNote, ...]
    logs: tuple[LogNote, ...]


class Stories:
    """Recent traces, the oldest forgotten, except for those of the slowest and of a recently failed job."""

    def __init__(self, max_traces: int = MAX_TRACES) -> None:
        self._max = max_traces
        self._traces: OrderedDict[int, Trace] = OrderedDict()
        self._slowest: SpanNote | None = None
        self._failed: SpanNote | None = None

    def add_span(self, span: SpanNote) -> None:
        """Keep a span that has ended."""
        trace = self._trace(span.trace_id)
        if len(trace.spans) < MAX_LINES:
            trace.spans.append(span)
        other = next((trace_id for trace_id, _ in span.links if trace_id != span.trace_id), None)
        if other is not None and trace.above is None:
            trace.above = other
            self._trace(other).below.append(span.trace_id)
        if span.queue is not None:
            self._consider(span)

    def add_log(self, log: LogNote) -> None:
        """Keep a log line that belongs to a trace."""
        trace = self._trace(log.trace_id)
        if len(trace.logs) < MAX_LINES:
            trace.logs.append(log)

    def slowest(self) -> Story | None:
        """Return the story of the job that took longest from put to its end, of those that ended well."""
        return None if self._slowest is None else self._story(self._slowest)

    def failed(self) -> Story | None:
        """Return the story of a job that failed lately, with what was logged of it."""
        return None if self._failed is None else self._story(self._failed)

    def _consider(self, job: SpanNote) -> None:
        slowest, failed = self._slowest, self._failed
        if job.outcome == "ok" and (slowest is None or job.wait + job.seconds > slowest.wait + slowest.seconds):
            self._slowest = job
        if job.outcome == "error" and (failed is None or job.end - failed.end > CHANGE_AFTER * 1e9):
            told = any(log.level == "error" for log in self._traces[job.trace_id].logs)
            if told or failed is None:  # what is logged too often is held back, and tells less
                self._failed = job

    def _trace(self, trace_id: int) -> Trace:
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = Trace()
            self._evict()
        else:
            self._traces.move_to_end(trace_id)
        return trace

    def _evict(self) -> None:
        if len(self._traces) <= self._max:
            return
        kept = {trace_id for job in (self._slowest, self._failed) if job for trace_id in self._ids(job.trace_id)}
        oldest = next((trace_id for trace_id in self._traces if trace_id not in kept), None)
        if oldest is not None:
            del self._traces[oldest]

    def _story(self, job: SpanNote) -> Story:
        traces = [self._traces[trace_id] for trace_id in self._ids(job.trace_id) if trace_id in self._traces]
        return Story(
            job,
            tuple(span for trace in traces for span in trace.spans),
            tuple(log for trace in traces for log in trace.logs),
        )

    def _ids(self, trace_id: int) -> list[int]:
        """Return the ids of all traces that hang together with this one by links, the first of them first."""
        seen = {trace_id}
        while (trace := self._traces.get(trace_id)) and trace.above is not None and trace.above not in seen:
            trace_id = trace.above
            seen.add(trace_id)
        return list(self._down(trace_id, set()))

    def _down(self, trace_id: int, seen: set[int]) -> Iterator[int]:
        if trace_id in seen:
            return
        seen.add(trace_id)
        yield trace_id
        trace = self._traces.get(trace_id)
        for below in trace.below if trace is not None else ():
            yield from self._down(below, seen)
