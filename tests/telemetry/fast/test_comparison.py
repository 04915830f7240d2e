"""The comparison of two runs sees whatever is told otherwise: each field that is changed in one run is found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from tests.support.both_paths import PathTelemetry
from tests.support.compare import differences
from tests.support.programs import Line, Program, Put
from tests.support.random_programs import Sdk, told_by

PROGRAM = Program(
    (Line(), Line(consumer="pool")),
    (Put(((("event", "ping"), ("attribute", ("user", 1)), ("sleep", 9)), (("put", (1, (("raise", "boom"),))),))),),
)
WAITS = "otel_sched.job.wait.duration"


def one_run() -> PathTelemetry:
    """Run the program on the plain path."""
    return told_by(PROGRAM, Sdk(), fast=False)[1]


def job(run: PathTelemetry) -> Any:
    """Return the span of the first job."""
    return next(span for span in run.spans if span.name == "process line 0")


def put(run: PathTelemetry) -> Any:
    """Return the span of the first put."""
    return next(span for span in run.spans if span.name == "put line 0")


def other(context: Any, **fields: Any) -> SpanContext:
    """Return a span context with some fields changed."""
    given = {
        name: getattr(context, name) for name in ("trace_id", "span_id", "is_remote", "trace_flags", "trace_state")
    }
    return SpanContext(**{**given, **fields})


def change(what: Any, **fields: Any) -> None:
    """Change fields of an object, frozen or not."""
    for name, value in fields.items():
        object.__setattr__(what, name, value)


def changed_attributes(span: Any, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit a span's attributes."""
    attributes = dict(span.attributes)
    span._attributes = edit(attributes) or attributes


SPANS: dict[str, Callable[[PathTelemetry], Any]] = {
    "name": lambda run: change(job(run), _name="process other"),
    "kind": lambda run: change(job(run), _kind=SpanKind.INTERNAL),
    "no parent": lambda run: change(job(run), _parent=None),
    "another parent": lambda run: change(job(run), _parent=next(s for s in run.spans if s.name == "request").context),
    "remote parent": lambda run: change(job(run), _parent=other(job(run).parent, is_remote=True)),
    "trace id": lambda run: change(put(run), _context=other(put(run).context, trace_id=1)),
    "span id": lambda run: change(put(run), _context=other(put(run).context, span_id=1)),
    "flags": lambda run: change(job(run), _context=other(job(run).context, trace_flags=TraceFlags(1))),
    "trace state": lambda run: change(job(run), _context=other(job(run).context, trace_state=TraceState([("a", "b")]))),
    "no link": lambda run: change(job(run), _links=()),
    "two links": lambda run: change(job(run), _links=(*job(run).links, *job(run).links)),
    "another link": lambda run: change(job(run), _links=(Link(job(run).context),)),
    "link attributes": lambda run: change(job(run), _links=(Link(job(run).links[0].context, {"a": 1}),)),
    "attribute value": lambda run: changed_attributes(job(run), lambda found: found.update(user=2)),
    "attribute type": lambda run: changed_attributes(job(run), lambda found: found.update(user=True)),
    "attribute missing": lambda run: changed_attributes(job(run), lambda found: found.pop("user") and found),
    "attribute order": lambda run: changed_attributes(job(run), lambda found: dict(sorted(found.items()))),
    "job id": lambda run: changed_attributes(put(run), lambda found: found.update({"otel_sched.job.id": "x"})),
    "status": lambda run: change(job(run), _status=Status(StatusCode.OK)),
    "description": lambda run: change(job(run), _status=Status(StatusCode.ERROR, "why")),
    "no event": lambda run: change(job(run), _events=()),
    "event name": lambda run: change(job(run), _events=(Event("pong", {"size": 4, "name": "ping"}, 1),)),
    "event time": lambda run: change(job(run).events[0], _timestamp=1),
    "start": lambda run: change(job(run), _start_time=job(run).start_time + 1),
    "end": lambda run: change(job(run), _end_time=job(run).end_time + 1),
    "order in time": lambda run: change(job(run), _start_time=job(run).end_time + 1),
    "resource": lambda run: change(job(run), _resource=Resource({"service.name": "other"})),
    "scope": lambda run: change(job(run), _instrumentation_scope=InstrumentationScope("otel_sched", "9")),
    "a span missing": lambda run: run._spans._finished_spans.pop(),
    "spans in another order": lambda run: run._spans._finished_spans.reverse(),
}


