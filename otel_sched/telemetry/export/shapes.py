"""Floor 5, HOT: jobs' spans as OTLP bytes: all but a few numbers of them are the same from one to the next.

Nothing of the format is written down here. The official encoder makes the first span of each shape; that is cut where
its ids, times, wait and job id stand, and for those after it the pieces are joined with their own. A cut that does not
give the first span back as it was is never used. Of protobuf only this is made use of: a message's parts may come in
any order, and what stands in one of them in two places is put together.
"""

import struct
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan

from .. import names
from ..fast.spans import LightPut, LightSpan

SHAPES = 1024
"""How many shapes are remembered; beyond that all are forgotten, and those in use come back."""

_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x91otel-sched-one\xa4", b"\x92sched2\xa4", b"\x93sched3\xa4"
_LINK_TRACE_ID, _LINK_SPAN_ID = b"\x94otel-sched-two\xa4", b"\x95sched5\xa4"
_START, _END, _WAIT = 0x96736368_65643696, 0x97736368_656437A4, -1.9731234567891234e-201
_JOB_ID = "~6f8A1c~3e5D7b~9a2C4f~0d8B6e~"
"""What stands in a first span where it is going to be cut."""

_END_TAG = trace_pb2.Span(end_time_unix_nano=1).SerializeToString()[:1]
_times = struct.Struct("<QsQ").pack
_double = struct.Struct("<d").pack

Shape = tuple[list[bytes], int]
"""A span in pieces, those to be filled in at odd places, and the length of the prefix that tells its length.

No pieces at all: spans of this shape are the official encoder's.
"""


