"""Parents, links and samplers: which trace a job belongs to, and what its spans say."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, sampling
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from otel_sched import Outcome, Queue, WorkerPool, current_job
from otel_sched._core import names
from otel_sched.telemetry.spans import PARENT_WITHIN
from otel_sched.testing import InMemoryTelemetry, run
from tests.chains import Chain, ids, no_span_here
from tests.conftest import ARun


class Boom(Exception):
    """What goes wrong in these tests."""


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes without the prefix of ours."""
    return {key.removeprefix("otel_sched."): value for key, value in (span.attributes or {}).items()}


async def take_one(chain: Chain, error: BaseException | None = None) -> None:
    """Take one job in an asyncio task of its own, and end it."""

    async def worker() -> None:
        await chain.queue.get()
        try:
            if error is not None:
                raise error
        finally:
            chain.queue.task_done()

    await asyncio.gather(asyncio.create_task(worker()), return_exceptions=True)


def one_job(telemetry: InMemoryTelemetry, waiting: float = 0.0, **options: Any) -> Chain:
    """Put a job inside a request, take it after *waiting* virtual seconds, end it."""

    async def main() -> Chain:
        chain = Chain(telemetry, clock=asyncio.get_running_loop().time, **options)
        await chain.put("a")
        await asyncio.sleep(waiting)
        await take_one(chain)
        return chain

    return run(main())


# Parent or link


@pytest.mark.parametrize(
    ("correlation", "waiting", "related"),
    [
        ("auto", 0.0, "parent"),
        ("auto", PARENT_WITHIN, "parent"),
        ("auto", PARENT_WITHIN + 0.001, "link"),
        ("auto", 3600.0, "link"),
        ("parent", 0.0, "parent"),
        ("parent", 3600.0, "parent"),
        ("link", 0.0, "link"),
        ("link", 3600.0, "link"),
    ],
)
def test_how_a_job_relates_to_its_producer(
    correlation: Any, waiting: float, related: str, telemetry: InMemoryTelemetry
) -> None:
    """Child of the put span or root of a trace of its own; the link is always there, and so is the job's id."""
    chain = one_job(telemetry, waiting, correlation=correlation)
    put, process = chain.one("put orders"), chain.one("process orders")
    assert [ids(link.context) for link in process.links] == [ids(put.context)]
    assert attributes_of(process)["correlation"] == related
    assert attributes_of(process)["job.wait"] == waiting
    assert attributes_of(process)["job.id"] == attributes_of(put)["job.id"]
    if related == "parent":
        assert ids(process.parent) == ids(put.context)
    else:
        assert process.parent is None
        assert process.context is not None
        assert process.context.trace_id != ids(put.context)[0]


