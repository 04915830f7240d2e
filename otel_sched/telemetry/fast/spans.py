"""Floor 5, HOT: the span of a job, made without what the SDK's own allocates and most jobs never use.

A `LightSpan` is one of the SDK's spans whose insides (locks, attributes, events, links, its context) are made when
somebody asks for them. All that is done with a span is therefore done by the SDK's own code, limits included. Once
ended it is handed on as it is: it is a `ReadableSpan` too, and the copy that the SDK makes there is spared.
"""

import logging
import threading
from collections.abc import Callable
from random import getrandbits
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, Tracer
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from .. import names
from ..spans import Attached, Unsampled

SPAN_KEY: str = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
"""Under which a context holds its current span; found out the public way."""

UNSET = Status(StatusCode.UNSET)
_log = logging.getLogger("opentelemetry.sdk.trace")
_RANDOM: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
_FLAGS = tuple(TraceFlags(flags) for flags in range(4))


class Kit:
    """What all spans of one queue have in common."""

    __slots__ = ("ended", "process_name", "put_name", "queue", "tracer")

    def __init__(self, tracer: Tracer, queue: str, ended: Callable[["LightSpan"], None]) -> None:
        self.tracer = tracer
        self.queue = queue
        self.put_name = names.PUT_SPAN.format(queue=queue)
        self.process_name = names.PROCESS_SPAN.format(queue=queue)
        self.ended = ended
        """Hands an ended span to the provider's processors."""


class LightSpan(Span, Attached):
    """The CONSUMER span of one job, or the PRODUCER span of one put.

    Made without its constructor; whoever makes it sets `kit`, `trace_id`, `span_id`, `sampled`, `parent_context`,
    `producer`, `job_id` and `_start_time`, and for a process span what is listed under it.
    """

    kit: Kit
    trace_id: int
    span_id: int
    sampled: bool
    parent_context: SpanContext | None
    job_id: str
    random_id: bool = True
    """Whether the trace id is random, as far as the flags say."""
    trace_state: TraceState | None = None

    producing = False
    """Whether it is the span of a put. What follows is a process span's."""
    owner: object = None
    base: Context
    around: Context | None = None
    """What the job's own context is made of where that is more than `base`: its producer's baggage."""
    producer: SpanContext | None = None
    """The one link; None for none."""
    over = False
    job_name: str
    function: str
    attempt: int
    wait: float
    correlation: str
    outcome: str | None = None
    error_type: str | None = None
    reason: str | None = None
    undecided: Any = None
    """What waits for the end of its job to be kept or forgotten; None where that is not asked for."""
    keep: str | None = None
    """The rule that kept it although it was not sampled."""

    plain = True
    """Whether it carries nothing but what is above: nobody has touched its attributes, events, links or name."""

    # What the SDK's methods read, and what is the same for all of these spans
    _kind = SpanKind.CONSUMER
    _status = UNSET
    _start_time: int
    _end_time: int | None = None
    _sampler = None
    _trace_config = None
    _record_exception = True
    _set_status_on_exception = True
    _record_end_metrics = None

    def __new__(cls) -> "LightSpan":
        """Make an empty one."""
        return object.__new__(cls)

    def __init__(self) -> None:
        """Do nothing: what matters is set by whoever makes it."""

    @property
    def span(self) -> "LightSpan":
        """Return itself: it is both the span and what the job remembers of it."""
        return self

    @property
    def within(self) -> Context:
        """Return the context that the job runs in."""
        return Context({**(self.base if self.around is None else self.around), SPAN_KEY: self})

    def __getattr__(self, name: str) -> Any:
        """Make one of the SDK's insides, for somebody wants it."""
        make = _INSIDES.get(name)
        if make is None:
            shared = _SHARED.get(name)
            if shared is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return shared(self)
        if name in _OPEN and self._end_time is None:
            self.plain = False
        insides: dict[str, Any] = vars(self)
        return insides.setdefault(name, make(self))  # atomic: two threads get the same

    def is_recording(self) -> bool:
        """Say whether it has not ended yet."""
        return self._end_time is None

    def update_name(self, name: str) -> None:
        """Give it another name."""
        self.plain = False
        super().update_name(name)

    def end(self, end_time: int | None = None) -> None:
        """End it, once, and hand it to the provider's processors."""
        if self._end_time is not None:
            _log.warning("Calling end() on an ended span.")
            return
        self._end_time = time_ns() if end_time is None else end_time
        if not self.plain:
            attributes = self.__dict__.get("_attributes")
            if attributes is not None:
                attributes._immutable = True
        self.kit.ended(self)

    def _readable_span(self) -> ReadableSpan:
        return self

    def own_attributes(self) -> dict[str, Any]:
        """Return the attributes that it has by itself, in the plain path's order."""
        attributes: dict[str, Any] = {names.QUEUE_NAME: self.kit.queue}
        if self.producing:
            attributes[names.JOB_ID] = self.job_id
            return attributes
        attributes[names.JOB_NAME] = self.job_name
        attributes[names.JOB_ID] = self.job_id
        attributes[names.JOB_ATTEMPT] = self.attempt
        attributes[names.JOB_WAIT] = self.wait
        attributes[names.CORRELATION] = self.correlation
        if self.function:
            attributes[names.CODE_FUNCTION_NAME] = self.function
        if self._end_time is not None:
            ending = {
                names.JOB_OUTCOME: self.outcome,
                names.ERROR_TYPE: self.error_type,
                names.CANCEL_REASON: self.reason,
                names.KEEP_RULE: self.keep,
            }
            attributes |= {name: value for name, value in ending.items() if value is not None}
        return attributes


