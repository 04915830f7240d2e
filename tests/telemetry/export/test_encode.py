"""Jobs' spans as OTLP bytes: the official encoder says what they have to be."""

import functools
import logging
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from otel_sched._core.ledger import Series
from otel_sched.telemetry.export import encode as encoding
from otel_sched.telemetry.export import shapes
from otel_sched.telemetry.export.encode import SpanEncoder
from otel_sched.telemetry.export.pack import Packer
from otel_sched.telemetry.export.processors import SpanFeed
from otel_sched.telemetry.fast.spans import Kit, LightPut, LightSpan

NEAR = SpanContext(0xA1, 0xA2, False, TraceFlags(1))
REMOTE = SpanContext(2**128 - 1, 2**64 - 1, True, TraceFlags(1), TraceState([("vendor", "value")]))
EXTREME_TEXT = "~6f8A1c~3e5D7b~9a2C4f~0d8B6e~"
"""What the encoder itself looks for in a span that it takes apart."""

_numbers = count(1)


def tracer(**attributes: str) -> Tracer:
    provider = TracerProvider(resource=Resource(attributes, "https://example.org/resource"), shutdown_on_exit=False)
    made = provider.get_tracer("otel_sched", "1.2.3", "https://example.org/scope", {"scope.attribute": "ä"})
    assert isinstance(made, Tracer)
    return made


def kit_of(queue: str = "orders", made_by: Tracer | None = None) -> Kit:
    return Kit(made_by or tracer(service="shop"), queue, lambda span: None)


@functools.cache
def series_of(name: str, function: str) -> Series:
    """Return the same series for the same names, as a ledger does."""
    return Series(name, function)


def light(kit: Kit, *, end: bool = True, **fields: Any) -> LightSpan:
    """Return a process span."""
    number = next(_numbers)
    span = LightSpan()
    series = series_of(fields.pop("job_name", "handle"), fields.pop("function", "shop.workers.handle"))
    values: dict[str, Any] = {
        "kit": kit, "open": True, "trace_id": number << 70, "span_id": number << 30,
        "job_id": f"0a1b2c3d4e{number:06x}", "_start_time": 10**18 + number, "series": series, "wait": number / 7,
        "outcome": "ok",
    }  # fmt: skip
    for name, value in {**values, **fields}.items():
        setattr(span, name, value)
    if end and "_end_time" not in fields:
        span.end(10**18 + 2 * number)
    return span


def put(kit: Kit, parent: SpanContext = NEAR, **fields: Any) -> LightPut:
    number = next(_numbers)
    span = LightPut()
    values: dict[str, Any] = {
        "kit": kit, "open": True, "trace_id": parent.trace_id, "span_id": number, "parent_context": parent,
        "job_id": f"0a1b2c3d4e{number:06x}", "_start_time": 10**18, "trace_state": parent.trace_state,
    }  # fmt: skip
    for name, value in {**values, **fields}.items():
        setattr(span, name, value)
    span.end(10**18 + number)
    return span


def related(kit: Kit, parent: SpanContext | None, producer: SpanContext | None, **fields: Any) -> LightSpan:
    return light(kit, parent_context=parent, producer=producer, **fields)


def knowing(*spans: LightSpan) -> SpanEncoder:
    """Return an encoder that has met the shapes of *spans*: a shape is learned when it comes for the second time."""
    encoder = SpanEncoder()
    for span in spans:
        encoder.encode_light(span)
    return encoder


def failed(kit: Kit, status: Status, **fields: Any) -> LightSpan:
    span = light(kit, end=False, **{"outcome": "error", "error_type": "ValueError", **fields})
    span.set_status(status)
    span.end()
    return span


