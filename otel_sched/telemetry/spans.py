"""Floor 5: which span a job gets, whose child it is, and what is current while it runs. The plain API's way.

A span is made current with `attach` and taken back by attaching what was there before, and only while it is still the
current one: contexts are never detached by token, for a job may end in another context than it started in.
"""

from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, get_current, get_value, set_value
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind

from .._core import names
from .._core.job import Job, type_name
from .._core.options import Options

PARENT_WITHIN = 10.0
"""Seconds of waiting beyond which correlation "auto" gives a job a trace of its own: traces must come to an end."""

_ATTACHED = "otel_sched-attached"


class Carried:
    """What a job brings where the producer's baggage was asked for."""

    __slots__ = ("baggage", "producer")

    def __init__(self, producer: SpanContext | None, entries: dict[str, object]) -> None:
        self.producer = producer
        self.baggage = entries


class Attached:
    """What a running job's `trace` is: its span, the context to return to, and who made it current."""

    __slots__ = ()

    owner: object
    base: Context
    """What was current before."""
    producer: SpanContext | None
    over: bool
    """Whether the job has ended; what its span says of that, if it says anything, is the SDK's affair."""

    @property
    def span(self) -> Span:
        """Return the job's span."""
        raise NotImplementedError

    @property
    def within(self) -> Context:
        """Return the context that the job runs in."""
        raise NotImplementedError


class Run(Attached):
    """The plain way to keep them: beside a span of the SDK's."""

    __slots__ = ("_span", "_within", "base", "over", "owner", "producer")

    def __init__(self, owner: object, span: Span, base: Context, around: Context, producer: SpanContext | None) -> None:
        self.owner = owner
        self.base = base
        self.producer = producer
        self.over = False
        self._span = span
        self._within = trace.set_span_in_context(span, set_value(_ATTACHED, self, around))

    @property
    def span(self) -> Span:
        """Return the job's span."""
        return self._span

    @property
    def within(self) -> Context:
        """Return the context that the job runs in."""
        return self._within


class Unsampled(NonRecordingSpan):
    """The span of a job that the sampler dropped: it remembers an exception, for metrics count every job."""

    def __init__(self, context: SpanContext) -> None:
        super().__init__(context)
        self.error_type: str | None = None

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        """Note the exception's type; nothing else of it goes anywhere."""
        self.error_type = type_name(exception)


def ended(span: Span) -> bool:
    """Say whether *span* is one that has ended: it is no parent and no producer any more."""
    return getattr(span, "end_time", None) is not None


def producer_of(span: Span) -> SpanContext | None:
    """Return what a job put under *span* is linked to: its context, unless it has ended or never was."""
    context = span.get_span_context()
    return context if context.is_valid and not ended(span) else None


def base_of(owner: object, foreign_allowed: bool) -> Context | None:
    """Return the context that a job starts from, without spans of earlier jobs of *owner*.

    None where somebody else's recording span is current and may not be covered by ours.
    """
    here = get_current()
    ambient = trace.get_current_span(here)
    attached = attached_in(here, ambient)
    if attached is not None and attached.owner is owner:
        return attached.base
    if foreign_allowed or not ambient.is_recording() or ended(ambient):
        return here
    return None


def start(tracer: Any, owner: object, job: Job[Any], options: Options, base: Context, name: str) -> Run:
    """Start a job's process span and make it current."""
    brought = job.trace
    producer = brought.producer if isinstance(brought, Carried) else brought
    parent = None
    if producer is not None and options.correlation != "link":
        near = job.attempt == 1 and job.wait <= PARENT_WITHIN
        parent = producer if near or options.correlation == "parent" else None
    above = NonRecordingSpan(parent) if parent is not None else trace.INVALID_SPAN
    context = base
    if isinstance(brought, Carried):
        for key, value in brought.baggage.items():
            context = baggage.set_baggage(key, value, context)
    attributes = {
        names.QUEUE_NAME: job.ledger.name,
        names.JOB_NAME: job.series.name,
        names.JOB_ID: job.id,
        names.JOB_ATTEMPT: job.attempt,
        names.JOB_WAIT: job.wait,
        names.CORRELATION: "parent" if parent is not None else "link" if producer is not None else "none",
    }
    if job.series.function:
        attributes[names.CODE_FUNCTION_NAME] = job.series.function
    span = tracer.start_span(
        name,
        context=trace.set_span_in_context(above, context),
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=None if producer is None else [Link(producer)],
    )
    if not span.is_recording():
        span = Unsampled(span.get_span_context())
    run = Run(owner, span, base, context, producer)
    attach(run.within)
    return run


def attached_in(context: Context, ambient: Span) -> Attached | None:
    """Return the job whose own span is *ambient*, the current one of *context*; None under a user's span."""
    if isinstance(ambient, Attached):
        return ambient
    attached = get_value(_ATTACHED, context)
    return attached if isinstance(attached, Run) and attached.span is ambient else None


def leave(run: Any) -> None:
    """Make current what was so before *run* started, if its span still is the current one here."""
    run.over = True
    if trace.get_current_span() is run.span:
        attach(run.base)


def without_over(context: Context) -> Context:
    """Return *context*, or the one from before the job whose span is current in it, if that job has ended since."""
    run = attached_in(context, trace.get_current_span(context))
    return run.base if run is not None and run.over else context


def swallowed(run: Attached) -> str | None:
    """Return the type of an exception that somebody recorded on the job's span, or None."""
    if isinstance(run.span, Unsampled):
        return run.span.error_type
    for event in getattr(run.span, "events", ()):
        if event.name == "exception":
            return str((event.attributes or {}).get(names.EXCEPTION_TYPE, "Exception"))
    return None
