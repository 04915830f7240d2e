"""What has to arrive of the shop's spans and log records, wherever they are received: `arrival` is one run's telemetry.

Names and attributes are those of docs/telemetry.md. The metrics are in `metric_checks`.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from otel_sched._core import names
from otel_sched._core.repeats import BURST
from otel_sched._core.version import VERSION
from otel_sched.telemetry.providers import SCHEMA_URL
from tests.shop import plan
from tests.support.otlp_receiver import LogRecord, Point, Span

MODULE = "tests.shop.program"
PROCESS = {
    names.QUEUE_NAME,
    names.JOB_NAME,
    names.JOB_ID,
    names.JOB_ATTEMPT,
    names.JOB_OUTCOME,
    names.JOB_WAIT,
    names.CORRELATION,
    names.CODE_FUNCTION_NAME,
}
EXCEPTION = {names.EXCEPTION_TYPE, names.EXCEPTION_MESSAGE, names.EXCEPTION_STACKTRACE}
JOB = {names.QUEUE_NAME, names.JOB_NAME, names.JOB_ID, names.JOB_ATTEMPT}
EVENTS = {
    "error": (names.EVENT_EXCEPTION, "ERROR"),
    "timeout": (names.EVENT_TIMEOUT, "ERROR"),
    "cancelled": (names.EVENT_CANCELLED, "DEBUG"),
}


@dataclass
class Arrival:
    """All that arrived of one run, and what its program says of itself.

    The instrumentation scopes are triples of name, version and schema URL.
    """

    report: dict[str, Any]
    spans: list[Span] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    scopes: set[tuple[str, str, str]] = field(default_factory=set)

    def of(self, name: str) -> list[Span]:
        """Return the spans called *name*."""
        return [span for span in self.spans if span.name == name]

    def by_id(self) -> dict[str, Span]:
        """Return the spans by their span ids."""
        return {span.span_id: span for span in self.spans}

    def process_spans(self) -> list[Span]:
        """Return the spans of jobs whose run could be seen."""
        return [span for queue in plan.RUNNING for span in self.of(f"process {queue}")]


def the_program_ran_as_planned(arrival: Arrival) -> None:
    """The program did what it was to do, and all that it handed to its exporters went out."""
    report = arrival.report
    assert report["seen"] == dict(plan.JOBS["orders"])
    assert {name: stats["outcomes"] for name, stats in report["queues"].items()} == {
        queue: plan.outcomes(queue) for queue in plan.JOBS
    }
    assert (report["flushed"], report["complete"]) == (True, True)
    assert sorted(report["exported"]) == ["logs", "metrics", "traces"]
    for signal, counts in report["exported"].items():
        assert counts["failed"] == 0, signal
        assert counts["handed"] == counts["exported"] > 0, signal


def all_that_was_exported_arrived(arrival: Arrival) -> None:
    """Of each signal as much arrived as was exported, under the program's resource and the library's scope."""
    exported = {signal: counts["exported"] for signal, counts in arrival.report["exported"].items()}
    assert {
        "traces": len(arrival.spans),
        "metrics": len(arrival.points),
        "logs": len(arrival.records),
    } == exported
    everything: list[Any] = [*arrival.spans, *arrival.points, *arrival.records]
    resources = {tuple(sorted(each.resource.items())) for each in everything}
    assert len(resources) == 1
    assert dict(resources.pop())["telemetry.sdk.language"] == "python"
    ours = {scope for scope in arrival.scopes if scope[0] == names.SCOPE and scope[2]}
    assert ours == {(names.SCOPE, VERSION, SCHEMA_URL)}


def spans_arrived_once(arrival: Arrival) -> None:
    """Each span arrived, and arrived once."""
    twice = [key for key, number in Counter((s.trace_id, s.span_id) for s in arrival.spans).items() if number > 1]
    assert twice == []
    assert Counter((span.name, span.kind) for span in arrival.spans) == Counter(plan.spans())
    for name in ("put {}", "process {}"):
        ids = [span.attributes[names.JOB_ID] for queue in plan.JOBS for span in arrival.of(name.format(queue))]
        assert len(ids) == len(set(ids)), name
    for span in arrival.spans:
        assert 0 < span.start <= span.end, span
        assert span.events == (), span  # a logger provider is there: exceptions are log records


def spans_end_as_their_jobs_did(arrival: Arrival) -> None:
    """Outcome, type of error, reason and status of each job's span are what its end deserves."""
    for queue in plan.RUNNING:
        spans = arrival.of(f"process {queue}")
        ended = Counter((s.attributes[names.JOB_OUTCOME], s.attributes.get(names.ERROR_TYPE)) for s in spans)
        assert ended == Counter(plan.runs(queue)), queue
        reasons = Counter(s.attributes[names.CANCEL_REASON] for s in spans if names.CANCEL_REASON in s.attributes)
        assert reasons == Counter({reason: number for (_, reason), number in plan.cancels(queue).items()}), queue
    for span in arrival.process_spans():
        failed = span.attributes[names.JOB_OUTCOME] in ("error", "timeout")
        assert span.status == ("ERROR" if failed else "UNSET"), span
        assert bool(span.status_message) == (span.attributes[names.JOB_OUTCOME] == "error"), span


