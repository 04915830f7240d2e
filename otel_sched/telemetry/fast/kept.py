"""Floor 5: spans that wait for the end of their job, to be exported or forgotten with it."""

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from ..._core import names
from ..keep import Keep
from .spans import LightSpan

SHARE = 100
"""Ended spans below one job that may wait in any case, however small the buffer for all is."""
JOB = "_otel_sched_job"
"""The attribute of a user's open span that holds the undecided job's span that it is below."""
KEEPER = "_otel_sched_keeper"
"""The attribute of a tracer provider that holds its keeper."""


class Keeper:
    """The jobs of one tracer provider that are still undecided."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.kept: Counter[str] = Counter()
        """Exported spans by rule."""
        self.dropped = 0
        """Spans below a job for which there was no room."""
        self.deliver: list[Callable[[ReadableSpan], None]] = []
        """Where kept spans go, sampled or not: the exporters' buffers."""
        self._share = max(SHARE, keep.max_spans // 10)
        self._waiting = 0
        self._holding: set[LightSpan] = set()
        self._open: weakref.WeakValueDictionary[int, Span] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a finalizer may end a span while this very thread keeps another

    @property
    def waiting(self) -> int:
        """How many ended spans wait for their job's end."""
        return self._waiting

    def above(self, context: Context | None) -> LightSpan | None:
        """Return the span of the undecided job that the current span of *context* belongs to."""
        span = get_current_span(context)
        if type(span) is LightSpan:
            return span if span.undecided else None
        begun = span if hasattr(span, JOB) else self._open.get(span.get_span_context().span_id)
        found: LightSpan | None = getattr(begun, JOB, None)
        return found

    def begin(self, span: Span, job: LightSpan) -> None:
        """Remember which job an open span belongs to, for as long as there is the span."""
        setattr(span, JOB, job)
        self._open[span.get_span_context().span_id] = span

    def end(self, span: ReadableSpan) -> None:
        """Keep an ended span that was not sampled until its job ends; where that has been, do as it was decided."""
        context = span.get_span_context()
        begun = None if context is None else self._open.pop(context.span_id, None)
        if begun is not None:
            self.add(span, getattr(begun, JOB))

    def add(self, span: ReadableSpan, job: LightSpan) -> None:
        """Keep an ended span below *job*."""
        if job.decided:
            if job.keep is not None:
                self._export(span, job.keep)
            return
        with self._lock:
            held: list[ReadableSpan] = vars(job).setdefault("held", [])
            if self._waiting >= self.keep.max_spans or len(held) >= self._share:
                self.dropped += 1
                return
            self._waiting += 1
            self._holding.add(job)
            held.append(span)
        if job.decided:  # meanwhile, by another thread, which may have looked before there was anything
            self._release(job)  # type: ignore[unreachable]

    def decide(self, job: LightSpan, rule: str | None) -> None:
        """Export what waits below a job that *rule* keeps, or forget it."""
        job.keep = rule
        job.decided = True
        if rule is not None:
            if job._end_time is not None:  # by hand, before anybody could know
                self._export(job, rule)
            else:
                self.kept[rule] += 1
                if not job.plain:
                    job.set_attribute(names.KEEP_RULE, rule)
        if job.held is not None:
            self._release(job)

    def _release(self, job: LightSpan) -> None:
        with self._lock:
            held: list[ReadableSpan] = vars(job).pop("held", [])
            self._holding.discard(job)
            self._waiting -= len(held)
        if job.keep is not None:
            for span in held:
                self._export(span, job.keep)

    def _export(self, span: ReadableSpan, rule: str) -> None:
        self.kept[rule] += 1
        marked = _marked(span, rule)
        for deliver in self.deliver:
            deliver(marked)

    def renew_locks(self) -> None:
        """Give a forked child what no thread of its parent holds; what waited is the parent's."""
        self._lock = threading.RLock()
        self._open.clear()
        for job in self._holding:
            vars(job).pop("held", None)
        self._holding.clear()
        self._waiting = 0


def _marked(span: ReadableSpan, rule: str) -> ReadableSpan:
    """Return *span* with the rule that kept it."""
    if isinstance(span, LightSpan) and span.plain:
        span.keep = rule
        vars(span).pop("_attributes", None)  # somebody may have looked, when there was no rule yet
        return span
    marked: Any = ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={**(span.attributes or {}), names.KEEP_RULE: rule},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
    marked.keep = rule
    return marked  # type: ignore[no-any-return]


class KeepSampler(Sampler):
    """Records what is below an undecided job, though it does not sample it; everything else is *inner*'s to decide."""

    def __init__(self, inner: Sampler, keeper: Keeper) -> None:
        self.inner = inner
        self._keeper = keeper

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span."""
        result = self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is Decision.DROP and self._keeper.above(parent_context) is not None:
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Return a name for logs and debuggers."""
        return f"KeepSampler{{{self.inner.get_description()}}}"


class KeepProcessor(SpanProcessor):
    """Sees the spans below undecided jobs begin and end."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Find out which job a span belongs to."""
        if type(span) is LightSpan or span.get_span_context().trace_flags.sampled:
            return
        job = self._keeper.above(parent_context)
        if job is not None:
            self._keeper.begin(span, job)

    def on_end(self, span: ReadableSpan) -> None:
        """Let a span wait for its job's end."""
        if not isinstance(span, LightSpan):
            self._keeper.end(span)

    def shutdown(self) -> None:
        """Nothing to shut down."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here that may go before its job has ended."""
        return True


def keep_in(provider: TracerProvider, keep: Keep) -> Keeper:
    """Have jobs whose spans go to *provider* decided late; called before any tracer is made of it."""
    keeper = Keeper(keep)
    provider.sampler = KeepSampler(provider.sampler, keeper)
    provider.add_span_processor(KeepProcessor(keeper))
    setattr(provider, KEEPER, keeper)
    if hasattr(os, "register_at_fork"):
        renew = weakref.WeakMethod(keeper.renew_locks)
        os.register_at_fork(after_in_child=lambda: (again := renew()) and again())
    return keeper


def keeper_of(provider: Any) -> Keeper | None:
    """Return the keeper of a tracer provider, or None where nothing is kept."""
    keeper = getattr(provider, KEEPER, None)
    return keeper if isinstance(keeper, Keeper) else None
