"""Floor 5: the log record, or the span event, of a job that did not end well. None of either for success."""

import time
from typing import Any, cast

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from .._core import names
from .._core.job import Job, Outcome
from .._core.repeats import Repeats
from .providers import Providers
from .records import emit_record, exception_attributes, text

ERRORS = frozenset({Outcome.ERROR, Outcome.TIMEOUT, Outcome.EXPIRED})

_EVENT = {
    Outcome.ERROR: (names.EVENT_EXCEPTION, "failed"),
    Outcome.EXPIRED: (names.EVENT_TIMEOUT, "expired in the queue"),
    Outcome.TIMEOUT: (names.EVENT_TIMEOUT, "timed out"),
    Outcome.CANCELLED: (names.EVENT_CANCELLED, "was cancelled"),
}
_OTHER = "_OTHER"


class Failures:
    """Tells of one queue's jobs that failed, timed out or were cancelled; many of a kind are summed up."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        self._repeats = Repeats()
        self._error_types: set[str] = set()

    def error_type(self, job: Job[Any]) -> str | None:
        """Return what `error.type` says of a job that failed; class names are few, but generated ones are not."""
        if job.outcome not in ERRORS:
            return None
        name = job.error_type or _OTHER
        if name not in self._error_types:
            if len(self._error_types) >= 100:
                return _OTHER
            self._error_types.add(name)
        return name

    def tell(self, job: Job[Any], span: Span | None, context: Context | None) -> None:
        """Set the span's status and emit the one record of this failure, unless its consumer's own line went out."""
        if job.outcome is None or job.outcome not in _EVENT:
            return
        failed = job.outcome in ERRORS
        if span is not None and failed:
            span.set_status(Status(StatusCode.ERROR, _message(job)))
        if job.noted:
            return
        logger = self._providers.logger()
        if logger is None:
            if span is not None and failed and job.error is not None and span.is_recording():
                span.add_event("exception", exception_attributes(job.error))
            return
        job.ledger.reporting = True
        held = self._repeats.allow((job.outcome.value, self.error_type(job)), job.ledger.now())
        if held is None:
            job.ledger.held += 1
            return
        event, verb = _EVENT[job.outcome]
        emit_record(
            logger,
            body=f"job {job.id} of queue {job.queue!r} {verb}{_after(job)}",
            severity_number=SeverityNumber.ERROR if failed else SeverityNumber.DEBUG,
            severity_text="ERROR" if failed else "DEBUG",
            attributes=self._attributes(job, held),
            context=context,
            event_name=event,
        )

    def _attributes(self, job: Job[Any], held: int) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            names.QUEUE_NAME: job.queue,
            names.JOB_ID: job.id,
            names.JOB_ATTEMPT: job.attempt,
            names.JOB_OUTCOME: str(job.outcome),
        }
        if job.name:
            attributes[names.JOB_NAME] = job.name
        if job.reason is not None:
            attributes[names.CANCEL_REASON] = job.reason.value
        error_type = self.error_type(job)
        if error_type is not None:
            attributes[names.ERROR_TYPE] = error_type
            if job.error is not None:
                attributes |= exception_attributes(job.error)
        if held:
            attributes[names.REPEATS] = held
        return attributes

    def sum_up(self, queue: str) -> None:
        """Emit what the rate limit held back, one record for each kind; exporters ask for it as they collect."""
        logger = self._providers.logger()
        if logger is None:
            return
        for key, count in self._repeats.take_held().items():
            outcome, error_type = cast(tuple[str, str | None], key)
            jobs = "job" if count == 1 else "jobs"
            what = outcome if error_type is None else f"{outcome} ({error_type})"
            emit_record(
                logger,
                body=f"{count} more {jobs} of queue {queue!r} ended with {what}, not logged one by one",
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                attributes={
                    names.QUEUE_NAME: queue,
                    names.JOB_OUTCOME: str(outcome),
                    names.REPEATS: count,
                    **({} if error_type is None else {names.ERROR_TYPE: str(error_type)}),
                },
                timestamp=time.time_ns(),
                event_name=names.EVENT_REPEATED,
            )


def _message(job: Job[Any]) -> str | None:
    try:
        return None if job.error is None else text(str(job.error), 1024)
    except Exception:  # an exception whose __str__ raises
        return None


def _after(job: Job[Any]) -> str:
    if job.reason is not None:
        return f": {job.reason.value}"
    message = _message(job)
    return f": {job.error_type}: {message}" if message else "" if job.error_type is None else f": {job.error_type}"
