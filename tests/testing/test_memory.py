"""InMemoryTelemetry: what was told, asked in words; and for a while it stands in for the global providers."""

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import sampling

from otel_sched import Queue, WorkerPool, instrument
from otel_sched._core import names
from otel_sched._core.finding import Finding, FindingKind, default_reporter
from otel_sched._core.observer import default_observer
from otel_sched.telemetry import interest
from otel_sched.testing import InMemoryTelemetry, Logs, Spans
from tests.conftest import ARun

EARLY: Queue[int] = Queue(name="early")
log = logging.getLogger("shop")


@instrument
async def charge(order: int) -> None:
    """Be a function that was decorated before any telemetry was there."""
    log.warning("charging %s", order)
    if order == 2:
        raise ValueError("no money")


async def shop(telemetry: InMemoryTelemetry) -> None:
    """Work as an application does that knows nothing of tests."""
    orders: Queue[int] = Queue(name="orders")
    with telemetry.tracer.start_as_current_span("request"):
        orders.put_nowait(1)
        orders.put_nowait(2)
    async with WorkerPool(orders, charge, workers=1) as pool:
        await pool.join()


@pytest.fixture
def told(telemetry: InMemoryTelemetry, arun: ARun) -> InMemoryTelemetry:
    """What that application told."""
    with telemetry.as_default():
        arun(shop(telemetry))
    return telemetry


def test_spans_are_found_by_what_they_are_about(told: InMemoryTelemetry) -> None:
    """Name, queue, outcome, job, trace, parent, link, attribute, event."""
    request = told.spans.named("request").one()
    failed = told.spans.named("process orders").of_queue("orders").with_outcome("error").one()
    assert told.spans.with_attribute(names.ERROR_TYPE, "ValueError").named("process orders").one() == failed
    assert len(told.spans.of_trace(request)) == len(told.spans) == 7
    assert told.spans.of_trace(request.context.trace_id) == told.spans.of_trace(f"{request.context.trace_id:032x}")
    put = told.spans.named("put orders").of_job(failed.attributes[names.JOB_ID]).one()
    assert told.spans.children_of(put).one() == failed
    assert told.spans.linked_to(put).named("process orders").one() == failed
    assert told.spans.linked_to(put.context).named("process orders").one() == failed
    assert told.spans.children_of(failed).one().name == "charge"
    told.spans.with_attribute(names.JOB_WAIT).with_outcome("timeout").none()
    told.spans.with_event("exception").none()
    assert isinstance(told.spans, Spans)
    assert told.spans.where(lambda span: span.name == "request") == (request,)


def test_log_records_are_found_by_what_they_are_about(told: InMemoryTelemetry) -> None:
    """The application's own lines among them, each under its job's span."""
    failed = told.spans.named("process orders").with_outcome("error").one()
    call = told.spans.children_of(failed).one()
    line = told.logs.of_span(call).at_least(logging.WARNING).one()
    assert line.log_record.body == "charging 2"
    record = told.logs.of_event("otel_sched.job.exception").of_trace(failed).of_queue("orders").one()
    assert told.logs.at_least(logging.ERROR) == (record,)
    assert told.logs.with_attribute("exception.message", "no money").of_job(failed.attributes[names.JOB_ID]).one()
    told.logs.containing("charging 3").none()
    assert len(told.logs.containing("charging")) == 2
    assert isinstance(told.logs, Logs)


def test_a_metric_has_value_count_and_sum(told: InMemoryTelemetry) -> None:
    """Of one queue, or of those points that have more in common."""
    finished = told.metric("otel_sched.jobs.finished", queue="orders")
    assert finished.value == 2
    assert told.metric(finished.name, attributes={names.JOB_OUTCOME: "error"}).value == 1
    waits = told.metric("otel_sched.job.wait.duration", queue="orders")
    assert waits.count == 2
    assert waits.sum >= 0.0
    assert len(waits.points) == 1
    assert "count 2" in repr(waits)
    with pytest.raises(TypeError, match="ask for its count or sum"):
        _ = waits.value
    with pytest.raises(TypeError, match="ask for its value"):
        _ = finished.count


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda told: told.spans.named("process order").one(), "one span named 'process order', found none"),
        (lambda told: told.spans.named("nope").one(), "'process orders' of queue 'orders' charge error ValueError"),
        (lambda told: told.spans.named("process orders").one(), "found 2:"),
        (lambda told: told.spans.of_queue("orders").with_outcome("ok").none(), "expected no span of queue 'orders' wi"),
        (lambda told: Spans().of_queue("orders").one(), "there is no span at all"),
        (lambda told: Spans(told.spans * 5).named("nope").one(), "and 15 more"),
        (lambda told: told.logs.containing("lost").one(), "'charging 1'"),
        (lambda told: told.logs.of_event("lost").one(), "one log record of event 'lost', found none"),
        (lambda told: told.metric("otel_sched.lost"), "there are: otel_sched."),
        (lambda told: told.metric("otel_sched.jobs.put", queue="lost"), "'otel_sched.queue.name': 'orders'}: value 2"),
    ],
)
def test_a_failure_says_what_was_asked_and_what_there_is(told: InMemoryTelemetry, ask: Any, says: str) -> None:
    """So that nobody has to run the test again to see it."""
    with pytest.raises(AssertionError) as failure:
        ask(told)
    assert says in str(failure.value)


