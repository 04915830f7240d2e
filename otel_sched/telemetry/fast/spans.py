"""Floor 5, HOT: the span of a job, made without what the SDK's own allocates and most jobs never use.

A `LightSpan` is one of the SDK's spans whose insides (locks, attributes, events, links, its context) are made when
somebody asks for them. All that is done with a span is therefore done by the SDK's own code, limits included. Once
ended it is handed on as it is: it is a `ReadableSpan` too, and the copy that the SDK makes there is spared.
"""

import copy
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

from ..._core import names
from ..._core.ledger import Series
from ..spans import Attached, Unsampled
from .insides import Inside, Shared

SPAN_KEY: str = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
"""Under which a context holds its current span; found out the public way."""

UNSET = Status(StatusCode.UNSET)
_log = logging.getLogger("opentelemetry.sdk.trace")
_RANDOM: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
_FLAGS = tuple(TraceFlags(flags) for flags in range(4))
_NO_STATE: TraceState = trace.INVALID_SPAN_CONTEXT.trace_state
_LARGEST_TRACE_ID, _LARGEST_SPAN_ID = 2**128 - 1, 2**64 - 1
_tuple: Any = tuple.__new__


class Kit:
    """What all spans of one queue have in common."""

    __slots__ = ("ended", "home", "process_name", "put_name", "queue", "tracer")

    def __init__(self, tracer: Tracer, queue: str, ended: Callable[["LightSpan"], None]) -> None:
        self.tracer = tracer
        self.queue = queue
        self.put_name = names.PUT_SPAN.format(queue=queue)
        self.process_name = names.PROCESS_SPAN.format(queue=queue)
        self.ended = ended
        """Hands an ended span to the provider's processors."""
        self.home: object = None
        """Whose the spans of this queue are: of the exporter that asked last, and knows their resource and scope."""


