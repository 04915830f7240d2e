"""Jobs that are exported although their trace was not sampled: which, with what below them, and how they are marked."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from otel_sched import ConfigurationError, Keep, OtelObserver, Outcome, Queue, WorkerPool, configure
from otel_sched.telemetry.export.own import Rules, tell
from otel_sched.telemetry.export.processors import SpanFeed
from otel_sched.telemetry.fast.kept import Keeper, keep_in, keeper_of
from otel_sched.telemetry.keep import Slowness
from otel_sched.testing import run
from tests.support.both_paths import PathTelemetry


class Exported:
    """Stands where the exporter's buffer is."""

    def __init__(self, keep: Keep, sampler: Any = ALWAYS_OFF) -> None:
        self.spans: list[ReadableSpan] = []
        self.provider = TracerProvider(sampler, resource=Resource({}), shutdown_on_exit=False)
        self.keeper: Keeper = keep_in(self.provider, keep)
        feed: Any = SpanFeed.__new__(SpanFeed)
        feed._add, feed._pieces = self.spans.append, None
        feed.shutdown = lambda: None
        self.provider.add_span_processor(feed)
        self.keeper.deliver.append(feed.keep)
        self.observer = OtelObserver(tracer_provider=self.provider)
        self.tracer = self.provider.get_tracer("shop")

    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def rules(self) -> dict[str, Any]:
        return {span.name: (span.attributes or {}).get("otel_sched.keep.rule") for span in self.spans}


Handler = Callable[[Any], Coroutine[Any, Any, None]]


