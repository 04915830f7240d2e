"""Floor 2: the telemetry contract: every span, metric and attribute name, once. `docs/telemetry.md` explains them.

Plain data, for the wings that tell by these names. A test holds this file against the documentation and whatever else
names them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .finding import FindingKind

SCOPE = "otel_sched"

# Attributes of spans, metrics and log records
QUEUE_NAME = "otel_sched.queue.name"
JOB_NAME = "otel_sched.job.name"
JOB_ID = "otel_sched.job.id"
JOB_ATTEMPT = "otel_sched.job.attempt"
JOB_OUTCOME = "otel_sched.job.outcome"
JOB_WAIT = "otel_sched.job.wait"
CORRELATION = "otel_sched.correlation"
CANCEL_STATE = "otel_sched.cancel.state"
CANCEL_REASON = "otel_sched.cancel.reason"
DROP_REASON = "otel_sched.drop.reason"
TELEMETRY_SIGNAL = "otel_sched.telemetry.signal"
TELEMETRY_REASON = "otel_sched.telemetry.reason"
TELEMETRY_RULE = "otel_sched.telemetry.rule"
TELEMETRY_OUTCOME = "otel_sched.telemetry.outcome"
REPEATS = "otel_sched.repeats"
KEEP_RULE = "otel_sched.keep.rule"
EVENTLOOP_NAME = "otel_sched.eventloop.name"
EVENTLOOP_STATE = "otel_sched.eventloop.state"
FINDING_KIND = "otel_sched.finding.kind"

# Attributes of the semantic conventions, all of them stable there
ERROR_TYPE = "error.type"
CODE_FUNCTION_NAME = "code.function.name"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
CODE_FILE_PATH = "code.file.path"
CODE_LINE_NUMBER = "code.line.number"
CODE_STACKTRACE = "code.stacktrace"

SPAN_ATTRIBUTES = (
    QUEUE_NAME,
    JOB_NAME,
    JOB_ID,
    JOB_ATTEMPT,
    JOB_OUTCOME,
    JOB_WAIT,
    CORRELATION,
    CANCEL_REASON,
    KEEP_RULE,
    ERROR_TYPE,
    CODE_FUNCTION_NAME,
)

# Spans
PUT_SPAN = "put {queue}"
PROCESS_SPAN = "process {queue}"

# Log records, by event name
EVENT_EXCEPTION = "otel_sched.job.exception"
EVENT_TIMEOUT = "otel_sched.job.timeout"
EVENT_CANCELLED = "otel_sched.job.cancelled"
EVENT_REPEATED = "otel_sched.job.repeated"
EVENTS = (EVENT_EXCEPTION, EVENT_TIMEOUT, EVENT_CANCELLED, EVENT_REPEATED)

EVENT_FINDING = "otel_sched.finding.{kind}"
FINDING_EVENTS = tuple(EVENT_FINDING.format(kind=kind) for kind in FindingKind)
"""Of log records and of events on a job's span."""

FINDING_FACT = "otel_sched.finding.{fact}"
"""What a fact of a finding is called that has no name of its own."""
FINDING_FACTS: Mapping[str, str] = {
    "loop": EVENTLOOP_NAME,
    "file": CODE_FILE_PATH,
    "line": CODE_LINE_NUMBER,
    "function": CODE_FUNCTION_NAME,
    "job": JOB_NAME,
    "job_id": JOB_ID,
    "id": JOB_ID,
    "error.type": ERROR_TYPE,
    "held_back": REPEATS,
}
"""Facts that have one."""
FINDING_IDS = ("trace_id", "span_id")
"""Facts that say which span a record belongs to: they are no attributes."""

STACKTRACE_LIMIT = 16 * 1024
"""Bytes of a stack trace that go out: back ends refuse the whole record beyond their limits."""

BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
)  # fmt: skip
"""Upper bounds, in seconds, of the wait, run and blocked histograms."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric: how it is made, and which attributes its points carry beside the queue's name."""

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()