def spans_have_the_documented_attributes(arrival: Arrival) -> None:
    """Each span of the library carries the attributes that are documented for it, no more and no fewer."""
    for queue in plan.JOBS:
        for span in arrival.of(f"put {queue}"):
            assert set(span.attributes) == {names.QUEUE_NAME, names.JOB_ID}, span
            assert span.attributes[names.QUEUE_NAME] == queue, span
            assert (span.scope, span.status) == (names.SCOPE, "UNSET"), span
    for queue, function in plan.FUNCTIONS.items():
        for span in arrival.of(f"process {queue}"):
            seen = span.attributes
            more = {"error": {names.ERROR_TYPE}, "timeout": {names.ERROR_TYPE}, "cancelled": {names.CANCEL_REASON}}
            assert set(seen) == PROCESS | more.get(seen[names.JOB_OUTCOME], set()), span
            assert (seen[names.QUEUE_NAME], seen[names.JOB_NAME]) == (queue, plan.HANDLERS[queue]), span
            assert seen[names.CODE_FUNCTION_NAME] == f"{MODULE}.{function}", span
            assert seen[names.JOB_ATTEMPT] == 1, span
            assert type(seen[names.JOB_ATTEMPT]) is int, span
            assert type(seen[names.JOB_WAIT]) is float, span
            assert seen[names.JOB_WAIT] >= 0.0, span
            assert span.scope == names.SCOPE, span
    for span in arrival.of("charge"):
        failed = {names.ERROR_TYPE} if span.status == "ERROR" else set()
        assert set(span.attributes) == {names.CODE_FUNCTION_NAME, names.QUEUE_NAME, names.JOB_ID} | failed, span
        assert span.attributes[names.CODE_FUNCTION_NAME] == f"{MODULE}.charge", span


def parents_and_links_arrived(arrival: Arrival) -> None:
    """Whatever a span names as its parent or links to has arrived, in the same run, and began no later."""
    spans = arrival.by_id()
    for span in arrival.spans:
        if span.parent_span_id:
            parent = spans[span.parent_span_id]
            assert parent.trace_id == span.trace_id, span
            assert parent.start <= span.start, span
        for link in span.links:
            assert spans[link.span_id].trace_id == link.trace_id, span
    above = {
        "put orders": "checkout",
        "put payments": "process orders",
        "put reports": "checkout",
        "put replies": "request",
        "put closing": "closing time",
        "put left": "closing time",
        "charge": "process orders",
        "ledger": "process payments",
        "process replies": "request",
        "checkout": None,
        "request": None,
        "closing time": None,
    }
    for name, parent_name in above.items():
        found = {span.parent_span_id and spans[span.parent_span_id].name for span in arrival.of(name)}
        assert found == {parent_name or ""}, name


def jobs_are_tied_to_their_puts(arrival: Arrival) -> None:
    """Each job is tied to its own put: as a child, by a link, or not at all where there was no span at the put."""
    puts = {span.attributes[names.JOB_ID]: span for queue in plan.JOBS for span in arrival.of(f"put {queue}")}
    ways: Counter[tuple[str, str]] = Counter()
    for span in (*arrival.process_spans(), *arrival.of("process replies"), *arrival.of("charge")):
        producer = puts.get(span.attributes[names.JOB_ID])
        linked = [] if producer is None else [(producer.trace_id, producer.span_id)]
        assert [(link.trace_id, link.span_id) for link in span.links] == linked, span
        way = span.attributes.get(names.CORRELATION)
        if way is not None:
            ways[span.attributes[names.QUEUE_NAME], way] += 1
            if span.name != "process replies":  # that one is inside a span of its own
                parent = producer.span_id if producer is not None and way == "parent" else ""
                assert span.parent_span_id == parent, span
    outside = plan.put("orders") // plan.OUTSIDE
    assert ways == {
        ("orders", "parent"): plan.put("orders") - outside,
        ("orders", "none"): outside,
        ("payments", "parent"): plan.put("payments"),
        ("reports", "link"): plan.put("reports"),
        ("replies", "link"): plan.put("replies"),
    }