def official(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    return encode_spans(spans)


def decoded(data: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(data)


def by_place(request: ExportTraceServiceRequest) -> dict[tuple[bytes, bytes], list[bytes]]:
    """Return the spans of a request under their resource and scope, in no particular order."""
    found: dict[tuple[bytes, bytes], list[bytes]] = {}
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            around = (
                resource.resource.SerializeToString(deterministic=True) + resource.schema_url.encode(),
                scope.scope.SerializeToString(deterministic=True) + scope.schema_url.encode(),
            )
            found.setdefault(around, []).extend(span.SerializeToString(deterministic=True) for span in scope.spans)
    return {around: sorted(spans) for around, spans in found.items()}


SHAPES: dict[str, Callable[[Kit], LightSpan]] = {
    "a root": light,
    "a link": lambda kit: related(kit, None, NEAR),
    "a remote link": lambda kit: related(kit, None, REMOTE),
    "a parent": lambda kit: related(kit, NEAR, NEAR),
    "a remote parent with a trace state": lambda kit: related(kit, REMOTE, REMOTE, trace_state=REMOTE.trace_state),
    "an empty trace state": lambda kit: related(kit, NEAR, NEAR, trace_state=TraceState()),
    "a put": put,
    "a put under a remote parent with a trace state": lambda kit: put(kit, REMOTE),
    "no function": lambda kit: light(kit, function=""),
    "a later attempt": lambda kit: light(kit, attempt=300),
    "cancelled": lambda kit: light(kit, outcome="cancelled", reason="shutdown"),
    "kept": lambda kit: light(kit, outcome="ok", keep="slow"),
    "no outcome": lambda kit: light(kit, outcome=None),
    "failed without a text": lambda kit: failed(kit, Status(StatusCode.ERROR)),
    "failed with a text": lambda kit: failed(kit, Status(StatusCode.ERROR, "no such order: 42 ☂")),
    "failed with a long text": lambda kit: failed(kit, Status(StatusCode.ERROR, "x" * 20_000)),
    "a status of ok": lambda kit: failed(kit, Status(StatusCode.OK), outcome="ok", error_type=None),
    "failed under a remote parent": lambda kit: failed(
        kit,
        Status(StatusCode.ERROR, "why"),
        parent_context=REMOTE,
        producer=REMOTE,
        trace_state=REMOTE.trace_state,
    ),
    "no wait": lambda kit: light(kit, wait=0.0),
    "less than no wait": lambda kit: light(kit, wait=-0.0),
    "an endless wait": lambda kit: light(kit, wait=float("inf")),
    "the least wait": lambda kit: light(kit, wait=5e-324),
    "names in other scripts": lambda kit: light(kit, job_name="処理", function="мод.работа", error_type="Größenfehler"),
    "long names": lambda kit: light(kit, job_name="n" * 200, function="f" * 20_000),
    "a long job id": lambda kit: light(kit, job_id="j" * 200),
    "the largest ids": lambda kit: light(kit, trace_id=2**128 - 1, span_id=2**64 - 1),
    "the earliest times": lambda kit: light(kit, _start_time=0, _end_time=0),
    "the latest times": lambda kit: light(kit, _start_time=2**64 - 1, _end_time=2**64 - 1),
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_a_span_of_each_shape_is_what_the_official_encoder_makes_of_it(make: Callable[[Kit], LightSpan]) -> None:
    kit = kit_of()
    encoder = knowing(make(kit))
    for _ in range(3):  # the one that the shape is learned of, and those that are made like it
        span = make(kit)
        piece = encoder.encode_light(span)
        assert piece is not None
        assert ScopeSpans.FromString(piece).spans[0] == official([span]).resource_spans[0].scope_spans[0].spans[0]
        assert decoded(encoder.encode([span])) == official([span])


def test_spans_of_all_shapes_in_one_batch() -> None:
    encoder, kit = SpanEncoder(), kit_of("queue with a näme")
    encoder.encode([make(kit) for make in SHAPES.values()])
    spans = [make(kit) for _ in range(3) for make in SHAPES.values()]
    assert decoded(encoder.encode(spans)) == official(spans)


def test_a_wait_that_is_not_a_number() -> None:
    kit = kit_of()
    encoder = knowing(light(kit))
    for _ in range(2):
        span = light(kit, wait=struct.unpack("<d", b"\x01\x02\x03\x04\x05\x06\xf8\x7f")[0])
        assert encoder.encode_light(span) is not None
        theirs = official([span]).SerializeToString(deterministic=True)  # NaN is not equal to itself
        assert decoded(encoder.encode([span])).SerializeToString(deterministic=True) == theirs


# Random spans

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),  # lone surrogates too
    st.sampled_from(["", EXTREME_TEXT, "\x00", "a" * 130, "queue", "\udc80"]),
)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1)]),
    st.sampled_from([None, TraceState(), TraceState([("a", "b"), ("c", "d")])]),
)
MAYBE = st.none() | CONTEXTS
PROCESS = st.fixed_dictionaries(
    {
        "trace_id": st.integers(1, 2**128 - 1),
        "span_id": st.integers(1, 2**64 - 1),
        "parent_context": MAYBE,
        "producer": MAYBE,
        "job_id": TEXTS,
        "_start_time": st.integers(0, 2**64 - 1),
        "_end_time": st.integers(0, 2**64 - 1),
        "job_name": TEXTS,
        "function": TEXTS,
        "attempt": st.integers(-(2**63), 2**64),
        "wait": st.floats(allow_nan=False) | st.integers(0, 9),
        "outcome": st.none() | TEXTS,
        "error_type": st.none() | TEXTS,
        "reason": st.none() | TEXTS,
        "keep": st.none() | TEXTS,
        "trace_state": st.sampled_from([None, TraceState(), TraceState([("a", "b"), ("c", "d")])]),
        "_status": st.builds(Status, st.just(StatusCode.ERROR), st.none() | st.text(max_size=200)),
    }
)
PUTS = st.fixed_dictionaries({"parent": CONTEXTS, "span_id": st.integers(1, 2**64 - 1), "job_id": TEXTS})


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the official encoder from logging each attribute that it leaves out."""
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.usefixtures("quiet")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(PROCESS, max_size=4), st.lists(PUTS, max_size=2), st.text(max_size=30))
def test_random_spans_are_what_the_official_encoder_makes_of_them(
    processes: list[dict[str, Any]], puts: list[dict[str, Any]], queue: str
) -> None:
    encoder, kit = SpanEncoder(), kit_of(queue)
    spans: list[LightSpan] = [light(kit, **fields) for fields in processes] + [put(kit, **fields) for fields in puts]
    for _ in range(2):
        assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


# What is not encoded the short way


def with_attribute(span: LightSpan) -> None:
    span.set_attribute("order", 42)


def with_event(span: LightSpan) -> None:
    span.add_event("packed", {"parcels": 2})


def with_exception(span: LightSpan) -> None:
    span.record_exception(ValueError("no"))


def with_link(span: LightSpan) -> None:
    span.add_link(REMOTE, {"why": "because"})


def with_name(span: LightSpan) -> None:
    span.update_name("another")


@pytest.mark.parametrize("touch", [with_attribute, with_event, with_exception, with_link, with_name])
def test_a_span_that_the_job_added_to_keeps_what_was_added(touch: Callable[[LightSpan], None]) -> None:
    encoder, kit = SpanEncoder(), kit_of()
    encoder.encode([light(kit)])
    span = light(kit, end=False)
    touch(span)
    span.end()
    assert encoder.encode_light(span) is None
    assert decoded(encoder.encode([span])) == official([span])


def test_a_span_that_a_processor_looked_at_is_still_encoded_the_short_way() -> None:
    kit = kit_of()
    encoder = knowing(light(kit))
    span = light(kit)
    assert span.attributes
    assert not span.events
    assert span.links == ()
    assert encoder.encode_light(span) is not None
    assert decoded(encoder.encode([span])) == official([span])


def test_a_span_that_has_not_ended_is_not_touched() -> None:
    encoder, kit = SpanEncoder(), kit_of()
    span = light(kit, end=False)
    assert encoder.encode_light(span) is None
    assert span.plain


@pytest.mark.parametrize("name", ["job_name", "function", "job_id", "error_type"])
def test_a_text_that_looks_like_a_mark_of_the_encoder_s_own_changes_nothing(name: str) -> None:
    encoder, kit = SpanEncoder(), kit_of()
    spans = [light(kit, **{name: EXTREME_TEXT}), light(kit)]
    for _ in range(2):
        assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


def test_a_wait_that_is_a_whole_number_stays_one() -> None:
    encoder, kit = SpanEncoder(), kit_of()
    spans = [light(kit, wait=wait) for wait in (3, 3.5, 4, 4.5)]
    assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


@pytest.mark.parametrize("job_id", ["", "a", "_", "ä"])
def test_a_job_id_too_short_to_be_told_from_the_rest_changes_nothing(job_id: str) -> None:
    encoder, kit = SpanEncoder(), kit_of("a_~ queue")
    spans = [light(kit, job_id=job_id), put(kit, job_id=job_id)]
    for _ in range(2):
        assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


@pytest.mark.usefixtures("quiet")
def test_an_attribute_with_a_lone_surrogate_is_left_out_as_the_official_encoder_does() -> None:
    encoder, kit = SpanEncoder(), kit_of()
    spans = [light(kit, job_name="\udc80"), light(kit, job_id="\udc80" * 9)]
    for _ in range(2):
        assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


@pytest.mark.parametrize("fields", [{"_start_time": -1}, {"_start_time": 2**64}, {"trace_id": 2**128}, {"span_id": -1}])
def test_what_nobody_can_encode_raises_what_the_official_encoder_raises(fields: dict[str, Any]) -> None:
    encoder, kit = SpanEncoder(), kit_of()
    for _ in range(2):
        span = light(kit, **fields)
        assert encoder.encode_light(span) is None
        with pytest.raises((ValueError, OverflowError)):
            official([span])
        with pytest.raises((ValueError, OverflowError)):
            encoder.encode([span])
        good = light(kit)  # and spoils nothing for those that come after
        assert decoded(encoder.encode([good])) == official([good])


def test_a_queue_whose_name_cannot_be_encoded_costs_no_other_queue_its_spans() -> None:
    made_by = tracer(service="shop")
    bad, good = light(kit_of("\udc80", made_by)), light(kit_of("orders", made_by))
    encoder = knowing(bad, good)
    assert encoder.encode_light(bad) is None
    assert encoder.encode_light(good) is not None


# Batches


def test_nothing_is_an_empty_request() -> None:
    assert SpanEncoder().encode([]) == b""
    assert decoded(b"") == official([])


def test_spans_of_others_and_of_several_queues_and_providers_stand_under_their_resource_and_scope() -> None:
    encoder = SpanEncoder()
    shop, bank = tracer(service="shop"), tracer(service="bank")
    theirs = shop.start_span("theirs")
    theirs.end()
    assert isinstance(theirs, ReadableSpan)
    kits = [kit_of("orders", shop), kit_of("parcels", shop), kit_of("orders", bank)]
    spans: list[ReadableSpan] = [make(kit) for kit in kits for make in (light, put)]
    spans.insert(2, theirs)
    assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))


def test_one_request_after_another_is_one_request_with_the_spans_of_both() -> None:
    encoder, kit = SpanEncoder(), kit_of()
    first, second = [light(kit)], [light(kit), put(kit)]
    joined = decoded(encoder.encode(first) + encoder.encode(second))
    assert by_place(joined) == by_place(official([*first, *second]))


def test_a_resource_that_changes_is_noticed() -> None:
    encoder, made_by = SpanEncoder(), tracer(service="parent")
    kit = kit_of("orders", made_by)
    encoder.encode([light(kit)])
    made_by.resource = Resource({"service": "child"})
    span = light(kit)
    assert decoded(encoder.encode([span])) == official([span])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPES", 8)
    monkeypatch.setattr(encoding, "ENVELOPES", 2)
    encoder = SpanEncoder()
    kits = [kit_of(made_by=tracer(service=f"shop {number}")) for number in range(4)]
    spans = [light(kit, job_name=f"job {number}") for number in range(10) for kit in kits]
    assert by_place(decoded(encoder.encode(spans))) == by_place(official(spans))
    assert len(encoder._envelopes) <= 2
    assert len(encoder._shapes._shapes) <= 8


def test_several_threads_may_use_one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPES", 3)  # so that they forget each other's
    encoder, kit = SpanEncoder(), kit_of()
    batches = [[light(kit, attempt=attempt) for attempt in range(6) for _ in range(20)] for _ in range(4)]
    results: dict[int, bytes] = {}

    def encode(index: int) -> None:
        results[index] = encoder.encode(batches[index])

    threads = [threading.Thread(target=encode, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, batch in enumerate(batches):
        assert by_place(decoded(results[index])) == by_place(official(batch))


def test_a_shape_that_does_not_give_its_span_back_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should an encoder of times to come put spans together in another way, that is found out before a byte is sent."""
    kit = kit_of()
    cut = shapes._cut

    def wrong(first: Any, id_length: int) -> Any:
        shape = cut(first, id_length)
        return shapes.Shape(shape.pack, [shape.fixed[0], b"", *shape.fixed[2:]], shape.prefix)

    monkeypatch.setattr(shapes, "_cut", wrong)
    encoder = knowing(light(kit), light(kit))
    span = light(kit)
    assert encoder.encode_light(span) is None
    assert decoded(encoder.encode([span])) == official([span])


