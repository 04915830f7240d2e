"""Light spans where random programs do not go: other threads, late processors, odd ids, clocks that go back, copies."""

import asyncio
import copy
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanContext, TraceFlags

from otel_sched import OtelObserver, Queue
from otel_sched.telemetry.fast.spans import LightSpan, Quiet, context_of
from tests.support.both_paths import PathTelemetry


class Noted(SpanProcessor):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.started: list[Span] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.started.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


async def one_job(queue: "Queue[int]", work: Any = lambda: None) -> None:
    await queue.put(1)
    await queue.get()
    work()
    queue.task_done()


def test_a_span_that_another_thread_ends_at_the_same_time_is_told_once() -> None:
    """The other one comes between the look whether it has ended and the end."""
    noted, provider = Noted(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(noted)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(tracer_provider=provider))

    def work() -> None:
        span, now = trace.get_current_span(), queue.ledger.now

        def other() -> float:
            span.end()
            return now()

        queue.ledger.now = other

    asyncio.run(one_job(queue, work))
    assert len(noted.ended) == 1


def test_a_thread_that_writes_on_a_span_while_it_ends_sees_no_exception() -> None:
    """It has looked whether the span is open; then the job ends; then it writes."""
    noted, provider = Noted(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(noted)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(tracer_provider=provider))
    asyncio.run(one_job(queue))
    (span,) = noted.ended
    span._attributes["late"] = 1  # type: ignore[index]  # the last line of the SDK's set_attribute()


def test_the_end_waits_for_a_thread_that_writes() -> None:
    """As in the SDK: what was begun before the end is on the span."""
    noted, provider = Noted(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(noted)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(tracer_provider=provider))
    inside, go_on = threading.Event(), threading.Event()

    class Slow(dict[str, int]):
        def items(self) -> Any:  # called by set_attributes() with the span's lock held
            inside.set()
            assert go_on.wait(10.0)
            return super().items()

    threads = []

    def work() -> None:
        span = trace.get_current_span()
        span.set_attribute("first", 1)
        threads.append(threading.Thread(target=span.set_attributes, args=(Slow(late=1),)))
        threads[0].start()
        assert inside.wait(10.0)
        threading.Timer(0.05, go_on.set).start()

    asyncio.run(one_job(queue, work))
    threads[0].join()
    attributes = noted.ended[0].attributes or {}
    assert (attributes["first"], attributes["late"], attributes["otel_sched.job.outcome"]) == (1, 1, "ok")


def test_a_processor_that_is_added_later_sees_the_jobs_from_then_on() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(tracer_provider=provider))
    asyncio.run(one_job(queue))
    noted, later = Noted(), Noted()
    provider.add_span_processor(noted)
    asyncio.run(one_job(queue))
    assert (len(noted.started), len(noted.ended)) == (1, 1)
    asyncio.run(one_job(queue, lambda: provider.add_span_processor(later)))
    assert (len(later.started), len(later.ended)) == (0, 1)


@pytest.mark.parametrize("trace_id", [0, 1, 2**128 - 1, 2**128])
@pytest.mark.parametrize("span_id", [0, 1, 2**64 - 1, 2**64])
def test_a_context_says_what_the_api_says_of_such_ids(trace_id: int, span_id: int) -> None:
    quiet: Quiet = object.__new__(Quiet)
    quiet.trace_id, quiet.random_id = trace_id, False
    ours = context_of(quiet, span_id, True)
    theirs = SpanContext(trace_id, span_id, False, TraceFlags(TraceFlags.SAMPLED))
    assert type(ours) is SpanContext
    assert tuple(ours) == tuple(theirs)


def test_a_wait_below_zero_is_not_recorded() -> None:
    """The queue's clock was set back; the SDK's histograms take no such thing either."""
    telemetry = PathTelemetry(fast=True, sampler=ALWAYS_ON)
    times = iter([100.0, 50.0, *range(51, 99)])
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(**telemetry.providers), clock=lambda: next(times))
    asyncio.run(one_job(queue))
    points = telemetry.metrics()
    assert [point.count for point in points.get("otel_sched.job.wait.duration", [])] == []
    assert [point.count for point in points["otel_sched.job.run.duration"]] == [1]
    telemetry.close()


def test_an_ended_span_can_be_copied_as_the_sdks_can() -> None:
    noted, provider = Noted(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(noted)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(tracer_provider=provider))
    asyncio.run(one_job(queue))
    (span,) = noted.ended
    assert type(span) is LightSpan
    assert copy.deepcopy(span).to_json() == span.to_json()
