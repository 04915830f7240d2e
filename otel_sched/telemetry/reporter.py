"""Floor 5: OtelReporter, the default: what diagnostics find and measure, told through OpenTelemetry and a log line."""

import sys
from typing import TYPE_CHECKING, Any

from .._core.finding import Finding, Reporter
from .._core.job import Job

if TYPE_CHECKING:
    from .findings import Findings


class OtelReporter(Reporter):
    """Tells of findings with a log line, a log record and an event on the job's span, and of event loops with metrics.

    Where the program has not even loaded OpenTelemetry's API, there is the log line alone.

    Args:
        tracer_provider: By default the global provider, also one that is set later.
        meter_provider: Where metrics go, likewise.
        logger_provider: Where log records go, likewise.
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None) -> None:
        self._given = tracer_provider, meter_provider, logger_provider
        self._findings: Findings | None = None

    def finding(self, finding: Finding, job: Job[Any] | None) -> None:
        """Tell of *finding*, and let the log line go out over OTLP only where the record does not."""
        findings = self._told_to()
        if findings is None:
            super().finding(finding, job)
        else:
            findings.tell(finding, job)

    def loop_delay(self, loop: str, seconds: float) -> None:
        """Record how late one heartbeat came."""
        findings = self._told_to()
        if findings is not None:
            findings.loops.delay(loop, seconds)

    def loop_state(self, loop: str, active: float, idle: float) -> None:
        """Add to the times of the loop's thread."""
        findings = self._told_to()
        if findings is not None:
            findings.loops.state(loop, active, idle)

    def _told_to(self) -> "Findings | None":
        """Return who tells, made when there may be somebody to tell: importing the library loads no OpenTelemetry."""
        if self._findings is None and (
            any(each is not None for each in self._given) or "opentelemetry.metrics" in sys.modules
        ):
            from .findings import findings_of

            self._findings = findings_of(*self._given)
        return self._findings