def test_a_job_without_a_producer_is_a_root(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """No span round the put: no put span, no link, correlation none."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.queue.put("a")
        await take_one(chain)

    arun(main())
    (process,) = telemetry.spans
    assert process.name == "process orders"
    assert (process.parent, list(process.links)) == (None, [])
    assert attributes_of(process)["correlation"] == "none"


def test_without_put_spans_the_producers_own_span_is_the_parent(telemetry: InMemoryTelemetry) -> None:
    """producer_spans=False: the request itself is parent and link."""
    chain = one_job(telemetry, producer_spans=False)
    request, process = chain.one("request"), chain.one("process orders")
    assert chain.named("put orders") == []
    assert ids(process.parent) == ids(request.context)
    assert [ids(link.context) for link in process.links] == [ids(request.context)]


def remote(sampled: bool) -> SpanContext:
    """Return the context of a span in another process, as a propagator extracts it."""
    return SpanContext(
        trace_id=0x1234,
        span_id=0x5678,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else 0),
        trace_state=TraceState([("vendor", "1")]),
    )


def test_a_remote_parent_is_a_producer(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """A span of another process is current (not recording here): no put span, but parent, link and trace state."""
    chain = Chain(telemetry)

    async def main() -> None:
        with trace.use_span(NonRecordingSpan(remote(sampled=True))):
            await chain.queue.put("a")
        await take_one(chain)

    arun(main())
    process = chain.one("process orders")
    assert chain.named("put orders") == []
    assert ids(process.parent) == (0x1234, 0x5678)
    assert process.parent is not None
    assert process.parent.is_remote
    assert [ids(link.context) for link in process.links] == [(0x1234, 0x5678)]
    assert process.context is not None
    assert process.context.trace_state == TraceState([("vendor", "1")])


def test_an_ended_producer_is_none(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """The request's span is still current in a background task, but over: the job is a root."""
    chain = Chain(telemetry)

    async def main() -> None:
        span = chain.tracer.start_span("request")
        with trace.use_span(span):
            span.end()
            await chain.queue.put("a")
        await take_one(chain)

    arun(main())
    assert chain.one("process orders").parent is None
    assert chain.named("put orders") == []


def test_a_job_that_puts_another_is_its_producer(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """Queues in a chain: each put span is a child of the process span it was made in, across all of them."""
    chain = Chain(telemetry)
    second: Queue[Any] = Queue(name="mails", observer=chain.observer)

    async def pass_on(item: Any) -> None:
        await second.put(item)

    async def work(item: Any) -> None:
        await chain.work(item)

    async def main() -> None:
        async with WorkerPool(second, work), WorkerPool(chain.queue, pass_on):
            await chain.put("a")

    arun(main())
    names_in_order = ["request", "put orders", "process orders", "put mails", "process mails", "charge a"]
    spans = [chain.one(name) for name in names_in_order]
    for parent, child in pairwise(spans):
        assert ids(child.parent) == ids(parent.context), child.name


# Sampling


@pytest.fixture
def nothing_sampled() -> Iterator[InMemoryTelemetry]:
    """Give providers whose sampler drops every span."""
    telemetry = InMemoryTelemetry(sampling.ALWAYS_OFF)
    yield telemetry
    telemetry.close()


def test_unsampled_jobs_count_all_the_same(nothing_sampled: InMemoryTelemetry, arun: ARun) -> None:
    """No span goes out, but every metric and the failure's record do; a context with ids is current in the job."""
    chain = Chain(nothing_sampled)
    seen: list[SpanContext] = []

    async def main() -> None:
        await chain.put("a", "b")

        async def worker(error: BaseException | None) -> None:
            await chain.queue.get()
            seen.append(trace.get_current_span().get_span_context())
            job = current_job()
            assert job is not None
            with chain.tracer.start_as_current_span("inner") as inner:
                assert inner.get_span_context().trace_id == seen[-1].trace_id
            try:
                if error is not None:
                    raise error
            finally:
                chain.queue.task_done()
            assert no_span_here()

        await asyncio.create_task(worker(None))
        with pytest.raises(Boom):
            await asyncio.create_task(worker(Boom("no")))

    arun(main())
    assert nothing_sampled.spans == ()
    assert all(each.is_valid and not each.trace_flags.sampled for each in seen)
    assert chain.total("otel_sched.jobs.finished", job__outcome="ok") == 1
    assert chain.total("otel_sched.jobs.finished", job__outcome="error") == 1
    assert chain.total("otel_sched.job.run.duration") == 2
    assert chain.total("otel_sched.job.wait.duration") == 2
    (record,) = chain.lines("failed")
    assert (record.trace_id, record.span_id) == ids(seen[1])
    chain.assert_books_balance()


def test_a_swallowed_exception_of_an_unsampled_job_counts(nothing_sampled: InMemoryTelemetry, arun: ARun) -> None:
    """record_exception() on the span that goes nowhere: the outcome is error in the metrics."""
    chain = Chain(nothing_sampled)

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            try:
                raise Boom
            except Boom as error:
                trace.get_current_span().record_exception(error)
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.total("otel_sched.jobs.finished", job__outcome="error") == 1
    points = nothing_sampled.metrics()[names.RUN_DURATION.name]
    assert [str(point.attributes["error.type"]).rpartition(".")[2] for point in points] == ["Boom"]


def test_the_providers_sampler_decides_over_each_span(arun: ARun) -> None:
    """It is asked with the span's name, kind, attributes and links, and its attributes and trace state are kept."""
    asked: list[dict[str, Any]] = []

    class Asked(sampling.Sampler):
        def should_sample(
            self,
            parent_context: Any,
            trace_id: int,
            name: str,
            kind: Any = None,
            attributes: Any = None,
            links: Any = None,
            trace_state: Any = None,
        ) -> sampling.SamplingResult:
            asked.append({"name": name, "kind": kind, "attributes": dict(attributes or {}), "links": links})
            return sampling.SamplingResult(
                sampling.Decision.RECORD_AND_SAMPLE,
                {**(attributes or {}), "sampler": "asked"},
                TraceState([("s", "1")]),
            )

        def get_description(self) -> str:
            return "Asked"

    telemetry = InMemoryTelemetry(Asked())
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a")
        await take_one(chain)

    arun(main())
    by_name = {each["name"]: each for each in asked}
    process = by_name["process orders"]
    assert process["kind"] is SpanKind.CONSUMER
    assert len(process["links"]) == 1
    assert process["attributes"][names.QUEUE_NAME] == "orders"
    assert by_name["put orders"]["kind"] is SpanKind.PRODUCER
    span = chain.one("process orders")
    assert (span.attributes or {})["sampler"] == "asked"
    assert span.context is not None
    assert span.context.trace_state == TraceState([("s", "1")])
    telemetry.close()


@pytest.mark.parametrize("correlation", ["parent", "link"])
def test_an_unsampled_producer_decides_for_its_children_alone(correlation: Any, arun: ARun) -> None:
    """A parent-based sampler drops the child of a dropped request; a job with a trace of its own is asked anew."""
    telemetry = InMemoryTelemetry(sampling.ParentBased(sampling.ALWAYS_ON))
    chain = Chain(telemetry, correlation=correlation)
    seen: list[SpanContext] = []

    async def main() -> None:
        with trace.use_span(NonRecordingSpan(remote(sampled=False))):
            await chain.queue.put("a")

        async def worker() -> None:
            await chain.queue.get()
            seen.append(trace.get_current_span().get_span_context())
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    if correlation == "parent":
        assert chain.processed() == []
        assert seen[0].trace_id == 0x1234
    else:
        (process,) = chain.processed()
        assert [ids(link.context) for link in process.links] == [(0x1234, 0x5678)]
    assert chain.total("otel_sched.jobs.finished", job__outcome="ok") == 1
    telemetry.close()


def test_a_job_that_was_not_sampled_still_hands_on_its_trace(arun: ARun) -> None:
    """A put inside an unsampled job: no put span of its own, but the next job is the same trace's, unsampled too."""
    telemetry = InMemoryTelemetry(sampling.ParentBased(sampling.ALWAYS_ON))
    chain = Chain(telemetry)
    second: Queue[Any] = Queue(name="mails", observer=chain.observer)
    seen: list[int] = []

    async def pass_on(item: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        await second.put(item)

    async def work(item: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    async def main() -> None:
        async with WorkerPool(second, work), WorkerPool(chain.queue, pass_on):
            with trace.use_span(NonRecordingSpan(remote(sampled=False))):
                await chain.queue.put("a")

    arun(main())
    assert telemetry.spans == ()
    assert seen == [0x1234, 0x1234]
    telemetry.close()


# Suppression


@pytest.mark.parametrize("where", ["put", "get"])
def test_where_instrumentation_is_suppressed_no_span_is_made(
    where: str, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """An exporter that uses a queue must not trace itself; the counts go on."""
    chain = Chain(telemetry)

    def suppressed(here: str) -> context.Context:
        return context.set_value("suppress_instrumentation", True) if here == where else context.get_current()

    async def main() -> None:
        with chain.tracer.start_as_current_span("request"):
            token = context.attach(suppressed("put"))
            await chain.queue.put("a")
            context.detach(token)

        async def worker() -> None:
            token = context.attach(suppressed("get"))
            await chain.queue.get()
            chain.queue.task_done()
            context.detach(token)

        await asyncio.create_task(worker())

    arun(main())
    assert len(chain.named("put orders")) == (where != "put")
    assert len(chain.named("process orders")) == (where != "get")
    assert chain.total("otel_sched.jobs.put") == chain.total("otel_sched.jobs.finished") == 1
    chain.assert_books_balance()


# What the spans say


COMMON = {
    names.QUEUE_NAME,
    names.JOB_NAME,
    names.JOB_ID,
    names.JOB_ATTEMPT,
    names.JOB_OUTCOME,
    names.JOB_WAIT,
    names.CORRELATION,
    names.CODE_FUNCTION_NAME,
}


@pytest.mark.parametrize(
    ("error", "outcome", "more"),
    [
        (None, "ok", set()),
        (Boom("no"), "error", {names.ERROR_TYPE}),
        (TimeoutError(), "timeout", {names.ERROR_TYPE}),
        (asyncio.CancelledError(), "cancelled", {names.CANCEL_REASON}),
    ],
)
def test_attributes_of_the_process_span_for_each_outcome(
    error: BaseException | None, outcome: str, more: set[str], telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """Exactly those of the contract; put spans carry two of them."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a")
        await take_one(chain, error)

    arun(main())
    span = chain.one("process orders")
    assert set(span.attributes or {}) == COMMON | more
    assert COMMON | {names.ERROR_TYPE, names.CANCEL_REASON, names.KEEP_RULE} == set(names.SPAN_ATTRIBUTES)
    found = attributes_of(span)
    assert (found["queue.name"], found["job.name"], found["job.attempt"]) == ("orders", "worker", 1)
    assert found["job.outcome"] == outcome
    assert found["code.function.name"] == f"{__name__}.take_one.<locals>.worker"
    assert span.status.is_ok is False if names.ERROR_TYPE in more else span.status.is_unset
    assert set(chain.one("put orders").attributes or {}) == {names.QUEUE_NAME, names.JOB_ID}


def test_attributes_of_jobs_that_ended_otherwise(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """Abandoned, and cancelled by a pool's shutdown: the same set, with a reason where there is one."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a", "b")
        started = asyncio.Event()

        async def handler(item: Any) -> None:
            job = current_job()
            assert job is not None
            if item == "a":
                chain.queue.settle(job, Outcome.ABANDONED)
                return
            started.set()
            await asyncio.sleep(1000)

        pool = WorkerPool(chain.queue, handler, workers=1)
        pool.start()
        await started.wait()
        await pool.stop(0)

    arun(main())
    assert chain.outcomes() == ["abandoned", "cancelled"]
    abandoned, cancelled = chain.processed()
    assert set(abandoned.attributes or {}) == COMMON
    assert abandoned.status.is_unset
    assert set(cancelled.attributes or {}) == COMMON | {names.CANCEL_REASON}
    assert attributes_of(cancelled)["cancel.reason"] == "shutdown"


def test_the_scope_of_all_telemetry_is_the_librarys(telemetry: InMemoryTelemetry) -> None:
    """Name, version and schema URL stand on spans and metrics alike."""
    chain = one_job(telemetry)
    for span in (chain.one("put orders"), chain.one("process orders")):
        scope = span.instrumentation_scope
        assert scope is not None
        assert (scope.name, bool(scope.version), str(scope.schema_url).startswith("https://opentelemetry.io")) == (
            "otel_sched",
            True,
            True,
        )
    data = telemetry._reader.get_metrics_data()
    assert data is not None
    scopes = [each.scope.name for resource in data.resource_metrics for each in resource.scope_metrics]
    assert scopes == ["otel_sched"]


# Times


def test_spans_last_as_long_as_the_jobs(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """The put span of a blocked put covers its wait; a process span ends when the job did, also if told later."""
    chain = Chain(telemetry, maxsize=1, settle="next_get")

    async def main() -> None:
        async def worker() -> None:
            for _ in range(2):
                await chain.queue.get()

        await chain.put("a")
        putter = asyncio.create_task(chain.put("b"))
        await asyncio.sleep(0)
        await asyncio.create_task(worker())
        await putter

    arun(main())
    for span in chain.telemetry.spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time >= span.start_time, span.name
    first, second = chain.processed()
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time <= second.start_time + 1_000_000
    puts = chain.named("put orders")
    requests = {ids(each.context): each for each in chain.named("request")}
    for put in puts:
        request = requests[ids(put.parent)]
        assert put.start_time is not None
        assert request.start_time is not None
        assert put.start_time >= request.start_time - 1_000_000


# Baggage


def test_baggage_of_the_producer_is_current_only_where_it_was_asked_for(
    telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """carry="baggage": readable in the job and gone after it. Without: nothing is carried."""
    seen: dict[str | None, list[Any]] = {}

    async def main() -> None:
        for carry in (None, "baggage"):
            chain = Chain(telemetry, carry=carry)
            token = context.attach(baggage.set_baggage("tenant", "acme"))
            await chain.queue.put("a")
            context.detach(token)

            async def worker(chain: Chain = chain, carry: Any = carry) -> None:
                await chain.queue.get()
                inside = baggage.get_baggage("tenant")
                chain.queue.task_done()
                seen[carry] = [inside, baggage.get_baggage("tenant")]

            await asyncio.create_task(worker())

    arun(main())
    assert seen == {None: [None, None], "baggage": ["acme", None]}