class LightSpan(Span, Attached):
    """The CONSUMER span of one job, or the PRODUCER span of one put.

    Made without its constructor; whoever makes it sets `kit`, `trace_id`, `span_id`, `job_id`, `open` and
    `_start_time`, for a process span `series` and `wait`, and whatever else is not as it says here.
    """

    kit: Kit
    trace_id: int
    span_id: int
    job_id: str
    open: bool
    """Deleted by whoever ends it, which only one can do: an attribute cannot be deleted twice."""
    sampled = True
    parent_context: SpanContext | None = None
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
    series: Series
    attempt: int = 1
    wait: float
    outcome: str | None = None
    error_type: str | None = None
    reason: str | None = None
    undecided = False
    """Whether it was not sampled and may yet be kept when its job ends."""
    decided = False
    """Whether that has been decided."""
    keep: str | None = None
    """The rule that kept it although it was not sampled."""
    held: list[ReadableSpan] | None = None
    """The ended spans below it that wait for that."""

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

    _name: Any = Shared(lambda span: span.kit.put_name if span.producing else span.kit.process_name)
    _parent: Any = Shared(lambda span: span.parent_context)
    _resource: Any = Shared(lambda span: span.kit.tracer.resource)
    _limits: Any = Shared(lambda span: span.kit.tracer._span_limits)
    _span_processor: Any = Shared(lambda span: span.kit.tracer.span_processor)
    _instrumentation_scope: Any = Shared(lambda span: span.kit.tracer._instrumentation_scope)
    _instrumentation_info: Any = Shared(lambda span: span.kit.tracer.instrumentation_info)

    _lock: Any = Inside(lambda span: threading.Lock(), False)
    _context: Any = Inside(lambda span: context_of(span, span.span_id, span.sampled), False)
    _attributes: Any = Inside(lambda span: bounded(span, span.own_attributes()), True)
    _events: Any = Inside(lambda span: BoundedList(span.kit.tracer._span_limits.max_events), True)
    _links: Any = Inside(lambda span: _links_of(span), True)

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

    @property
    def correlation(self) -> str:
        """Return how it goes with its producer's span."""
        return "parent" if self.parent_context is not None else "none" if self.producer is None else "link"

    def is_recording(self) -> bool:
        """Say whether it has not ended yet."""
        return self._end_time is None

    def update_name(self, name: str) -> None:
        """Give it another name."""
        self.plain = False
        super().update_name(name)

    def end(self, end_time: int | None = None) -> None:
        """End it, once, and hand it to the provider's processors."""
        try:
            del self.open
        except AttributeError:
            _log.warning("Calling end() on an ended span.")
            return
        end = time_ns() if end_time is None else end_time
        if self.plain:
            self._end_time = end
        else:
            with self._lock:  # another thread may be writing on it
                self._end_time = end
                attributes = vars(self).get("_attributes")
                if attributes is not None:
                    attributes._immutable = True
        self.kit.ended(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> ReadableSpan:
        """Return what the SDK hands on of a span that has ended: a copy without its surroundings."""
        return copy.deepcopy(super()._readable_span(), memo)

    def _readable_span(self) -> ReadableSpan:
        return self

    def own_attributes(self) -> dict[str, Any]:
        """Return the attributes that it has by itself, in the plain path's order."""
        attributes: dict[str, Any] = {names.QUEUE_NAME: self.kit.queue}
        if self.producing:
            attributes[names.JOB_ID] = self.job_id
            if self.keep is not None:
                attributes[names.KEEP_RULE] = self.keep
            return attributes
        attributes[names.JOB_NAME] = self.series.name
        attributes[names.JOB_ID] = self.job_id
        attributes[names.JOB_ATTEMPT] = self.attempt
        attributes[names.JOB_WAIT] = self.wait
        attributes[names.CORRELATION] = self.correlation
        if self.series.function:
            attributes[names.CODE_FUNCTION_NAME] = self.series.function
        if self._end_time is not None:
            ending = {
                names.JOB_OUTCOME: self.outcome,
                names.ERROR_TYPE: self.error_type,
                names.CANCEL_REASON: self.reason,
                names.KEEP_RULE: self.keep,
            }
            attributes |= {name: value for name, value in ending.items() if value is not None}
        elif self.keep is not None:
            attributes[names.KEEP_RULE] = self.keep
        return attributes


class LightPut(LightSpan):
    """The PRODUCER span of one put."""

    producing = True
    _kind = SpanKind.PRODUCER


class Quiet(Unsampled, Attached):
    """What is current while a job runs that was not sampled; its ids are made when somebody asks.

    Whoever makes it sets `trace_id` and `base`, and whatever else is not as it says here.
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

    _context: Any = Inside(lambda quiet: context_of(quiet, random_span_id(), False), False)

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


def random_span_id() -> int:
    """Return a span id as the SDK's generator makes it."""
    while not (span_id := getrandbits(64)):
        pass
    return span_id


def context_of(span: LightSpan | Quiet, span_id: int, sampled: bool) -> SpanContext:
    """Return the SpanContext of *span*, flags and trace state as the SDK's tracer sets them."""
    parent, trace_id, state = span.parent_context, span.trace_id, span.trace_state
    random = span.random_id if parent is None else bool(parent[3] & _RANDOM)
    flags = _FLAGS[int(sampled) | (_RANDOM if random else 0)]
    valid = 0 < trace_id <= _LARGEST_TRACE_ID and 0 < span_id <= _LARGEST_SPAN_ID
    fields = (trace_id, span_id, False, flags, _NO_STATE if state is None else state, valid)
    made: SpanContext = _tuple(SpanContext, fields)  # its constructor does the same in three times the time
    return made


def bounded(span: LightSpan, attributes: Any) -> BoundedAttributes:
    """Return *attributes* under the provider's limits, as the SDK keeps those of a span."""
    limits = span.kit.tracer._span_limits
    return BoundedAttributes(
        limits.max_span_attributes,
        attributes,
        immutable=False,  # the SDK's setters look at the span's end; another thread may be past that look already
        max_value_len=limits.max_span_attribute_length,
    )


def _links_of(span: LightSpan) -> Any:
    producer = None if span.producing else span.producer
    return span._new_links([] if producer is None else [Link(producer)])


KNOWN = frozenset({name for name in vars(LightSpan) if name.startswith("_") and not name.startswith("__")}) | {
    "_start_time"
}
"""The attributes of the SDK's spans that are taken care of; with one more, the SDK is newer than this module."""