class Shapes:
    """The shapes of spans that were met so far. Of use to several threads at once."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[Any, ...], Shape] = {}

    def encode(self, span: ReadableSpan) -> bytes | None:
        """Return *span* as a field of ScopeSpans, or None where only the official encoder can do it; never raises."""
        kind = type(span)
        try:
            if kind is LightSpan:
                return self._process(span)
            return self._put(span) if kind is LightPut else None
        except Exception:  # a number too large, a lone surrogate: whatever it is, the official encoder shall judge
            return None

    def _process(self, span: Any) -> bytes | None:
        known: dict[str, Any] = span.__dict__  # asked of the span one by one, they would take twice the time
        get = known.get
        if "plain" in known and not span.plain:
            return None
        job_id, wait, end = known["job_id"].encode(), known["wait"], known["_end_time"]
        parent, producer = known["parent_context"], get("producer")
        status = known["_status"].status_code if "_status" in known else None
        near = None if parent is None else parent.is_remote
        linked = None if producer is None else producer.is_remote
        key = (
            known["kit"], known["job_name"], known["function"], known["attempt"], known["correlation"],
            get("outcome"), get("error_type"), get("reason"), get("keep"),
            status, near, linked, len(job_id), type(wait),
        )  # fmt: skip
        shape = self._shapes.get(key) or self._learn(key, span)
        if not shape[0]:
            return None
        parts = shape[0].copy()
        parts[1] = known["trace_id"].to_bytes(16, "big")
        parts[3] = known["span_id"].to_bytes(8, "big")
        if parent is not None:
            parts[5] = parent.span_id.to_bytes(8, "big")
        parts[7] = _times(known["_start_time"], _END_TAG, end)
        parts[9] = job_id
        parts[11] = _double(wait)
        if producer is not None:
            parts[13] = producer.trace_id.to_bytes(16, "big")
            parts[15] = producer.span_id.to_bytes(8, "big")
        if status is not None or get("trace_state"):
            return _longer(parts, shape[1], span)
        return b"".join(parts)

    def _put(self, span: Any) -> bytes | None:
        known: dict[str, Any] = span.__dict__
        if not span.plain or "_status" in known:
            return None
        job_id, parent, end = known["job_id"].encode(), known["parent_context"], known["_end_time"]
        key = (known["kit"], None if parent is None else parent.is_remote, len(job_id))
        shape = self._shapes.get(key) or self._learn(key, span)
        if not shape[0]:
            return None
        parts = shape[0].copy()
        parts[1] = known["trace_id"].to_bytes(16, "big")
        parts[3] = known["span_id"].to_bytes(8, "big")
        if parent is not None:
            parts[5] = parent.span_id.to_bytes(8, "big")
        parts[7] = _times(known["_start_time"], _END_TAG, end)
        parts[9] = job_id
        return _longer(parts, shape[1], span) if known.get("trace_state") else b"".join(parts)

    def _learn(self, key: tuple[Any, ...], span: LightSpan) -> Shape:
        first = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
        theirs = first.SerializeToString(deterministic=True)
        shape = _cut(first, len(span.job_id.encode()))
        trial = Shapes()
        trial._shapes[key] = shape
        ours = trace_pb2.ScopeSpans.FromString(trial.encode(span) or b"").spans
        if [each.SerializeToString(deterministic=True) for each in ours] != [theirs]:
            shape = [], 0
        if len(self._shapes) >= SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape
        return shape


def field(number: int, data: bytes) -> bytes:
    """Return *data* as the field *number* of a message: a string, bytes or a message of its own."""
    prefix = bytearray()
    for value in (number << 3 | 2, len(data)):
        while value > 0x7F:
            prefix.append(value & 0x7F | 0x80)
            value >>= 7
        prefix.append(value)
    return bytes(prefix) + data


def _longer(parts: list[bytes], prefix: int, span: LightSpan) -> bytes:
    """Return a span with what no two have in common, and few have at all: its trace state and why it failed."""
    rest = trace_pb2.Span()
    if span.trace_state:
        rest.trace_state = ",".join([f"{key}={value}" for key, value in span.trace_state.items()])
    if span.status.description:
        rest.status.message = span.status.description
    return field(trace_pb2.ScopeSpans.SPANS_FIELD_NUMBER, b"".join(parts)[prefix:] + rest.SerializeToString())


def _cut(first: trace_pb2.Span, id_length: int) -> Shape:
    """Cut an encoded span, of which nothing else remains; into nothing where that cannot be done."""
    marks = _mark(first, id_length)
    whole = trace_pb2.ScopeSpans(spans=[first]).SerializeToString()
    parts, rest = [], whole
    for mark in marks:
        if mark and whole.count(mark) != 1:  # somebody's text looks like one
            return [], 0
        before, found, rest = rest.partition(mark) if mark else (b"", b"", rest)
        if found != mark:
            return [], 0
        parts += [before, mark]
    return [*parts, rest], len(whole) - first.ByteSize()


def _mark(first: trace_pb2.Span, id_length: int) -> list[bytes]:
    """Put marks where spans of a shape differ, and return them in the order of the places; empty for an absent one."""
    first.trace_id, first.span_id = _TRACE_ID, _SPAN_ID
    first.start_time_unix_nano, first.end_time_unix_nano = _START, _END
    first.ClearField("trace_state")
    if first.HasField("status"):
        first.status.ClearField("message")
    marks = [_TRACE_ID, _SPAN_ID, b"", _times(_START, _END_TAG, _END), b"", b"", b"", b""]
    if first.parent_span_id:
        first.parent_span_id = marks[2] = _PARENT_ID
    for attribute in first.attributes:
        if attribute.key == names.JOB_ID:
            attribute.value.string_value = (_JOB_ID * (id_length // len(_JOB_ID) + 1))[:id_length]
            marks[4] = attribute.value.string_value.encode()
        elif attribute.key == names.JOB_WAIT:
            attribute.value.double_value = _WAIT
            marks[5] = _double(_WAIT)
    for link in first.links:
        link.trace_id, link.span_id = marks[6:] = _LINK_TRACE_ID, _LINK_SPAN_ID
    return marks