def work(exported: Exported, handler: Handler, items: list[Any], workers: int = 1) -> None:
    """Put *items* through a pool."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue: Queue[Any] = Queue(name="orders", observer=exported.observer, clock=clock)
        async with WorkerPool(queue, handler, workers=workers):
            for item in items:
                await queue.put(item)
            await queue.join()

    run(main())


def test_a_job_that_fails_is_kept_with_the_spans_below_it_and_marked() -> None:
    exported = Exported(Keep())

    async def handler(item: int) -> None:
        start = exported.tracer.start_as_current_span
        with start(f"step {item}"), start(f"inner {item}"):
            pass
        if item == 1:
            raise ValueError("bad")

    work(exported, handler, [0, 1, 2])
    assert exported.names() == ["inner 1", "process orders", "step 1"]
    assert set(exported.rules().values()) == {"error"}
    by_name = {span.name: span for span in exported.spans}
    job, step, inner = by_name["process orders"], by_name["step 1"], by_name["inner 1"]
    assert step.parent is not None
    assert step.parent.span_id == job.context.span_id
    assert inner.parent is not None
    assert inner.parent.span_id == step.context.span_id
    assert (job.attributes or {})["otel_sched.job.outcome"] == "error"
    assert exported.keeper.waiting == 0


@pytest.mark.parametrize(
    ("rule", "error"), [("timeout", TimeoutError), ("cancelled", asyncio.CancelledError), ("error", RuntimeError)]
)
def test_each_outcome_is_kept_by_its_own_rule_unless_that_is_off(rule: str, error: type[BaseException]) -> None:
    async def handler(item: int) -> None:
        raise error

    on, off = Exported(Keep()), Exported(Keep(**{rule: False}, slow=None))
    work(on, handler, [1])
    work(off, handler, [1])
    assert list(on.rules().values()) == [rule]
    assert off.spans == []


def test_a_job_that_runs_longer_than_the_threshold_is_kept() -> None:
    exported = Exported(Keep(slow=1.0))
    work(exported, asyncio.sleep, [0.5, 1.5, 0.1])  # type: ignore[arg-type]
    assert list(exported.rules().values()) == ["slow"]


def test_a_span_that_ends_after_its_job_follows_the_jobs_fate() -> None:
    exported = Exported(Keep())
    late: list[trace.Span] = []

    async def handler(item: str) -> None:
        late.append(exported.tracer.start_span(f"late {item}"))
        if item == "bad":
            raise ValueError

    work(exported, handler, ["bad", "good"])
    for span in late:
        span.end()
    assert exported.names() == ["late bad", "process orders"]


def test_a_put_below_a_kept_job_is_kept_with_it() -> None:
    exported = Exported(Keep())

    async def main() -> None:
        first: Queue[int] = Queue(name="first", observer=exported.observer)
        second: Queue[int] = Queue(name="second", observer=exported.observer)

        async def handler(item: int) -> None:
            await second.put(item)
            raise ValueError

        async with WorkerPool(first, handler, workers=1):
            await first.put(1)
            await first.join()

    run(main())
    assert exported.rules() == {"process first": "error", "put second": "error"}


def test_attributes_that_the_handler_set_are_on_the_kept_span() -> None:
    exported = Exported(Keep())

    async def handler(item: int) -> None:
        trace.get_current_span().set_attribute("order", item)
        raise ValueError

    work(exported, handler, [7])
    (span,) = exported.spans
    assert (span.attributes or {})["order"] == 7
    assert (span.attributes or {})["otel_sched.keep.rule"] == "error"


def test_what_is_sampled_anyway_is_not_marked() -> None:
    exported = Exported(Keep(), ParentBased(ALWAYS_ON))

    async def handler(item: int) -> None:
        with exported.tracer.start_as_current_span("step"):
            raise ValueError

    work(exported, handler, [1])
    assert exported.rules() == {"step": None, "process orders": None}


def test_user_spans_outside_of_jobs_are_left_to_the_sampler() -> None:
    exported = Exported(Keep())
    span = exported.tracer.start_span("alone")
    assert not span.is_recording()


def test_the_trace_flags_that_go_out_say_not_sampled() -> None:
    exported = Exported(Keep())
    flags = []

    async def handler(item: int) -> None:
        flags.append(trace.get_current_span().get_span_context().trace_flags.sampled)

    work(exported, handler, [1])
    assert flags == [False]


def test_no_more_spans_wait_than_may_and_the_rest_is_counted() -> None:
    exported = Exported(Keep(max_spans=3))

    async def handler(item: int) -> None:
        for number in range(10):
            exported.tracer.start_span(f"step {number}").end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.names() == ["process orders", "step 0", "step 1", "step 2"]
    assert exported.keeper.dropped == 7
    assert exported.keeper.waiting == 0


@given(st.lists(st.floats(0.0, 10.0), min_size=Slowness.EVERY, max_size=1200))
def test_at_most_a_hundredth_of_the_recent_runs_is_slow(runs: list[float]) -> None:
    slowness = Slowness("p99")
    for ran in runs:
        slowness.add(ran)
    recent = runs[: len(runs) // Slowness.EVERY * Slowness.EVERY][-Slowness.WINDOW :]
    assert slowness.at is not None
    assert sum(ran >= slowness.at for ran in recent) <= len(recent) * 0.01 + 1


def test_nothing_is_slow_before_enough_is_known() -> None:
    slowness = Slowness("p99")
    for _ in range(Slowness.EVERY - 1):
        slowness.add(100.0)
    assert Keep().rule(Outcome.OK, 1000.0, slowness.at) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"slow": "fast"},
        {"slow": True},
        {"error": 1},
        {"slow": -1.0},
        {"slow": 0},
        {"max_spans": -1},
        {"max_spans": 1.5},
        {"max_spans": True},
        {"slow": float("inf")},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises((TypeError, ValueError), match=name):
        Keep(**arguments)


def test_configure_refuses_what_is_no_keep_and_what_cannot_work() -> None:
    with pytest.raises(TypeError, match="keep must be"):
        configure(keep=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="traces are off"):
        configure(keep=Keep(), traces=False)


def test_a_kept_job_is_an_example_of_its_bucket() -> None:
    """A failed job is what one looks for in a histogram, and its span is there to be followed."""
    telemetry = PathTelemetry(fast=True, sampler=ALWAYS_OFF)
    kept: list[ReadableSpan] = []
    keeper = keep_in(telemetry.tracer_provider, Keep(slow=None))
    keeper.deliver.append(kept.append)

    async def handler(item: int) -> None:
        if item:
            raise ValueError(item)

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=OtelObserver(**telemetry.providers))
        async with WorkerPool(queue, handler):
            for item in range(2):
                await queue.put(item)
            await queue.join()

    run(main())
    points = telemetry.metrics()["otel_sched.job.run.duration"]
    examples = {point.attributes["otel_sched.job.outcome"]: point.exemplars for point in points}
    (example,) = examples["error"]
    (logged,) = telemetry.logs
    assert example.span_id == logged.log_record.span_id
    assert examples["ok"] == []
    telemetry.close()


def test_a_job_whose_handler_ended_its_span_is_kept_all_the_same() -> None:
    exported = Exported(Keep())

    async def handler(item: int) -> None:
        trace.get_current_span().set_attribute("order", item)
        with exported.tracer.start_as_current_span("step"):
            pass
        trace.get_current_span().end()
        raise ValueError(item)

    work(exported, handler, [1])
    assert exported.rules() == {"process orders": "error", "step": "error"}
    assert exported.keeper.waiting == 0


def test_spans_for_which_there_was_no_room_are_told_of() -> None:
    reader = InMemoryMetricReader()
    tell(MeterProvider([reader], shutdown_on_exit=False), [], [], Rules(), lambda: 7)
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [
        metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]
    (dropped,) = (metric for metric in metrics if metric.name == "otel_sched.telemetry.dropped")
    (point,) = dropped.data.data_points
    assert dict(point.attributes or {}) == {
        "otel_sched.telemetry.signal": "traces",
        "otel_sched.telemetry.reason": "keep_full",
    }
    assert point.value == 7  # type: ignore[union-attr]


def test_spans_that_never_end_cost_others_nothing() -> None:
    exported = Exported(Keep(slow=None, max_spans=5))

    async def handler(item: int) -> None:
        with exported.tracer.start_as_current_span("step"):
            exported.tracer.start_span("forgotten")
        raise ValueError

    work(exported, handler, list(range(20)))
    assert exported.names() == ["process orders"] * 20 + ["step"] * 20
    assert exported.keeper.dropped == 0
    assert len(exported.keeper._open) == 0


def test_one_job_does_not_take_all_the_room() -> None:
    exported = Exported(Keep(slow=None, max_spans=2000))

    async def handler(item: int) -> None:
        for _ in range(300):
            exported.tracer.start_span("step").end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.names().count("step") == 200
    assert exported.keeper.dropped == 100


def test_a_forked_child_forgets_what_waited_in_its_parent() -> None:
    exported = Exported(Keep(slow=None))

    async def handler(item: int) -> None:
        exported.tracer.start_span("before").end()
        exported.keeper.renew_locks()
        exported.tracer.start_span("after").end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.names() == ["after", "process orders"]
    assert exported.keeper.waiting == 0


def test_a_span_that_ends_in_a_finalizer_while_another_is_kept_holds_nobody_up() -> None:
    exported = Exported(Keep(slow=None))

    async def handler(item: int) -> None:
        with exported.keeper._lock:  # as in `add`, where the garbage collector may strike
            exported.tracer.start_span("step").end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.names() == ["process orders", "step"]


def test_a_job_whose_span_somebody_looked_at_too_early_is_marked() -> None:
    exported = Exported(Keep(slow=None))

    class Looks(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            assert span.attributes is not None

    exported.provider.add_span_processor(Looks())

    async def handler(item: int) -> None:
        trace.get_current_span().end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.rules() == {"process orders": "error"}


def test_a_queue_learns_what_is_slow_from_its_own_jobs() -> None:
    """Only then is there a percentile; and the one that is kept is an example of its bucket."""
    telemetry = PathTelemetry(fast=True, sampler=ALWAYS_OFF)
    kept: list[ReadableSpan] = []
    keep_in(telemetry.tracer_provider, Keep()).deliver.append(kept.append)

    async def handler(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue: Queue[float] = Queue(name="orders", observer=OtelObserver(**telemetry.providers), clock=clock)
        async with WorkerPool(queue, handler, workers=1):
            for seconds in [0.01] * Slowness.EVERY + [1.0, 0.01]:
                await queue.put(seconds)
            await queue.join()

    run(main())
    (point,) = telemetry.metrics()["otel_sched.job.run.duration"]
    (example,) = point.exemplars
    assert example.value == pytest.approx(1.0)
    assert keeper_of(telemetry.tracer_provider).kept == {"slow": 1}  # type: ignore[union-attr]
    telemetry.close()


def test_spans_are_counted_by_the_rule_that_kept_them() -> None:
    rules = Rules()
    kept = ReadableSpan("step", attributes={"otel_sched.keep.rule": "slow"})
    rules.count([b"piece", b"piece", kept, ReadableSpan("step")])
    told = {str((each.attributes or {})["otel_sched.telemetry.rule"]): each.value for each in rules.observe()}
    assert told == {"sampled": 3, "slow": 1}


def test_a_context_that_went_out_and_came_back_is_still_below_its_job() -> None:
    """As with a test client, or a broker in the same process: all that is left of the span is its ids."""
    exported = Exported(Keep(slow=None))

    async def handler(item: int) -> None:
        with exported.tracer.start_as_current_span("request") as request:
            came = trace.set_span_in_context(trace.NonRecordingSpan(request.get_span_context()))
            exported.tracer.start_span("server", context=came).end()
        raise ValueError

    work(exported, handler, [1])
    assert exported.names() == ["process orders", "request", "server"]