class LightPut(LightSpan):
    """The PRODUCER span of one put."""

    producing = True
    _kind = SpanKind.PRODUCER


class Quiet(Unsampled, Attached):
    """What is current while a job runs that was not sampled; its ids are made when somebody asks.

    Whoever makes it sets `owner`, `base`, `producer`, `trace_id`, `parent_context` and `random_id`.
    """

    owner: object
    base: Context
    around: Context | None = None
    producer: SpanContext | None = None
    over = False
    trace_id: int
    parent_context: SpanContext | None = None
    random_id = True
    trace_state: TraceState | None = None
    error_type: str | None = None

    def __init__(self) -> None:
        """Do nothing: what matters is set by whoever makes it."""

    @property
    def span(self) -> NonRecordingSpan:
        """Return itself."""
        return self

    @property
    def within(self) -> Context:
        """Return the context that the job runs in."""
        return Context({**(self.base if self.around is None else self.around), SPAN_KEY: self})

    def __getattr__(self, name: str) -> Any:
        """Make the ids, for somebody wants them."""
        if name != "_context":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        insides: dict[str, Any] = vars(self)
        return insides.setdefault(name, context_of(self, random_span_id(), False))


def random_span_id() -> int:
    """Return a span id as the SDK's generator makes it."""
    while not (span_id := getrandbits(64)):
        pass
    return span_id


def context_of(span: LightSpan | Quiet, span_id: int, sampled: bool) -> SpanContext:
    """Return the SpanContext of *span*, flags and trace state as the SDK's tracer sets them."""
    parent = span.parent_context
    random = span.random_id if parent is None else bool(parent.trace_flags & _RANDOM)
    flags = _FLAGS[int(sampled) | (_RANDOM if random else 0)]
    return SpanContext(span.trace_id, span_id, False, flags, span.trace_state)


def bounded(span: LightSpan, attributes: Any) -> BoundedAttributes:
    """Return *attributes* under the provider's limits, as the SDK keeps those of a span."""
    limits = span.kit.tracer._span_limits
    return BoundedAttributes(
        limits.max_span_attributes,
        attributes,
        immutable=span._end_time is not None,
        max_value_len=limits.max_span_attribute_length,
    )


def _links_of(span: LightSpan) -> Any:
    producer = None if span.producing else span.producer
    return span._new_links([] if producer is None else [Link(producer)])


_INSIDES: dict[str, Callable[[LightSpan], Any]] = {
    "_lock": lambda span: threading.Lock(),
    "_context": lambda span: context_of(span, span.span_id, span.sampled),
    "_attributes": lambda span: bounded(span, span.own_attributes()),
    "_events": lambda span: BoundedList(span.kit.tracer._span_limits.max_events),
    "_links": _links_of,
}
"""Made once for a span when first asked for."""

_OPEN = frozenset({"_attributes", "_events", "_links"})
"""Those of them that somebody may be about to change."""

_SHARED: dict[str, Callable[[LightSpan], Any]] = {
    "_name": lambda span: span.kit.put_name if span.producing else span.kit.process_name,
    "_parent": lambda span: span.parent_context,
    "_resource": lambda span: span.kit.tracer.resource,
    "_limits": lambda span: span.kit.tracer._span_limits,
    "_span_processor": lambda span: span.kit.tracer.span_processor,
    "_instrumentation_scope": lambda span: span.kit.tracer._instrumentation_scope,
    "_instrumentation_info": lambda span: span.kit.tracer.instrumentation_info,
}
"""Read from elsewhere."""

KNOWN = (
    frozenset({*_INSIDES, *_SHARED})
    | {name for name in vars(LightSpan) if name.startswith("_") and not name.startswith("__")}
    | {"_start_time"}
)
"""The attributes of the SDK's spans that are taken care of; with one more, the SDK is newer than this module."""
