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
from .kept import Keeper, KeepSampler
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
        self.processors = Processors(tracer)
        self.kit = Kit(tracer, queue, self.processors.ended)
        ids = tracer.id_generator
        random = type(ids) is RandomIdGenerator
        self.trace_id: Callable[[], int] = partial(getrandbits, 128) if random else ids.generate_trace_id
        self._span_id: Callable[[], int] = partial(getrandbits, 64) if random else ids.generate_span_id
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
        self._uncommon = self._limited or not self._random_id

    def process(
        self,
        job: Job[Any],
        wait: float,
        trace_id: int,
        parent: SpanContext | None,
        producer: SpanContext | None,
        around: Context,
        sampled: bool = True,
        told: bool = True,
    ) -> LightSpan:
        """Return the span of a job that is sampled, or may yet be kept, started; with *told* processors know of it."""
        span: LightSpan = _empty(LightSpan)
        span.kit = self.kit
        span.trace_id = trace_id
        span.span_id = self._span_id() or random_span_id()
        span.job_id = job.id
        span.open = True
        span.series = job.series
        span.wait = wait
        if parent is not None:
            span.parent_context = parent
            span.trace_state = parent[4]
        if producer is not None:
            span.producer = producer
        if job.attempt != 1:
            span.attempt = job.attempt
        if not sampled:
            span.sampled, span.undecided = False, True
        if self._uncommon:
            span.random_id = self._random_id
            if self._limited and told:
                span._attributes  # noqa: B018  # made under the provider's limits, while it is open
        span._start_time = _time_ns()
        if told:
            processors = self.processors
            if processors.multi._span_processors is not processors.seen:
                processors.renew()
            if processors.starts:
                processors.started(span, _context_above(parent, around))
        return span

    def decided(
        self,
        job: Job[Any],
        wait: float,
        parent: SpanContext | None,
        producer: SpanContext | None,
        around: Context,
    ) -> LightSpan | Quiet:
        """Return what a job gets that has a parent, a link, or a sampler that wants to be asked."""
        if parent is not None:
            bound, trace_id = self.bounds.under(parent), parent[0]
        else:
            trace_id = self.trace_id()
            bound = self.bounds.root if producer is None else self.bounds.with_link[producer[3] & 1]
        if bound is None:
            return self._asked(job, wait, trace_id, parent, producer, around)
        if trace_id & MASK < bound:
            return self.process(job, wait, trace_id, parent, producer, around)
        if self.keeper is not None:
            return self.process(job, wait, trace_id, parent, producer, around, False)
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
        around: Context,
    ) -> LightSpan | Quiet:
        """Let the sampler decide, as the SDK's tracer does; what it says of the attributes goes."""
        span = self.process(job, wait, trace_id, parent, producer, around, told=False)
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
            span.sampled, span.undecided, span.trace_state = False, True, result.trace_state
        self.processors.started(span, above)
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
        span.trace_id = parent[0]
        span.span_id = self._span_id() or random_span_id()
        span.parent_context = parent
        span.job_id = job.id
        span.open = True
        span._start_time = start
        span.trace_state = parent[4]
        if not self._recorded(span, parent):
            keeper = self.keeper
            above = None if keeper is None else keeper.above(here)
            if keeper is not None and above is not None:
                span._end_time = max(_time_ns(), start)
                keeper.add(span, above)
            return context_of(span, span.span_id, False)
        processors = self.processors
        if processors.multi._span_processors is not processors.seen:
            processors.renew()
        if processors.starts:
            processors.started(span, here)
        span.end()
        return context_of(span, span.span_id, span.sampled)

    def _recorded(self, span: LightPut, parent: SpanContext) -> bool:
        """Have the sampler decide about the span of a put."""
        bound = self.bounds.under(parent)
        if bound is None:
            span.sampled = False
            result = self.bounds.sampler.should_sample(
                None, parent[0], self.kit.put_name, SpanKind.PRODUCER, span.own_attributes(), ()
            )
            span.trace_state = result.trace_state
            if result.decision is not Decision.DROP:
                self._adopt(span, result)
            return result.decision is not Decision.DROP
        if parent[0] & MASK >= bound:
            span.sampled = False
            return False
        if self._limited:
            span._attributes  # noqa: B018
        return True


def _context_above(parent: SpanContext | None, around: Context) -> Context:
    """Return the context that a job's span is started in: that of its worker, under its parent."""
    above = trace.INVALID_SPAN if parent is None else NonRecordingSpan(parent)
    return trace.set_span_in_context(above, around)