HISTOGRAM, COUNTER, UPDOWN, GAUGE = (
    "histogram",
    "observable counter",
    "observable up-down counter",
    "observable gauge",
)

QUEUE_SIZE = Instrument("otel_sched.queue.size", UPDOWN, "{job}", "Jobs that wait in the queue.")
QUEUE_CAPACITY = Instrument(
    "otel_sched.queue.capacity", UPDOWN, "{job}", "How many jobs may wait; no series for an unbounded queue."
)
OLDEST_AGE = Instrument(
    "otel_sched.queue.oldest_job.age",
    GAUGE,
    "s",
    "How long the oldest waiting job has waited; 0 when none waits.",
)
PUTS_WAITING = Instrument(
    "otel_sched.queue.puts.waiting", UPDOWN, "{producer}", "Producers blocked now because the queue is full."
)
GETS_WAITING = Instrument("otel_sched.queue.gets.waiting", UPDOWN, "{consumer}", "Consumers that wait for a job now.")
PUT_BLOCKED = Instrument(
    "otel_sched.queue.put.blocked.duration",
    HISTOGRAM,
    "s",
    "How long a put waited for room; only those that had to.",
)
JOBS_PUT = Instrument("otel_sched.jobs.put", COUNTER, "{job}", "Jobs put into the queue.")
JOBS_TAKEN = Instrument("otel_sched.jobs.taken", COUNTER, "{job}", "Jobs taken out by consumers.")
JOBS_FINISHED = Instrument(
    "otel_sched.jobs.finished", COUNTER, "{job}", "Jobs that ended, by outcome.", (JOB_NAME, JOB_OUTCOME)
)
WAIT_DURATION = Instrument("otel_sched.job.wait.duration", HISTOGRAM, "s", "From put to taken.")
RUN_DURATION = Instrument(
    "otel_sched.job.run.duration",
    HISTOGRAM,
    "s",
    "From start to the job's end.",
    (JOB_NAME, JOB_OUTCOME, ERROR_TYPE),
)
JOBS_ACTIVE = Instrument("otel_sched.jobs.active", UPDOWN, "{job}", "Jobs that run now.", (JOB_NAME,))
OLDEST_ACTIVE_AGE = Instrument(
    "otel_sched.job.oldest_active.age",
    GAUGE,
    "s",
    "How long the longest-running job has been running.",
    (JOB_NAME,),
)
JOBS_CANCELLED = Instrument(
    "otel_sched.jobs.cancelled",
    COUNTER,
    "{job}",
    "Jobs that were cancelled, by where they were and why.",
    (JOB_NAME, CANCEL_STATE, CANCEL_REASON),
)
JOBS_DROPPED = Instrument(
    "otel_sched.jobs.dropped",
    COUNTER,
    "{job}",
    "Items that left the queue without being taken.",
    (DROP_REASON,),
)
WORKERS_LIMIT = Instrument("otel_sched.workers.limit", UPDOWN, "{worker}", "Workers of pools.", (JOB_NAME,))
WORKERS_BUSY = Instrument("otel_sched.workers.busy", UPDOWN, "{worker}", "Workers that have a job now.", (JOB_NAME,))
TELEMETRY_DROPPED = Instrument(
    "otel_sched.telemetry.dropped",
    COUNTER,
    "{item}",
    "Telemetry that was held back or could not be exported.",
    (TELEMETRY_SIGNAL, TELEMETRY_REASON),
)
TELEMETRY_ERRORS = Instrument(
    "otel_sched.telemetry.errors",
    COUNTER,
    "{error}",
    "Failures of observers, each of which was switched off for its queue.",
    (TELEMETRY_REASON,),
)
TELEMETRY_SPANS = Instrument(
    "otel_sched.telemetry.spans",
    COUNTER,
    "{span}",
    "Spans handed to the exporter, by the rule that kept them.",
    (TELEMETRY_RULE,),
)
BUFFER_SIZE = Instrument(
    "otel_sched.telemetry.buffer.size", UPDOWN, "{item}", "Spans or log records that wait.", (TELEMETRY_SIGNAL,)
)
BUFFER_CAPACITY = Instrument(
    "otel_sched.telemetry.buffer.capacity", UPDOWN, "{item}", "How many of them may wait.", (TELEMETRY_SIGNAL,)
)
EXPORT_DURATION = Instrument(
    "otel_sched.telemetry.export.duration",
    HISTOGRAM,
    "s",
    "How long one attempt to export took.",
    (TELEMETRY_SIGNAL, TELEMETRY_OUTCOME),
)
EVENTLOOP_DELAY = Instrument(
    "otel_sched.eventloop.delay",
    HISTOGRAM,
    "s",
    "How late a heartbeat of the event loop came.",
    (EVENTLOOP_NAME,),
)
EVENTLOOP_UTILIZATION = Instrument(
    "otel_sched.eventloop.utilization",
    GAUGE,
    "1",
    "The part of the time since the last collection that the event loop was active.",
    (EVENTLOOP_NAME,),
)
EVENTLOOP_TIME = Instrument(
    "otel_sched.eventloop.time",
    COUNTER,
    "s",
    "How long the event loop was in each state.",
    (EVENTLOOP_NAME, EVENTLOOP_STATE),
)
EVENTLOOP_BEAT_AGE = Instrument(
    "otel_sched.eventloop.beat.age",
    GAUGE,
    "s",
    "How long ago the event loop last turned, as far as its heartbeat shows.",
    (EVENTLOOP_NAME,),
)
FINDINGS = Instrument(
    "otel_sched.findings", COUNTER, "{finding}", "What diagnostics have found, by kind.", (FINDING_KIND,)
)