def test_a_shape_that_comes_once_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue for each request would pay for it again and again."""
    monkeypatch.setattr(shapes, "SHAPES", 4)
    encoder = SpanEncoder()
    for number in range(20):
        assert encoder.encode_light(light(kit_of(f"reply {number}"))) is None
    assert encoder._shapes._shapes == {}
    assert len(encoder._shapes._seen) <= 4


# Pieces


def feed(encoder: SpanEncoder) -> tuple[SpanFeed, list[Any]]:
    """Return a feed that shares *encoder*, and the list that stands where its buffer is."""
    taken: list[Any] = []
    sender: Any = SimpleNamespace(add=taken.append, pieces=encoder, crowded=False)
    return SpanFeed(sender), taken


def test_pieces_and_spans_become_one_request() -> None:
    shop, bank = tracer(service="shop"), tracer(service="bank")
    kits = [kit_of("orders", shop), kit_of("parcels", shop), kit_of("orders", bank)]
    spans = [make(kit) for kit in kits for make in (light, put)]
    encoder = knowing(*spans)
    fed, taken = feed(encoder)
    for span in spans:
        fed.on_end(span)
    assert [type(each) is bytes for each in taken] == [True] * 4 + [False] * 2  # the bank's have another resource
    packed = Packer(encoder.encode, encoder)(taken)
    assert (packed.items, packed.failed) == (6, 0)
    assert by_place(decoded(packed.data)) == by_place(official(spans))


def test_two_exporters_share_an_encoder() -> None:
    span = light(kit_of())
    encoder = knowing(span)
    feeds = [feed(encoder) for _ in range(2)]
    for fed, _ in feeds:
        fed.on_end(span)
    ((first,), (second,)) = (taken for _, taken in feeds)
    assert first == second
    assert type(first) is bytes


def test_a_forked_child_with_another_resource_has_pieces_of_its_own() -> None:
    made_by = tracer(service="parent")
    kit = kit_of("orders", made_by)
    encoder = knowing(light(kit), light(kit))
    fed, taken = feed(encoder)
    fed.on_end(light(kit))
    made_by.resource = Resource({"service": "child"})
    encoder.renew()
    span = light(kit)
    fed.on_end(span)
    assert decoded(Packer(encoder.encode, encoder)(taken[1:]).data) == official([span])


def test_a_queue_whose_resource_cannot_be_encoded_has_no_pieces() -> None:
    made_by = tracer(service="shop")
    made_by.resource = Resource({"bad": "x"})
    object.__setattr__(made_by.resource, "_attributes", {1: object()})
    encoder = SpanEncoder()
    fed, taken = feed(encoder)
    span = light(kit_of("orders", made_by))
    fed.on_end(span)
    assert taken == [span]


def test_no_piece_is_made_for_a_buffer_that_is_full() -> None:
    encoder = knowing(light(kit_of()), light(kit_of()))
    fed, taken = feed(encoder)
    fed.sender.crowded = True
    span = light(kit_of())
    fed.on_end(span)
    assert taken == [span]


def test_pieces_that_were_made_for_nothing_are_counted_as_lost() -> None:
    encoder = SpanEncoder()
    packed = Packer(encoder.encode, encoder)([b"piece"])
    assert (packed.data, packed.items, packed.failed) == (b"", 0, 1)
