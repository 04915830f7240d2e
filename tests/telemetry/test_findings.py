"""OtelReporter: a finding is a log line, a log record with its job's trace, and an event on the job's span."""

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from typing import Any

import pytest

from otel_sched import Job, OtelObserver, OtelReporter, Queue
from otel_sched._core import finding, names
from otel_sched._core.clock import monotonic
from otel_sched._core.finding import Finding, FindingKind, default_reporter
from otel_sched._core.liveness import Beats
from otel_sched.diagnostics import LoopMonitor
from otel_sched.telemetry import loops
from otel_sched.telemetry.logs import OtlpHandler
from otel_sched.testing import InMemoryTelemetry, wait_until
from tests.conftest import ARun
from tests.loops import running

FACTS: dict[str, str | int | float | bool] = {
    "loop": "main",
    "seconds": 0.5,
    "file": "shop.py",
    "line": 7,
    "function": "charge",
    "job_id": "17",
    "cause": "code",
}


def a_finding(**changes: Any) -> Finding:
    """Return a finding of a blocked loop."""
    made: dict[str, Any] = {
        "kind": FindingKind.LOOP_BLOCKED,
        "sentence": "event loop 'main' is blocked",
        "queue": "orders",
        "stack": "Stack, most recent call last:\n  File shop.py",
        "facts": FACTS,
    }
    return Finding(**{**made, **changes})


@pytest.fixture
def reporter(telemetry: InMemoryTelemetry) -> OtelReporter:
    """Return a reporter that tells the test's providers."""
    return OtelReporter(**telemetry.providers)


async def in_a_job(telemetry: InMemoryTelemetry, fast: bool, act: Any) -> None:
    """Call *act* with the running job, in its consumer."""
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(**telemetry.providers, fast=fast))
    queue.put_nowait(1)
    await queue.get()
    act(next(iter(queue._otel_ledger.open)))
    queue.task_done()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
def test_an_open_job_gets_an_event_and_the_record_its_trace(
    telemetry: InMemoryTelemetry, reporter: OtelReporter, fast: bool
) -> None:
    """Both of the same name, with the facts under their names in the contract."""
    asyncio.run(in_a_job(telemetry, fast, lambda job: reporter.finding(a_finding(), job)))
    (span,) = telemetry.spans
    (event,) = span.events
    assert event.name == "otel_sched.finding.loop_blocked"
    attributes = dict(event.attributes or {})
    assert attributes == {
        names.FINDING_KIND: "loop_blocked",
        names.EVENTLOOP_NAME: "main",
        names.CODE_FILE_PATH: "shop.py",
        names.CODE_LINE_NUMBER: 7,
        names.CODE_FUNCTION_NAME: "charge",
        names.CODE_STACKTRACE: "Stack, most recent call last:\n  File shop.py",
        names.JOB_ID: "17",
        "otel_sched.finding.seconds": 0.5,
        "otel_sched.finding.cause": "code",
    }
    (record,) = (each.log_record for each in telemetry.logs)
    context = span.get_span_context()
    assert context is not None
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert record.event_name == "otel_sched.finding.loop_blocked"
    assert record.body == "event loop 'main' is blocked"
    assert record.severity_text == "WARN"
    assert record.attributes is not None
    assert record.attributes[names.QUEUE_NAME] == "orders"
    assert record.attributes[names.JOB_ID] == (span.attributes or {})[names.JOB_ID]


def test_a_job_that_is_over_still_lends_its_trace(telemetry: InMemoryTelemetry, reporter: OtelReporter) -> None:
    """The finding remembers the ids; they are the record's own fields, and no attributes."""
    ids = {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
    reporter.finding(a_finding(facts={**FACTS, **ids}), None)
    (record,) = (each.log_record for each in telemetry.logs)
    assert (record.trace_id, record.span_id) == (0xABC, 0xDEF)
    assert not {"trace_id", "span_id", "otel_sched.finding.trace_id"} & set(record.attributes or {})


def test_the_line_for_people_is_not_sent_a_second_time(telemetry: InMemoryTelemetry, reporter: OtelReporter) -> None:
    """It is written, with the stack, and a handler that sends lines over OTLP leaves it."""
    lines: list[logging.LogRecord] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record)

    logger = logging.getLogger("otel_sched")
    handlers: list[logging.Handler] = [Keeps(), OtlpHandler(logger_provider=telemetry.logger_provider)]
    for handler in handlers:
        logger.addHandler(handler)
    try:
        reporter.finding(a_finding(), None)
        OtelReporter(tracer_provider=telemetry.tracer_provider).finding(a_finding(), None)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
    assert [line.levelname for line in lines] == ["WARNING", "WARNING"]
    assert lines[0].getMessage().endswith("File shop.py")
    events = [each.log_record.event_name for each in telemetry.logs]
    assert events == ["otel_sched.finding.loop_blocked", None], "the second had no record of its own, so its line went"


