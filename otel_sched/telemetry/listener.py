"""Floor 5: one queue's jobs as spans, durations and log records, through OpenTelemetry's plain API.

This is the reference for what is told; whatever is faster has to tell the same.
"""

import time
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import get_current
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind

from .._core import names
from .._core.job import Job
from .._core.ledger import Ledger
from .._core.observer import Listener
from .failures import Failures
from .providers import Providers, suppressed
from .spans import Attached, Carried, base_of, leave, producer_of, start, swallowed
from .unclaimed import forget, leave_unclaimed

Attributes = dict[str, str]


class OtelListener(Listener):
    """Tells of one queue. Names and attribute sets are made once, for the SDK charges for every look at them."""

    def __init__(self, providers: Providers, ledger: Ledger) -> None:
        self._providers = providers
        self._ledger = ledger
        self._options = ledger.options
        self._put_name = names.PUT_SPAN.format(queue=ledger.name)
        self._process_name = names.PROCESS_SPAN.format(queue=ledger.name)
        self._queue: Attributes = {names.QUEUE_NAME: ledger.name}
        self._run_attributes: dict[tuple[str, str, str | None], Attributes] = {}
        self._blocked_for = 0.0
        self._failures = Failures(providers)
        self._wait, self._run, self._put_blocked = providers.histograms(ledger.name, ledger.options.buckets)
        ledger.reporting = providers.logger() is not None

    def blocked(self, seconds: float) -> None:
        """Record how long a put had to wait; its span, if it gets one, will cover that time."""
        self._blocked_for = seconds
        self._put_blocked.record(seconds, self._queue)

    def queued(self, job: Job[Any]) -> None:
        """Note whose span the producer was in; a recording one gets a PRODUCER span for this put."""
        blocked_for, self._blocked_for = self._blocked_for, 0.0
        ambient = trace.get_current_span()
        producer = producer_of(ambient)
        if producer is not None and self._options.producer_spans and ambient.is_recording() and not suppressed():
            span = self._providers.tracer.start_span(
                self._put_name,
                kind=SpanKind.PRODUCER,
                attributes={names.QUEUE_NAME: self._ledger.name, names.JOB_ID: job.id},
                start_time=time.time_ns() - int(blocked_for * 1e9),
            )
            span.end()
            producer = producer_of_new(span) or producer
        job.trace = producer
        if self._options.carry is not None:
            job.trace = Carried(producer, dict(baggage.get_all()))

    def started(self, job: Job[Any], own_worker: bool) -> bool:
        """Start the job's CONSUMER span, unless it would cover a span of somebody else's."""
        options = self._options
        base = base_of(self, own_worker or options.process_spans == "always")
        if base is None or suppressed():
            return False
        if own_worker and options.process_spans == "never":
            self._record_wait(job)
            job.trace = None
            return True
        run = job.trace = start(self._providers.tracer, self, job, options, base, self._process_name)
        self._wait.record(job.wait, self._queue, context=run.within)
        return True

    def waited(self, job: Job[Any]) -> None:
        """Record the wait of a job whose run cannot be seen, and leave the producer at hand for `instrument`."""
        leave_unclaimed(job, self._record_wait(job))

    def _record_wait(self, job: Job[Any]) -> SpanContext | None:
        """Record a wait under the producer's trace, since the job has none of its own, and return the producer."""
        brought = job.trace
        producer: SpanContext | None = brought.producer if isinstance(brought, Carried) else brought
        context = None
        if producer is not None:
            context = trace.set_span_in_context(NonRecordingSpan(producer), get_current())
        self._wait.record(job.wait, self._queue, context=context)
        return producer

    def passed(self) -> None:
        """Forget a wait-only job: the call that comes next has nothing to do with it."""
        forget()

    def settling(self, job: Job[Any]) -> None:
        """Look for an exception that was recorded on the job's span and then swallowed."""
        if isinstance(job.trace, Attached) and not job.error_type:
            error_type = swallowed(job.trace)
            if error_type is not None:
                job.note_error(error_type, exported=True)

    def identify(self, job: Job[Any]) -> tuple[int, int] | None:
        """Return trace id and span id of the job's span, or of its producer's while it waits."""
        known = job.trace
        if isinstance(known, Carried):
            known = known.producer
        context = known.span.get_span_context() if isinstance(known, Attached) else known
        return (context.trace_id, context.span_id) if isinstance(context, SpanContext) and context.is_valid else None

    def settled(self, job: Job[Any]) -> None:
        """Record the run, tell of a failure, end the span, and make current what was so before."""
        run = job.trace if isinstance(job.trace, Attached) else None
        error_type = self._failures.error_type(job)
        try:
            self._tell(job, run, error_type)
        finally:  # whatever goes wrong, a span that was opened is closed
            if run is not None:
                try:
                    self._end(run.span, job, error_type)
                finally:
                    leave(run)

    def _tell(self, job: Job[Any], run: Attached | None, error_type: str | None) -> None:
        context = None if run is None else run.within
        if job.taken_at is not None and job.settled_at is not None:
            attributes = self._run_attributes_of(job.name, str(job.outcome), error_type)
            self._run.record(max(0.0, job.settled_at - job.taken_at), attributes, context=context)
        self._failures.tell(job, None if run is None else run.span, context)

    def _end(self, span: Any, job: Job[Any], error_type: str | None) -> None:
        if not span.is_recording():
            return
        span.set_attribute(names.JOB_OUTCOME, str(job.outcome))
        if error_type is not None:
            span.set_attribute(names.ERROR_TYPE, error_type)
        if job.reason is not None:
            span.set_attribute(names.CANCEL_REASON, job.reason.value)
        since = max(0.0, self._ledger.now() - (job.settled_at or 0.0))
        # The wall clock may have been set back meanwhile; a span must not end before it began.
        span.end(max(time.time_ns() - int(since * 1e9), getattr(span, "start_time", None) or 0))

    def sum_up(self) -> None:
        """Emit what the rate limit held back."""
        self._failures.sum_up(self._ledger.name)

    def _run_attributes_of(self, job: str, outcome: str, error_type: str | None) -> Attributes:
        key = (job, outcome, error_type)
        attributes = self._run_attributes.get(key)
        if attributes is None:
            attributes = {**self._queue, names.JOB_NAME: job, names.JOB_OUTCOME: outcome}
            if error_type is not None:
                attributes[names.ERROR_TYPE] = error_type
            self._run_attributes[key] = attributes
        return attributes


def producer_of_new(span: Any) -> Any:
    """Return the context of a span that we have just started and ended, if it is a real one."""
    context = span.get_span_context()
    return context if context.is_valid else None
