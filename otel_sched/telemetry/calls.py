"""Floor 5: the span of one call of a function that `instrument` wraps."""

from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from .._core import names
from .._core.consumer import classify
from .._core.job import Job, type_name
from .._core.ledger import current_job
from .._core.observer import Calls
from .failures import ERRORS
from .providers import Providers
from .records import exception_attributes, message
from .spans import Attached, without_over
from .unclaimed import Unclaimed, claim


class OtelCalls(Calls):
    """Tells of the calls of one function."""

    def __init__(self, providers: Providers, name: str, function: str) -> None:
        self._providers = providers
        self._name = name
        self._function = function

    def entered(self, items: Sequence[Any]) -> tuple[Span, Context, Job[Any] | None, SpanKind] | None:
        """Start a span and make it current."""
        if not self._providers.live():
            return None
        here = get_current()
        job = current_job()
        name, kind = self._name, SpanKind.INTERNAL
        attributes: dict[str, Any] = {names.CODE_FUNCTION_NAME: self._function}
        producer: SpanContext | None = None
        if job is not None:
            attributes |= {names.QUEUE_NAME: job.queue, names.JOB_ID: job.id}
            producer = _producer(job)
        else:
            left = claim(items)
            if left is not None:  # its job was taken where nobody saw it run, until now
                producer = left.producer
                name, kind = names.PROCESS_SPAN.format(queue=left.queue), SpanKind.CONSUMER
                attributes |= self._process_attributes(left)
        span = self._providers.tracer.start_span(
            name,
            context=here,
            kind=kind,
            attributes=attributes,
            links=None if producer is None else [Link(producer)],
        )
        attach(trace.set_span_in_context(span, here))
        return span, here, job, kind

    def _process_attributes(self, left: Unclaimed) -> dict[str, Any]:
        return {
            names.QUEUE_NAME: left.queue,
            names.JOB_NAME: self._name,
            names.JOB_ID: left.job_id,
            names.JOB_ATTEMPT: left.attempt,
            names.JOB_WAIT: left.wait,
            names.CORRELATION: "none" if left.producer is None else "link",
        }

    def left(self, token: tuple[Span, Context, Job[Any] | None, SpanKind], error: BaseException | None) -> None:
        """End the span as the call ended, and make current what was so before."""
        span, before, job, kind = token
        outcome = classify(error)[0]
        if error is not None and outcome in ERRORS and span.is_recording():
            span.set_attribute(names.ERROR_TYPE, type_name(error))
            span.set_status(Status(StatusCode.ERROR, message(error)))
            if job is None:  # a job tells of its exception itself
                span.add_event("exception", exception_attributes(error))
        if kind is SpanKind.CONSUMER and span.is_recording():
            span.set_attribute(names.JOB_OUTCOME, outcome.value)
        span.end()
        if trace.get_current_span() is span:
            attach(without_over(before))


def _producer(job: Job[Any]) -> SpanContext | None:
    return job.trace.producer if isinstance(job.trace, Attached) else None
