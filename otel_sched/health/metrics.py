"""Floor 5: all queues' counts, sizes and ages, and the event loops', as Prometheus metrics by OpenTelemetry's names.

What is measured one by one, the histograms, is not here: only an SDK keeps those. A test holds the table against the
contract of the telemetry.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .._core.snapshot import SeriesCounts, Snapshot
from .exposition import Family, Sample
from .queues import Look

QUEUE = "otel_sched_queue_name"
JOB = "otel_sched_job_name"
OUTCOME = "otel_sched_job_outcome"
CANCEL_STATE = "otel_sched_cancel_state"
CANCEL_REASON = "otel_sched_cancel_reason"
DROP_REASON = "otel_sched_drop_reason"
SIGNAL = "otel_sched_telemetry_signal"
REASON = "otel_sched_telemetry_reason"
LOOP = "otel_sched_eventloop_name"

Points = Iterator[tuple[float, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: how it is called and what its points are."""

    name: str
    kind: str
    help: str
    points: Callable[[Snapshot], Points]


def families(look: Look, loops: Mapping[str, float]) -> Iterator[Family]:
    """Yield every metric that has a point, with its points, queues in the order of their names.

    *loops* has the seconds since each event loop last turned.
    """
    for metric in METRICS:
        samples = [
            Sample({QUEUE: name, **labels}, value)
            for name, snapshot in sorted(look.totals.items())
            for value, labels in metric.points(snapshot)
        ]
        if samples:
            yield Family(metric.name, metric.kind, metric.help, samples)
    if loops:
        yield Family(BEAT_AGE, GAUGE, BEAT_AGE_HELP, [Sample({LOOP: name}, age) for name, age in sorted(loops.items())])


def _one(value: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Points]:
    def points(snapshot: Snapshot) -> Points:
        number = value(snapshot)
        if number is not None:
            yield number, {}

    return points


def _job(name: str) -> dict[str, str]:
    return {JOB: name} if name else {}


def _each_job(value: Callable[[SeriesCounts], float]) -> Callable[[Snapshot], Points]:
    def points(snapshot: Snapshot) -> Points:
        for job, counts in snapshot.series.items():
            if counts.taken:
                yield value(counts), _job(job)

    return points


def _finished(snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for outcome, count in counts.outcomes.items():
            yield count, {**_job(job), OUTCOME: outcome}


def _cancelled(snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for (state, reason), count in counts.cancels.items():
            yield count, {**_job(job), CANCEL_STATE: state, CANCEL_REASON: reason}


def _dropped(snapshot: Snapshot) -> Points:
    for reason, count in snapshot.dropped.items():
        yield count, {DROP_REASON: reason}


def _limits(snapshot: Snapshot) -> Points:
    for job, limit in snapshot.limits.items():
        yield limit, _job(job)


def _busy(snapshot: Snapshot) -> Points:
    for job in snapshot.limits:
        counts = snapshot.series.get(job)
        yield 0 if counts is None else counts.active, _job(job)


def _held(snapshot: Snapshot) -> Points:
    if snapshot.held:
        yield snapshot.held, {SIGNAL: "logs", REASON: "repeated"}


def _errors(snapshot: Snapshot) -> Points:
    if snapshot.errors:
        yield snapshot.errors, {REASON: "observer"}


COUNTER, GAUGE = "counter", "gauge"

BEAT_AGE = "otel_sched_eventloop_beat_age_seconds"
BEAT_AGE_HELP = "How long ago the event loop last turned, as far as its heartbeat shows."

METRICS = (
    Metric("otel_sched_queue_size", GAUGE, "Jobs that wait in the queue.", _one(lambda each: each.size)),
    Metric(
        "otel_sched_queue_capacity",
        GAUGE,
        "How many jobs may wait; no series for an unbounded queue.",
        _one(lambda each: each.capacity),
    ),
    Metric(
        "otel_sched_queue_oldest_job_age_seconds",
        GAUGE,
        "How long the oldest waiting job has waited; 0 when none waits.",
        _one(lambda each: each.oldest_age),
    ),
    Metric(
        "otel_sched_queue_puts_waiting",
        GAUGE,
        "Producers blocked now because the queue is full.",
        _one(lambda each: each.puts_waiting),
    ),
    Metric(
        "otel_sched_queue_gets_waiting",
        GAUGE,
        "Consumers that wait for a job now.",
        _one(lambda each: each.gets_waiting),
    ),
    Metric("otel_sched_jobs_put_total", COUNTER, "Jobs put into the queue.", _one(lambda each: each.put)),
    Metric("otel_sched_jobs_taken_total", COUNTER, "Jobs taken out by consumers.", _one(lambda each: each.taken)),
    Metric("otel_sched_jobs_finished_total", COUNTER, "Jobs that ended, by outcome.", _finished),
    Metric("otel_sched_jobs_active", GAUGE, "Jobs that run now.", _each_job(lambda counts: counts.active)),
    Metric(
        "otel_sched_job_oldest_active_age_seconds",
        GAUGE,
        "How long the longest-running job has been running.",
        _each_job(lambda counts: counts.oldest_active_age),
    ),
    Metric(
        "otel_sched_jobs_cancelled_total",
        COUNTER,
        "Jobs that were cancelled, by where they were and why.",
        _cancelled,
    ),
    Metric("otel_sched_jobs_dropped_total", COUNTER, "Items that left the queue without being taken.", _dropped),
    Metric("otel_sched_workers_limit", GAUGE, "Workers of pools.", _limits),
    Metric("otel_sched_workers_busy", GAUGE, "Workers that have a job now.", _busy),
    Metric(
        "otel_sched_telemetry_dropped_total",
        COUNTER,
        "Telemetry that was held back or could not be exported.",
        _held,
    ),
    Metric(
        "otel_sched_telemetry_errors_total",
        COUNTER,
        "Failures of observers, each of which was switched off for its queue.",
        _errors,
    ),
)
