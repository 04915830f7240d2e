"""Floor 5: spans as one OTLP request: jobs' spans the short way, all others by the official encoder."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from ..fast.spans import LightSpan
from .shapes import Shapes, field

ENVELOPES = 64
"""How many tracers' envelopes are remembered; beyond that all are forgotten, and those in use come back."""

_RESOURCE_SPANS = trace_service_pb2.ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER
_SCOPE_SPANS = trace_pb2.ResourceSpans.SCOPE_SPANS_FIELD_NUMBER


class Envelope:
    """What stands round the spans of one tracer: its resource and its scope, encoded."""

    __slots__ = ("_resource_bytes", "_scope_bytes", "resource", "scope")

    def __init__(self, resource: Resource, scope: InstrumentationScope | None) -> None:
        self.resource = resource
        self.scope = scope
        nobody = ReadableSpan("", SpanContext(1, 1, False), resource=resource, instrumentation_scope=scope)
        around = encode_spans([nobody]).resource_spans[0]
        inner = around.scope_spans[0]
        inner.ClearField("spans")
        self._scope_bytes = inner.SerializeToString()
        around.ClearField("scope_spans")
        self._resource_bytes = around.SerializeToString()

    def around(self, spans: bytes) -> bytes:
        """Return a request with *spans*, which are fields of ScopeSpans."""
        inner = field(_SCOPE_SPANS, self._scope_bytes + spans)
        return field(_RESOURCE_SPANS, self._resource_bytes + inner)


Groups = dict[Tracer, tuple[Envelope, list[bytes]]]
"""The spans of each tracer, encoded, and what goes round them."""


class SpanEncoder:
    """Encodes spans, and remembers what many have in common. Of use to several threads at once, and after a fork."""

    def __init__(self) -> None:
        self._shapes = Shapes()
        self.encode_light = self._shapes.encode
        """Returns a job's span as a field of ScopeSpans; None where it needs the official encoder. Never raises."""
        self._envelopes: dict[Tracer, Envelope] = {}
        self._home: Envelope | None = None
        self.key: object = object()
        """What queues have as `home` whose spans may be told in pieces."""

    def settle(self, span: LightSpan) -> bool:
        """Say whether the resource and scope of *span* are those of all pieces; the first to come decides."""
        try:
            envelope = self._envelope(span.kit.tracer, span)
        except Exception:  # attributes that cannot be encoded: whoever encodes the batch shall find that out
            return False
        if self._home is None:
            self._home = envelope
        home = self._home
        if envelope is not home and (home.resource != envelope.resource or home.scope != envelope.scope):
            return False
        span.kit.home = self.key
        return True

    def renew(self) -> None:
        """Forget what pieces were made for: there are none left, and a forked child may have another resource."""
        self._home, self.key = None, object()

    def around(self, pieces: Sequence[bytes]) -> bytes:
        """Return one serialized ExportTraceServiceRequest with *pieces*."""
        if self._home is None:
            raise RuntimeError("there are pieces, but nothing that they were made for")
        return self._home.around(b"".join(pieces))

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return one serialized ExportTraceServiceRequest; one after another, such requests are one with all spans.

        Raises what the official encoder raises, where it cannot encode one of *spans*; nothing else.
        """
        light: Groups = {}
        others: list[ReadableSpan] = []
        for span in spans:
            piece = self.encode_light(span)
            if piece is None:
                others.append(span)
            else:
                self._group(light, span.kit.tracer, span).append(piece)  # type: ignore[attr-defined]
        requests = [envelope.around(b"".join(pieces)) for envelope, pieces in light.values()]
        if others:
            requests.append(encode_spans(others).SerializeToString())
        return b"".join(requests)

    def _group(self, light: Groups, tracer: Tracer, span: ReadableSpan) -> list[bytes]:
        """Return where the spans of *tracer* are collected."""
        if tracer not in light:
            light[tracer] = self._envelope(tracer, span), []
        return light[tracer][1]

    def _envelope(self, tracer: Tracer, span: ReadableSpan) -> Envelope:
        """Return the envelope of *tracer*; a new one where *span* has another resource now, as after a fork it may."""
        known = self._envelopes.get(tracer)
        resource, scope = span.resource, span.instrumentation_scope
        if known is None or known.resource is not resource or known.scope is not scope:
            if len(self._envelopes) >= ENVELOPES:
                self._envelopes.clear()
            known = self._envelopes[tracer] = Envelope(resource, scope)
        return known
