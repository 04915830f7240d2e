"""Floor 5: what diagnostics find, as a log line, a log record with its job's trace, and an event on the job's span."""

import contextvars
import os
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

from .._core import names
from .._core.complaint import complain
from .._core.finding import Finding
from .._core.job import Job
from .hub import Hub, hub_of
from .keep import fast_wanted
from .logs import EMITTED
from .loops import Loops
from .providers import Providers
from .records import attribute, emit_record, severity, text
from .spans import Attached

Attributes = dict[str, AttributeValue]

_lock = threading.Lock()


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent held."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Findings:
    """Tells through one set of providers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub  # held: while it lives nobody makes another one, with instruments of the same names
        self._providers: Providers = hub.providers
        self.loops = Loops(hub.providers)

    def tell(self, finding: Finding, job: Job[Any] | None) -> None:
        """Tell of *finding*: the span's event first, for the job may be over in a moment."""
        span, context = _span_of(finding, job)
        attributes = _attributes(finding)
        event = names.EVENT_FINDING.format(kind=finding.kind)
        if span is not None and span.is_recording():
            span.add_event(event, attributes)
        emitted = self._emit(finding, job, event, attributes, context)
        contextvars.copy_context().run(_log, finding, context, emitted)

    def _emit(
        self, finding: Finding, job: Job[Any] | None, event: str, attributes: Attributes, context: Context
    ) -> bool:
        """Emit the log record; return whether there is where to."""
        logger = self._providers.logger()
        if logger is None:
            return False
        if finding.queue:
            attributes[names.QUEUE_NAME] = finding.queue
        if job is not None:
            attributes |= {names.QUEUE_NAME: job.queue, names.JOB_ID: job.id, names.JOB_ATTEMPT: job.attempt}
            if job.name:
                attributes[names.JOB_NAME] = job.name
        number, name = severity(finding.level)
        emit_record(
            logger,
            body=text(finding.sentence),
            severity_number=number,
            severity_text=name,
            attributes=attributes,
            context=context,
            event_name=event,
        )
        return True


def findings_of(tracer_provider: Any, meter_provider: Any, logger_provider: Any) -> Findings:
    """Return who tells through these three providers: one for all their reporters, as a meter's instruments are."""
    hub = hub_of(tracer_provider, meter_provider, logger_provider, fast=fast_wanted())
    with _lock:
        if hub.findings is None:
            hub.findings = Findings(hub)
        found: Findings = hub.findings
    return found


def _log(finding: Finding, context: Context, emitted: bool) -> None:
    """Write the line for people, under the job's span; a handler of ours does not send it again."""
    attach(context)
    lines = f"{finding.sentence}\n{finding.stack}" if finding.stack else finding.sentence
    complain(finding.level, "%s", lines, extra={EMITTED: emitted})


def _attributes(finding: Finding) -> Attributes:
    """Return what both the event and the record carry."""
    attributes: Attributes = {names.FINDING_KIND: finding.kind.value}
    for fact, value in finding.facts.items():
        if fact not in names.FINDING_IDS and (fit := attribute(value)) is not None:
            attributes[names.FINDING_FACTS.get(fact) or names.FINDING_FACT.format(fact=fact)] = fit
    if finding.stack:
        attributes[names.CODE_STACKTRACE] = text(finding.stack)
    return attributes


def _span_of(finding: Finding, job: Job[Any] | None) -> tuple[Span | None, Context]:
    """Return the job's span where it is still open, and the context that a record of it belongs to."""
    run = None if job is None else job.trace
    if isinstance(run, Attached):
        return run.span, run.within
    identity = None if job is None else job.ledger.identify(job)
    trace_id, span_id = identity or _ids(finding.facts)
    span = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return None, set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else Context()


def _ids(facts: Mapping[str, str | int | float | bool]) -> tuple[int, int]:
    try:
        trace_id, span_id = (int(str(facts.get(name, "0")), 16) for name in names.FINDING_IDS)
    except ValueError:
        return 0, 0
    return trace_id, span_id