def test_findings_are_counted_by_kind_and_queue(
    telemetry: InMemoryTelemetry, reporter: OtelReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, those that the rate limit holds back among them."""
    monkeypatch.setattr(finding, "tally", {})
    monkeypatch.setattr(loops, "tally", finding.tally)
    reporter.finding(a_finding(), None)
    for _ in range(6):
        finding.count(FindingKind.LOOP_BLOCKED, "orders")
    finding.count(FindingKind.DEADLOCK, "")
    points = {
        tuple(sorted(point.attributes.items())): point.value for point in telemetry.metrics()[names.FINDINGS.name]
    }
    assert points == {
        ((names.FINDING_KIND, "loop_blocked"), (names.QUEUE_NAME, "orders")): 6,
        ((names.FINDING_KIND, "deadlock"),): 1,
    }


def test_loops_are_measured(telemetry: InMemoryTelemetry, reporter: OtelReporter) -> None:
    """Delays, both times, the utilization since the last collection, and the age of the last beat."""
    for delay in (0.001, 0.002, 0.3):
        reporter.loop_delay("main", delay)
    reporter.loop_state("main", 0.25, 0.75)
    with contextlib.closing(running()) as loop:
        Beats(loop, 0.5, "main").turned(monotonic() - 5.0)
        first = telemetry.metrics()
    (delays,) = first[names.EVENTLOOP_DELAY.name]
    assert (delays.count, delays.max, tuple(delays.explicit_bounds)) == (3, 0.3, names.BUCKETS)
    assert dict(delays.attributes) == {names.EVENTLOOP_NAME: "main"}
    times = {point.attributes[names.EVENTLOOP_STATE]: point.value for point in first[names.EVENTLOOP_TIME.name]}
    assert times == {"active": 0.25, "idle": 0.75}
    assert [point.value for point in first[names.EVENTLOOP_UTILIZATION.name]] == [0.25]
    assert 5.0 <= first[names.EVENTLOOP_BEAT_AGE.name][0].value < 60.0
    reporter.loop_state("main", 0.9, 0.1)
    second = telemetry.metrics()
    assert [point.value for point in second[names.EVENTLOOP_UTILIZATION.name]] == [pytest.approx(0.9)]
    assert names.EVENTLOOP_BEAT_AGE.name not in second
    assert names.EVENTLOOP_UTILIZATION.name not in telemetry.metrics(), "a loop that is gone has none"


def test_reporters_of_the_same_providers_share_their_instruments(
    telemetry: InMemoryTelemetry, reporter: OtelReporter
) -> None:
    """A meter's instruments exist once."""
    reporter.loop_state("main", 1.0, 0.0)
    OtelReporter(**telemetry.providers).loop_state("main", 1.0, 0.0)
    times = {
        point.attributes[names.EVENTLOOP_STATE]: point.value
        for point in telemetry.metrics()["otel_sched.eventloop.time"]
    }
    assert times["active"] == 2.0


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
def test_a_blocked_loop_is_told_on_the_span_of_its_job(
    arun: ARun, telemetry: InMemoryTelemetry, reporter: OtelReporter, fast: bool
) -> None:
    """All of it together: the job that blocks is found, and its span says so before it ends."""

    def block(_: Job[Any]) -> None:
        time.sleep(0.3)

    async def main() -> None:
        with LoopMonitor(0.05, reporter=reporter):
            await asyncio.sleep(0.1)
            await in_a_job(telemetry, fast, block)
            await wait_until(lambda: len(telemetry.logs) > 1, description="both records")

    arun(main())
    (span,) = telemetry.spans
    context = span.get_span_context()
    assert [event.name for event in span.events] == ["otel_sched.finding.loop_blocked"]
    records = [each.log_record for each in telemetry.logs]
    assert [each.event_name for each in records] == list(names.FINDING_EVENTS[:2])
    assert context is not None
    assert {each.trace_id for each in records} == {context.trace_id}
    assert {each.span_id for each in records} == {context.span_id}
    assert (records[0].attributes or {})[
        names.CODE_FUNCTION_NAME
    ] == "test_a_blocked_loop_is_told_on_the_span_of_its_job.<locals>.block".rpartition(".")[2]


def test_it_is_the_default_and_loads_no_opentelemetry() -> None:
    """Importing library and diagnostics, and a finding in a program that has loaded none, leave it so."""
    assert isinstance(default_reporter(), OtelReporter)
    program = """
import sys, logging
import otel_sched
from otel_sched.diagnostics import Finding, FindingKind
from otel_sched._core import finding
from otel_sched._core.finding import default_reporter
default_reporter().finding(Finding(kind=FindingKind.DEADLOCK, sentence="stuck"), None)
default_reporter().loop_delay("main", 0.1)
assert "opentelemetry.metrics" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "stuck\n")
