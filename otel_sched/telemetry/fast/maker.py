"""Floor 5, HOT: makes the spans of one queue as the provider's tracer would: its sampler, ids, limits, processors."""

import time
from collections.abc import Callable
from functools import partial
from random import getrandbits
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceState

from ..._core.job import Job
from .kept import Keeper, KeepSampler, Undecided
from .processors import Processors
from .sampling import MASK, Bounds
from .spans import Kit, LightPut, LightSpan, Quiet, bounded, context_of, random_span_id

_MANY = 16
"""A limit of attributes below which a span's own may not all have room."""
_empty = object.__new__
_time_ns = time.time_ns


class Maker:
    """The spans of one queue's jobs and puts."""

    def __init__(self, tracer: Tracer, queue: str, keeper: Keeper | None) -> None:
        sampler = tracer.sampler
        self.keeper = keeper
        """Decides about jobs that were not sampled; None where nothing does."""
        self.bounds = Bounds(sampler.inner if isinstance(sampler, KeepSampler) else sampler)
        self._processors = Processors(tracer)
        self.kit = Kit(tracer, queue, self._processors.ended)
        ids = tracer.id_generator
        random = type(ids) is RandomIdGenerator
        self.trace_id: Callable[[], int] = partial(getrandbits, 128) if random else ids.generate_trace_id
        self._span_id: Callable[[], int] = random_span_id if random else ids.generate_span_id
        says = getattr(ids, "is_trace_id_random", None)
        self._random_id = True if random else says is not None and bool(says())
        self.custom_ids = not random
        """Whether ids must be asked for one by one, in the SDK's order."""
        limits = tracer._span_limits
        self._limited = (
            (limits.max_span_attributes is not None and limits.max_span_attributes < _MANY)
            or limits.max_span_attribute_length is not None
            or limits.max_links == 0
        )

    def process(
        self,
        job: Job[Any],
        wait: float,
        trace_id: int,
        parent: SpanContext | None,
        producer: SpanContext | None,
        correlation: str,
        around: Context,
        sampled: bool = True,
    ) -> LightSpan:
        """Return the span of a job that is sampled, or may yet be kept, started."""
        span: LightSpan = _empty(LightSpan)
        self._fill(span, job, wait, trace_id, parent, producer, correlation, sampled)
        if parent is not None:
            span.trace_state = parent.trace_state
        if self._limited:
            span._attributes  # noqa: B018  # made under the provider's limits, while it is open
        self._processors.started(span, partial(_context_above, parent, around))
        return span

    def _fill(
        self,
        span: LightSpan,
        job: Job[Any],
        wait: float,
        trace_id: int,
        parent: SpanContext | None,
        producer: SpanContext | None,
        correlation: str,
        sampled: bool,
    ) -> None:
        series = job.series
        span.kit = self.kit
        span.trace_id = trace_id
        span.span_id = self._span_id()
        span.sampled = sampled
        if not sampled:
            span.undecided = Undecided()
        span.parent_context = parent
        span.producer = producer
        span.job_id = job.id
        span.job_name = series.name
        span.function = series.function
        span.attempt = job.attempt
        span.wait = wait
        span.correlation = correlation
        if not self._random_id:
            span.random_id = False
        span._start_time = _time_ns()

    def decided(
        self,
        job: Job[Any],
        wait: float,
        parent: SpanContext | None,
        producer: SpanContext | None,
        correlation: str,
        around: Context,
    ) -> LightSpan | Quiet:
        """Return what a job gets that has a parent, a link, or a sampler that wants to be asked."""
        if parent is not None:
            bound, trace_id = self.bounds.under(parent), parent.trace_id
        else:
            trace_id = self.trace_id()
            bound = self.bounds.root if producer is None else self.bounds.with_link[producer.trace_flags.sampled]
        if bound is None:
            return self._asked(job, wait, trace_id, parent, producer, correlation, around)
        if trace_id & MASK < bound:
            return self.process(job, wait, trace_id, parent, producer, correlation, around)
        if self.keeper is not None:
            return self.process(job, wait, trace_id, parent, producer, correlation, around, False)
        span_id = self._span_id() if self.custom_ids else None
        return self._quiet(trace_id, span_id, parent, producer, None if parent is None else parent.trace_state)

    def _quiet(
        self,
        trace_id: int,
        span_id: int | None,
        parent: SpanContext | None,
        producer: SpanContext | None,
        state: TraceState | None,
    ) -> Quiet:
        quiet: Quiet = _empty(Quiet)
        quiet.trace_id = trace_id
        quiet.parent_context = parent
        quiet.producer = producer
        quiet.trace_state = state
        if not self._random_id:
            quiet.random_id = False
        if span_id is not None:
            quiet._context = context_of(quiet, span_id, False)
        return quiet

    def _asked(
        self,
        job: Job[Any],
        wait: float,
        trace_id: int,
        parent: SpanContext | None,
        producer: SpanContext | None,
        correlation: str,
        around: Context,
    ) -> LightSpan | Quiet:
        """Let the sampler decide, as the SDK's tracer does; what it says of the attributes goes."""
        span: LightSpan = _empty(LightSpan)
        self._fill(span, job, wait, trace_id, parent, producer, correlation, True)
        above = _context_above(parent, around)
        links = None if producer is None else [Link(producer)]
        result = self.bounds.sampler.should_sample(
            above, trace_id, self.kit.process_name, SpanKind.CONSUMER, span.own_attributes(), links or ()
        )
        if result.decision is not Decision.DROP:
            self._adopt(span, result)
        elif self.keeper is None:
            return self._quiet(trace_id, span.span_id, parent, producer, result.trace_state)
        else:
            span.sampled, span.trace_state, span.undecided = False, result.trace_state, Undecided()
        self._processors.started(span, lambda: above)
        return span

    def _adopt(self, span: LightSpan, result: Any) -> None:
        span.sampled = result.decision.is_sampled()
        span.trace_state = result.trace_state
        span.plain = False
        span._attributes = bounded(span, result.attributes)

    def put(self, job: Job[Any], parent: SpanContext, here: Context, start: int) -> SpanContext:
        """Tell of a put inside a recording span, and return the context that the job is to follow."""
        span: LightPut = _empty(LightPut)
        span.kit = self.kit
        span.trace_id = parent.trace_id
        span.span_id = self._span_id()
        span.parent_context = parent
        span.job_id = job.id
        span._start_time = start
        span.trace_state = parent.trace_state
        if not self._recorded(span, parent):
            keeper = self.keeper
            undecided = None if keeper is None else keeper.above(here)
            if keeper is not None and undecided is not None:
                span._end_time = max(_time_ns(), start)
                keeper.add(span, undecided)
            return context_of(span, span.span_id, False)
        self._processors.started(span, lambda: here)
        context: SpanContext = span._context  # type: ignore[assignment]
        span.end()
        return context

    def _recorded(self, span: LightPut, parent: SpanContext) -> bool:
        """Have the sampler decide about the span of a put."""
        span.sampled = False
        bound = self.bounds.under(parent)
        if bound is None:
            result = self.bounds.sampler.should_sample(
                None, parent.trace_id, self.kit.put_name, SpanKind.PRODUCER, span.own_attributes(), ()
            )
            span.trace_state = result.trace_state
            if result.decision is not Decision.DROP:
                self._adopt(span, result)
            return result.decision is not Decision.DROP
        if parent.trace_id & MASK >= bound:
            return False
        span.sampled = True
        if self._limited:
            span._attributes  # noqa: B018
        return True


def _context_above(parent: SpanContext | None, around: Context) -> Context:
    """Return the context that a job's span is started in: that of its worker, under its parent."""
    above = trace.INVALID_SPAN if parent is None else NonRecordingSpan(parent)
    return trace.set_span_in_context(above, around)
