"""Floor 2: which points the counts and gauges of a queue have, for OTLP and for /metrics alike.

Without the queue's name: whoever tells adds it.
"""

from collections.abc import Callable, Iterator

from . import names
from .names import Instrument
from .snapshot import SeriesCounts, Snapshot

Points = Iterator[tuple[float, dict[str, str]]]


def _one(value: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Points]:
    def points(snapshot: Snapshot) -> Points:
        number = value(snapshot)
        if number is not None:
            yield number, {}

    return points


def _job(name: str) -> dict[str, str]:
    return {names.JOB_NAME: name} if name else {}


def _each_job(value: Callable[[SeriesCounts], float]) -> Callable[[Snapshot], Points]:
    def points(snapshot: Snapshot) -> Points:
        for job, counts in snapshot.series.items():
            if counts.taken:
                yield value(counts), _job(job)

    return points


def _finished(snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for outcome, count in counts.outcomes.items():
            yield count, {**_job(job), names.JOB_OUTCOME: outcome}


def _cancelled(snapshot: Snapshot) -> Points:
    for job, counts in snapshot.series.items():
        for (state, reason), count in counts.cancels.items():
            yield count, {**_job(job), names.CANCEL_STATE: state, names.CANCEL_REASON: reason}


def _dropped(snapshot: Snapshot) -> Points:
    for reason, count in snapshot.dropped.items():
        yield count, {names.DROP_REASON: reason}


def _limits(snapshot: Snapshot) -> Points:
    for job, limit in snapshot.limits.items():
        yield limit, _job(job)


def _busy(snapshot: Snapshot) -> Points:
    for job in snapshot.limits:
        counts = snapshot.series.get(job)
        yield 0 if counts is None else counts.active, _job(job)


def _held(snapshot: Snapshot) -> Points:
    if snapshot.held:
        yield snapshot.held, {names.TELEMETRY_SIGNAL: "logs", names.TELEMETRY_REASON: names.REPEATED}


def _errors(snapshot: Snapshot) -> Points:
    if snapshot.errors:
        yield snapshot.errors, {names.TELEMETRY_REASON: names.OBSERVER_FAILED}


POINTS: dict[Instrument, Callable[[Snapshot], Points]] = {
    names.JOBS_PUT: _one(lambda snapshot: snapshot.put),
    names.JOBS_TAKEN: _one(lambda snapshot: snapshot.taken),
    names.JOBS_FINISHED: _finished,
    names.JOBS_ACTIVE: _each_job(lambda counts: counts.active),
    names.JOBS_CANCELLED: _cancelled,
    names.JOBS_DROPPED: _dropped,
    names.QUEUE_SIZE: _one(lambda snapshot: snapshot.size),
    names.QUEUE_CAPACITY: _one(lambda snapshot: snapshot.capacity),
    names.OLDEST_AGE: _one(lambda snapshot: snapshot.oldest_age),
    names.OLDEST_ACTIVE_AGE: _each_job(lambda counts: counts.oldest_active_age),
    names.PUTS_WAITING: _one(lambda snapshot: snapshot.puts_waiting),
    names.GETS_WAITING: _one(lambda snapshot: snapshot.gets_waiting),
    names.WORKERS_LIMIT: _limits,
    names.WORKERS_BUSY: _busy,
    names.TELEMETRY_DROPPED: _held,
    names.TELEMETRY_ERRORS: _errors,
}
"""The instruments that are read from a ledger, when somebody asks."""
