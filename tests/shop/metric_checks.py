"""What has to arrive of the shop's metrics. Counters are cumulative: every export holds all series anew."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from otel_sched._core import names
from otel_sched._core.names import Instrument
from tests.shop import plan
from tests.shop.checks import Arrival, waits
from tests.support.otlp_receiver import Point

KINDS = {
    names.HISTOGRAM: ("histogram", "CUMULATIVE", False),
    names.COUNTER: ("sum", "CUMULATIVE", True),
    names.UPDOWN: ("sum", "CUMULATIVE", False),
    names.GAUGE: ("gauge", "", False),
}
OF_THE_EXPORT = frozenset(each.name for each in names.OF_THE_EXPORT)
HISTOGRAMS = (names.WAIT_DURATION.name, names.RUN_DURATION.name, names.PUT_BLOCKED.name)


def metrics_are_the_documented_ones(arrival: Arrival) -> None:
    """All documented metrics arrived, and no other, each of its kind and with its own attributes alone."""
    absent = {names.TELEMETRY_ERRORS, *names.OF_DIAGNOSTICS}
    documented = {each.name: each for each in names.INSTRUMENTS if each not in absent}
    assert {point.name for point in arrival.points} == set(documented)
    for point in arrival.points:
        instrument = documented[point.name]
        assert (point.kind, point.temporality, point.monotonic) == KINDS[instrument.kind], point
        assert (point.unit, point.description) == (instrument.unit, instrument.description), point
        assert point.scope == names.SCOPE, point
        assert set(point.attributes) == _attributes(instrument, point.attributes), point
        assert point.name in OF_THE_EXPORT or point.attributes[names.QUEUE_NAME] in plan.JOBS, point
    series = Counter((point.request, point.name, frozenset(point.attributes.items())) for point in arrival.points)
    assert [key for key, number in series.items() if number > 1] == []


def _attributes(instrument: Instrument, seen: dict[str, Any]) -> set[str]:
    """Return which attributes a point of *instrument* has to have, given its own."""
    if instrument in names.OF_THE_EXPORT:
        return set(instrument.attributes)
    wanted = {names.QUEUE_NAME, *instrument.attributes}
    if seen.get(names.QUEUE_NAME) == "closing":  # cancelled before anybody took them
        wanted.discard(names.JOB_NAME)
    if seen.get(names.JOB_OUTCOME) not in ("error", "timeout"):
        wanted.discard(names.ERROR_TYPE)
    return wanted


def the_books_balance_in_every_export(arrival: Arrival) -> None:
    """In every single export, for every queue: put = size + active + finished + dropped."""
    sums: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for point in _of_queues(arrival):
        sums[point.request, point.attributes[names.QUEUE_NAME]][point.name] += int(point.value)
    assert len({request for request, _ in sums}) >= 2
    for where, values in sums.items():
        parts = (names.QUEUE_SIZE, names.JOBS_ACTIVE, names.JOBS_FINISHED, names.JOBS_DROPPED)
        assert values[names.JOBS_PUT.name] == sum(values[part.name] for part in parts), (where, values)


def counts_are_right_at_the_end(arrival: Arrival) -> None:
    """The last export's counts are the plan's."""
    last = _last(arrival)
    for queue in plan.JOBS:
        kinds = plan.JOBS[queue]
        assert last[names.JOBS_PUT.name, queue] == {(): plan.put(queue)}
        assert last[names.JOBS_TAKEN.name, queue] == {(): plan.taken(queue)}
        assert last[names.QUEUE_SIZE.name, queue] == {(): kinds.get("waiting", 0)}
        assert sum(last[names.JOBS_ACTIVE.name, queue].values()) == kinds.get("active", 0)
        finished: Counter[str] = Counter()
        for attributes, value in last[names.JOBS_FINISHED.name, queue].items():
            finished[dict(attributes)[names.JOB_OUTCOME]] += int(value)
        assert +finished == Counter(plan.outcomes(queue))
        cancelled = {
            (dict(attributes)[names.CANCEL_STATE], dict(attributes)[names.CANCEL_REASON]): value
            for attributes, value in last[names.JOBS_CANCELLED.name, queue].items()
        }
        assert cancelled == plan.cancels(queue)
        capacity = plan.CAPACITY.get(queue)
        assert last[names.QUEUE_CAPACITY.name, queue] == ({} if capacity is None else {(): capacity})
    dropped = last[names.JOBS_DROPPED.name, "left"]
    assert dropped == {((names.DROP_REASON, "cleared"),): plan.JOBS["left"]["cleared"]}


def gauges_agree_with_the_queues(arrival: Arrival) -> None:
    """What is measured at the moment of the last export is what the queues said of themselves just before it."""
    last = _last(arrival)
    for queue, stats in arrival.report["queues"].items():
        assert last[names.PUTS_WAITING.name, queue] == {(): stats["puts_waiting"]}
        assert last[names.GETS_WAITING.name, queue] == {(): stats["gets_waiting"]}
        for instrument, age in ((names.OLDEST_AGE, "oldest_age"), (names.OLDEST_ACTIVE_AGE, "oldest_active_age")):
            exported = max(last[instrument.name, queue].values(), default=0.0)
            # The jobs that are left in one queue have grown older since; elsewhere there are none.
            assert (exported > stats[age] > 0.0) if queue == "left" else (exported == stats[age] == 0.0)


def workers_were_counted_while_pools_ran(arrival: Arrival) -> None:
    """While the pools ran an export said how many workers they had, and that some of them were busy."""
    most: Counter[tuple[str, str]] = Counter()
    for point in _of_queues(arrival):
        key = (point.name, point.attributes[names.QUEUE_NAME])
        most[key] = max(most[key], int(point.value))
    for queue, workers in plan.WORKERS.items():
        assert most[names.WORKERS_LIMIT.name, queue] == workers
    assert plan.JOBS["payments"]["hung"] <= most[names.WORKERS_BUSY.name, "payments"] <= plan.WORKERS["payments"]


def histograms_count_each_job_once(arrival: Arrival) -> None:
    """The histograms counted each job once, in the documented buckets, and agree with the spans."""
    points = [point for point in _latest(arrival).values() if point.name in HISTOGRAMS]
    runs: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
    waited: dict[str, Point] = {}
    for point in points:
        queue, seen = point.attributes[names.QUEUE_NAME], point.attributes
        assert point.bounds == (plan.BUCKETS if queue == "reports" else names.BUCKETS), point
        assert sum(point.buckets) == point.count > 0, point
        if point.name == names.RUN_DURATION.name:
            runs[queue][seen[names.JOB_OUTCOME], seen.get(names.ERROR_TYPE)] += point.count
        elif point.name == names.WAIT_DURATION.name:
            waited[queue] = point
    assert runs == {queue: Counter(plan.runs(queue)) for queue in plan.RUNNING}
    assert {queue: point.count for queue, point in waited.items()} == {
        queue: plan.taken(queue) for queue in plan.JOBS if plan.taken(queue)
    }
    for queue in plan.FUNCTIONS:
        assert math.isclose(waited[queue].sum, waits(arrival, queue), rel_tol=1e-9)
    blocked = {point.attributes[names.QUEUE_NAME] for point in points if point.name == names.PUT_BLOCKED.name}
    assert blocked == {"orders"}


def exemplars_lead_to_traces(arrival: Arrival) -> None:
    """Every exemplar leads to a trace that arrived, and to a span of it unless its job still runs."""
    traces = {span.trace_id for span in arrival.spans}
    spans = arrival.by_id()
    found = Counter[str]()
    for point in arrival.points:
        for exemplar in point.exemplars:
            found[point.name] += 1
            assert exemplar.trace_id in traces, point
            if point.attributes[names.QUEUE_NAME] != "left":
                assert spans[exemplar.span_id].trace_id == exemplar.trace_id, point
    assert set(found) == set(HISTOGRAMS)


def held_back_records_are_counted(arrival: Arrival) -> None:
    """The log records that the rate limit held back are counted, and those alone."""
    kept = Counter(
        record.attributes[names.QUEUE_NAME]
        for record in arrival.records
        if record.event_name in names.EVENTS and record.event_name != names.EVENT_REPEATED
    )
    failed: Counter[str] = Counter()
    for (queue, _, _), number in plan.failures().items():
        failed[queue] += number
    last = _last(arrival)
    held = {(names.TELEMETRY_SIGNAL, "logs"), (names.TELEMETRY_REASON, names.REPEATED)}
    for queue in plan.JOBS:
        number = failed[queue] - kept[queue]
        counted = {frozenset(key): value for key, value in last[names.TELEMETRY_DROPPED.name, queue].items()}
        assert counted == ({frozenset(held): number} if number else {})


def the_export_tells_of_itself(arrival: Arrival) -> None:
    """Spans by rule, how full the buffers are and how long exports took; nothing was lost."""
    points = [point for point in arrival.points if point.name in OF_THE_EXPORT]
    attributes = {each.name: each.attributes for each in names.OF_THE_EXPORT}
    last = {(point.name, *(point.attributes[each] for each in attributes[point.name])): point for point in points}
    assert 0 < last[names.TELEMETRY_SPANS.name, names.SAMPLED].value <= len(arrival.spans)
    for signal in ("traces", "logs"):
        assert last[names.BUFFER_SIZE.name, signal].value <= last[names.BUFFER_CAPACITY.name, signal].value == 20_000
        assert last[names.EXPORT_DURATION.name, signal, "ok"].count > 0
    assert all(each["failed"] == 0 for each in arrival.report["exported"].values())


def _of_queues(arrival: Arrival) -> list[Point]:
    """Return the points that are about a queue."""
    return [point for point in arrival.points if point.name not in OF_THE_EXPORT]


def _latest(arrival: Arrival) -> dict[tuple[str, frozenset[tuple[str, Any]]], Point]:
    """Return the last point of each series."""
    points = sorted(arrival.points, key=lambda point: point.time)
    return {(point.name, frozenset(point.attributes.items())): point for point in points}


def _last(arrival: Arrival) -> dict[tuple[str, str], dict[tuple[tuple[str, Any], ...], float]]:
    """Return the last export's values by metric and queue, and then by the other attributes."""
    end = max(point.time for point in arrival.points)
    values: dict[tuple[str, str], dict[tuple[tuple[str, Any], ...], float]] = defaultdict(dict)
    for point in _of_queues(arrival):
        if point.time == end:
            others = tuple((key, value) for key, value in point.attributes.items() if key != names.QUEUE_NAME)
            values[point.name, point.attributes[names.QUEUE_NAME]][others] = point.value
    return values


CHECKS: tuple[Callable[[Arrival], None], ...] = (
    metrics_are_the_documented_ones,
    the_books_balance_in_every_export,
    counts_are_right_at_the_end,
    gauges_agree_with_the_queues,
    workers_were_counted_while_pools_ran,
    histograms_count_each_job_once,
    exemplars_lead_to_traces,
    held_back_records_are_counted,
    the_export_tells_of_itself,
)