def baggage_came_along(arrival: Arrival) -> None:
    """The producer's baggage was readable two queues later, in the job that it caused and in no other."""
    tenants = [(span.attributes["shop.order"], span.attributes["shop.tenant"]) for span in arrival.of("ledger")]
    assert len({order for order, _ in tenants}) == plan.JOBS["payments"]["ok"]
    for order, tenant in tenants:
        assert tenant == (plan.tenant(order) if order % plan.OUTSIDE else "None")


def log_lines_arrived_once_on_their_spans(arrival: Arrival) -> None:
    """Each line of the application arrived once, on the span it was written under, with its job; so on stdout."""
    mine = [record for record in arrival.records if record.scope in ("shop", "structlog")]
    assert Counter((record.scope, record.body.split()[0]) for record in mine) == Counter(plan.log_lines())
    assert len({record.body for record in mine}) == len(mine)
    spans = arrival.by_id()
    under = {"charged": "charge", "refused": "process orders", "paid": "ledger"}
    more = {"charged": set[str](), "refused": EXCEPTION, "paid": {"amount"}}
    for record in mine:
        word = record.body.split()[0]
        assert record.severity_text == ("ERROR" if word == "refused" else "INFO"), record
        if word == "opened":
            assert (record.trace_id, record.span_id, record.attributes) == ("", "", {})
            continue
        span = spans[record.span_id]
        assert (record.trace_id, span.name) == (span.trace_id, under[word]), record
        job = spans[span.parent_span_id] if word == "paid" else span
        assert record.attributes[names.JOB_ID] == job.attributes[names.JOB_ID], record
        assert set(record.attributes) == JOB | more[word], record
        if word == "refused":
            assert record.attributes[names.EXCEPTION_TYPE] == "ValueError", record
            assert record.attributes[names.EXCEPTION_STACKTRACE].startswith("Traceback (most recent"), record
    arrived = {(r.body, r.trace_id, r.span_id, r.attributes[names.JOB_ID]) for r in mine if r.scope == "structlog"}
    assert {
        (line["event"], line["trace_id"], line["span_id"], line["job_id"]) for line in arrival.report["printed"]
    } == arrived


def failures_are_told_of_once(arrival: Arrival) -> None:
    """Each failure that nobody logged has one record on its job's span; beyond the rate limit it is counted in one."""
    told = [record for record in arrival.records if record.event_name in names.EVENTS]
    jobs = {span.attributes[names.JOB_ID]: span for span in arrival.process_spans()}
    alone: Counter[tuple[str, str, str | None]] = Counter()
    told_of = alone.copy()
    for record in told:
        seen = record.attributes
        key = (seen[names.QUEUE_NAME], seen[names.JOB_OUTCOME], seen.get(names.ERROR_TYPE))
        told_of[key] += seen.get(names.REPEATS, 0)
        if record.event_name == names.EVENT_REPEATED:
            assert record.severity_text == "WARN", record
            assert set(seen) - {names.ERROR_TYPE} == {names.QUEUE_NAME, names.JOB_OUTCOME, names.REPEATS}, record
            continue
        alone[key] += 1
        told_of[key] += 1
        assert (record.event_name, record.severity_text) == EVENTS[key[1]], record
        span = jobs.get(seen[names.JOB_ID])
        where = ("", "") if span is None else (span.trace_id, span.span_id)
        assert (record.trace_id, record.span_id) == where, record
        assert set(seen) - {names.REPEATS} == _failure_attributes(key), record
    assert told_of == Counter(plan.failures())
    for key, number in plan.failures().items():
        assert alone[key] >= min(BURST, number), key
    ids = [record.attributes[names.JOB_ID] for record in told if names.JOB_ID in record.attributes]
    assert len(ids) == len(set(ids))


def _failure_attributes(key: tuple[str, str, str | None]) -> set[str]:
    queue, outcome, _ = key
    known = JOB | {names.JOB_OUTCOME}
    if outcome == "cancelled":
        return known - ({names.JOB_NAME} if queue == "closing" else set()) | {names.CANCEL_REASON}
    return known | {names.ERROR_TYPE} | EXCEPTION


def waits(arrival: Arrival, queue: str) -> float:
    """Return the seconds that the jobs of *queue* waited, summed up from their spans."""
    return math.fsum(span.attributes[names.JOB_WAIT] for span in arrival.of(f"process {queue}"))


CHECKS: tuple[Callable[[Arrival], None], ...] = (
    the_program_ran_as_planned,
    all_that_was_exported_arrived,
    spans_arrived_once,
    spans_end_as_their_jobs_did,
    spans_have_the_documented_attributes,
    parents_and_links_arrived,
    jobs_are_tied_to_their_puts,
    baggage_came_along,
    log_lines_arrived_once_on_their_spans,
    failures_are_told_of_once,
)