def test_an_assertion_of_the_tests_own_shows_what_there_is(told: InMemoryTelemetry) -> None:
    """In a line, which is how pytest prints it."""
    failed = told.spans.of_queue("orders").with_outcome("error")
    assert repr(failed) == f"<1 span of queue 'orders' with outcome 'error': {Spans._line(failed.one())}>"
    assert repr(told.spans.named("nope")) == "<0 spans named 'nope'>"
    assert repr(Spans(told.spans * 20)).endswith(f"; and {20 * len(told.spans) - 20} more>")
    logged = told.logs.of_event("otel_sched.job.exception")
    assert repr(logged).startswith("<1 log record of event 'otel_sched.job.exception': ERROR of queue 'orders'")
    assert all("\n" not in repr(each) for each in (told.spans, told.logs))


def test_several_spans_in_place_of_one_are_an_error_that_says_so(told: InMemoryTelemetry) -> None:
    """A question for the children of a whole result has no answer; nor has a trace id that is none."""
    with pytest.raises(TypeError, match=r"ask \.one\(\)"):
        told.spans.children_of(told.spans.named("process orders"))
    with pytest.raises(ValueError, match="hexadecimal"):
        told.spans.of_trace("request")


def test_clear_forgets_spans_and_log_records(told: InMemoryTelemetry) -> None:
    """What metrics have counted cannot be taken back."""
    told.clear()
    assert told.spans == ()
    assert told.logs == ()
    assert told.metric("otel_sched.jobs.put", queue="orders").value == 2


def test_as_default_it_hears_of_what_was_made_long_before(telemetry: InMemoryTelemetry) -> None:
    """A queue and a decorated function of a module that was imported before; afterwards both tell nobody."""

    async def main() -> None:
        EARLY.put_nowait(1)
        await charge(await EARLY.get())
        EARLY.task_done()

    listener = EARLY._otel_tracker.listener
    for number in (1, 1, 2):
        if number == 1:
            with telemetry.as_default():
                asyncio.run(main())
        else:
            asyncio.run(main())
    assert len(telemetry.spans.named("process early")) == 2
    assert len(telemetry.spans.named("charge")) == 2
    assert EARLY._otel_tracker.listener is listener
    assert not EARLY.ledger.following


def test_queues_of_other_tests_do_not_count(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """One of the same name that is still there, and of which nobody makes use any more, is in no metric."""
    old: Queue[int] = Queue(name="orders")
    old.put_nowait(1)
    with telemetry.as_default():
        arun(shop(telemetry))
        assert telemetry.metric("otel_sched.jobs.put", queue="orders").value == 2
        assert telemetry.metric("otel_sched.jobs.put").value == 2
    assert old.qsize() == 1


def test_as_default_findings_of_diagnostics_are_told_to_it(telemetry: InMemoryTelemetry) -> None:
    """They are log records like others."""
    finding = Finding(kind=FindingKind.DEADLOCK, sentence="all wait", queue="orders")
    with telemetry.as_default():
        default_reporter().finding(finding, None)
    default_reporter().finding(finding, None)
    telemetry.logs.of_event("otel_sched.finding.deadlock").of_queue("orders").one()


def test_everything_is_as_before_when_the_block_fails(telemetry: InMemoryTelemetry) -> None:
    """Observer, reporter, the root logger's handlers, and whether log lines want job ids."""

    def state() -> tuple[Any, ...]:
        return default_observer(), default_reporter(), logging.getLogger().handlers[:], interest.correlating

    def fails() -> None:
        with telemetry.as_default():
            assert all(one is not other for one, other in zip(state()[:2], before[:2], strict=True))
            raise KeyError

    before = state()
    with pytest.raises(KeyError):
        fails()
    assert state() == before


def test_a_queue_of_its_own_needs_no_default(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """`observer=telemetry.observer` is all."""

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders", observer=telemetry.observer)
        orders.put_nowait(1)
        await orders.get()
        orders.task_done()

    arun(main())
    telemetry.spans.named("process orders").with_outcome("ok").one()


def test_a_sampler_may_be_given() -> None:
    """Nothing that it does not keep is there; what was told can be read after the end."""
    telemetry = InMemoryTelemetry(sampling.ALWAYS_OFF)
    with telemetry.tracer.start_as_current_span("request"):
        pass
    telemetry.close()
    assert telemetry.spans == ()