@pytest.mark.parametrize("what", sorted(SPANS))
def test_a_change_of_a_span_is_found(what: str) -> None:
    """One field of one span."""
    plain, mutated = one_run(), one_run()
    assert not list(differences(plain.told(), mutated.told())), "nothing was changed yet"
    SPANS[what](mutated)
    assert list(differences(plain.told(), mutated.told()))


def metric(run: PathTelemetry) -> Any:
    """Return the wait histogram of the last collection."""
    (scopes,) = [each.scope_metrics for each in run.metric_exporter.collected[-1].resource_metrics]
    return next(each for scope in scopes for each in scope.metrics if each.name == WAITS)


def point(run: PathTelemetry) -> Any:
    """Return a point of it."""
    return metric(run).data.data_points[0]


def exemplar(run: PathTelemetry) -> Any:
    """Return an exemplar of it."""
    return point(run).exemplars[0]


METRICS: dict[str, Callable[[PathTelemetry], Any]] = {
    "name": lambda run: change(metric(run), name="other"),
    "unit": lambda run: change(metric(run), unit="ms"),
    "description": lambda run: change(metric(run), description="other"),
    "temporality": lambda run: change(metric(run).data, aggregation_temporality=AggregationTemporality.DELTA),
    "a point missing": lambda run: change(metric(run).data, data_points=metric(run).data.data_points[1:]),
    "attributes": lambda run: change(point(run), attributes={"otel_sched.queue.name": "other"}),
    "count": lambda run: change(point(run), count=7),
    "sum": lambda run: change(point(run), sum=point(run).sum + 1e-9),
    "min": lambda run: change(point(run), min=-1.0),
    "max": lambda run: change(point(run), max=99.0),
    "buckets": lambda run: change(point(run), bucket_counts=[1, *point(run).bucket_counts[1:-1], 1]),
    "bounds": lambda run: change(point(run), explicit_bounds=(1.0,)),
    "time": lambda run: change(point(run), time_unix_nano=1),
    "later start": lambda run: change(point(run), start_time_unix_nano=point(run).time_unix_nano),
    "no exemplar": lambda run: change(point(run), exemplars=()),
    "exemplar value": lambda run: change(exemplar(run), value=-1.0),
    "exemplar later": lambda run: change(exemplar(run), time_unix_nano=exemplar(run).time_unix_nano + 1),
    "exemplar of another span": lambda run: change(exemplar(run), span_id=put(run).context.span_id),
    "a collection missing": lambda run: run.metric_exporter.collected.pop(),
}


@pytest.mark.parametrize("what", sorted(METRICS))
def test_a_change_of_a_metric_is_found(what: str) -> None:
    """One field of one metric, point or exemplar."""
    plain, mutated = one_run(), one_run()
    METRICS[what](mutated)
    assert list(differences(plain.told(), mutated.told()))


LOGS: dict[str, Callable[[Any], Any]] = {
    "body": lambda record: change(record, body="other"),
    "severity": lambda record: change(record, severity_text="WARN"),
    "event name": lambda record: change(record, event_name="other"),
    "attributes": lambda record: change(record, attributes={**record.attributes, "a": 1}),
    "trace": lambda record: change(record, trace_id=1),
    "span": lambda record: change(record, span_id=1),
    "time": lambda record: change(record, timestamp=1),
}


@pytest.mark.parametrize("what", sorted(LOGS))
def test_a_change_of_a_log_record_is_found(what: str) -> None:
    """One field of one record."""
    plain, mutated = one_run(), one_run()
    LOGS[what](mutated.logs[0].log_record)
    assert list(differences(plain.told(), mutated.told()))


def test_what_user_code_saw_is_compared() -> None:
    """A span that says something else while its job runs is a difference, though it is exported the same."""
    program = Program((Line(),), (Put(((("look", None),),)),))
    plain, _ = told_by(program, Sdk(), fast=False)
    mutated = copy.deepcopy(plain)
    mutated["seen"][0]["said"]["attributes"].pop()
    assert list(differences(plain, mutated))