INSTRUMENTS = (
    QUEUE_SIZE,
    QUEUE_CAPACITY,
    OLDEST_AGE,
    PUTS_WAITING,
    GETS_WAITING,
    PUT_BLOCKED,
    JOBS_PUT,
    JOBS_TAKEN,
    JOBS_FINISHED,
    WAIT_DURATION,
    RUN_DURATION,
    JOBS_ACTIVE,
    OLDEST_ACTIVE_AGE,
    JOBS_CANCELLED,
    JOBS_DROPPED,
    WORKERS_LIMIT,
    WORKERS_BUSY,
    TELEMETRY_DROPPED,
    TELEMETRY_ERRORS,
    TELEMETRY_SPANS,
    BUFFER_SIZE,
    BUFFER_CAPACITY,
    EXPORT_DURATION,
    EVENTLOOP_DELAY,
    EVENTLOOP_UTILIZATION,
    EVENTLOOP_TIME,
    EVENTLOOP_BEAT_AGE,
    FINDINGS,
)

OF_THE_EXPORT = (TELEMETRY_SPANS, BUFFER_SIZE, BUFFER_CAPACITY, EXPORT_DURATION)
"""What carries no queue's name: it is about what `configure()` exports."""
OF_EVENT_LOOPS = (EVENTLOOP_DELAY, EVENTLOOP_UTILIZATION, EVENTLOOP_TIME, EVENTLOOP_BEAT_AGE)
"""What carries none either: it is about an event loop."""
OF_DIAGNOSTICS = (*OF_EVENT_LOOPS, FINDINGS)
"""What is there only where diagnostics are at work."""
LOOP_ACTIVE = "active"
LOOP_IDLE = "idle"

SAMPLED = "sampled"
"""telemetry.rule of spans that the sampler kept."""
REPEATED = "repeated"
"""telemetry.reason of log records that the rate limit held back."""
OBSERVER_FAILED = "observer"
"""telemetry.reason of an observer that raised and was switched off."""
KEEP_FULL = "keep_full"
"""telemetry.reason of spans below jobs that might have been kept, for which there was no room."""
