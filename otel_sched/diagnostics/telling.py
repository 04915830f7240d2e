"""Floor 5: telling a reporter, whatever it does: it may fail, and it may know the job that a finding is about."""

import contextvars
import logging
import weakref
from typing import Any

from .._core.clock import monotonic
from .._core.complaint import complain
from .._core.finding import Finding, Reporter, default_reporter
from .._core.job import Job
from .._core.ledger import current
from .._core.repeats import Repeats


class Telling:
    """Tells one reporter, or whoever is the default one by then."""

    def __init__(self, reporter: Reporter | None) -> None:
        self._reporter = reporter
        self._complaints = Repeats()

    @property
    def reporter(self) -> Reporter:
        """Who is told."""
        return default_reporter() if self._reporter is None else self._reporter

    def finding(self, finding: Finding, job: Job[Any] | None) -> None:
        """Tell of *finding* in the context of *job*, so that a log line about it carries the job's fields."""
        contextvars.Context().run(self._find, finding, job)

    def _find(self, finding: Finding, job: Job[Any] | None) -> None:
        if job is not None and job.outcome is None:
            current.set(weakref.ref(job))
        else:
            job = None
        try:
            self.reporter.finding(finding, job)
        except Exception as error:
            self._complain("finding", error, finding)

    def loop_delay(self, loop: str, seconds: float) -> None:
        """Tell how late a beat came."""
        try:
            self.reporter.loop_delay(loop, seconds)
        except Exception as error:
            self._complain("loop_delay", error)

    def loop_state(self, loop: str, active: float, idle: float) -> None:
        """Tell what the loop's thread has done."""
        try:
            self.reporter.loop_state(loop, active, idle)
        except Exception as error:
            self._complain("loop_state", error)

    def _complain(self, method: str, error: Exception, finding: Finding | None = None) -> None:
        if self._complaints.allow((method, type(error)), monotonic()) is None:
            return
        lost = "" if finding is None else f"; it was to tell: {finding.sentence}"
        complain(logging.ERROR, "%r failed in %s()%s", self.reporter, method, lost, error=error)
