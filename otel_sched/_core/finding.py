"""Floor 2: the seam for diagnostics: what was found wrong, and who is told of it.

Whoever looks knows nothing of telemetry, and telemetry nothing of how it was found out: both know this.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .complaint import complain
from .job import Job


class FindingKind(StrEnum):
    """What can be found: one word each, the same in log, metric and dump."""

    LOOP_BLOCKED = "loop_blocked"
    """Something keeps the event loop from turning."""
    LOOP_RESUMED = "loop_resumed"
    """It turns again, after it was blocked and that was told; with how long it took."""
    SLOW_JOB = "slow_job"
    """A job runs far longer than jobs of its kind do."""
    STUCK_JOIN = "stuck_join"
    """join() cannot finish: task_done() is missing."""
    DEADLOCK = "deadlock"
    """All consumers wait to put into a full queue that only they empty; one queue, or a ring of them."""
    OUTLIVED = "outlived"
    """An asyncio task that a job started is still there after the job's end."""
    LOST_EXCEPTION = "lost_exception"
    """An asyncio task that a job started failed, and nobody has asked for its exception."""
    SWALLOWED_CANCELLATION = "swallowed_cancellation"
    """A consumer was cancelled and goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, in a sentence that says what, where and what to do."""

    kind: FindingKind
    sentence: str
    level: int = logging.WARNING
    """Of the `logging` module."""
    queue: str = ""
    stack: str = ""
    """Where it happens, as a traceback is printed; empty where there is no such place."""
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What a machine may want of it; plain names, seconds are floats."""


tally: dict[tuple[str, str], int] = {}
"""How many findings of each kind and queue there were in this process, those that were held back included."""
_lock = threading.Lock()


def count(kind: FindingKind, queue: str) -> None:
    """Add one to the tally, whether it is told of or held back; from any thread."""
    with _lock:
        tally[kind.value, queue] = tally.get((kind.value, queue), 0) + 1


def _renew() -> None:
    """Begin anew in a forked child."""
    global _lock
    _lock = threading.Lock()
    tally.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Reporter:
    """Told what diagnostics find out and measure, from any thread, also while the event loop is blocked.

    It must not block and need not be careful: what it raises is caught and logged.
    """

    def finding(self, finding: Finding, job: Job[Any] | None) -> None:
        """Something is wrong; *job* is the one that it is about, where there is one and it is still open."""
        text = f"{finding.sentence}\n{finding.stack}" if finding.stack else finding.sentence
        complain(finding.level, "%s", text)

    def loop_delay(self, loop: str, seconds: float) -> None:
        """One heartbeat of the event loop named *loop* came this late; several times a second."""

    def loop_state(self, loop: str, active: float, idle: float) -> None:
        """The loop's thread worked for *active* seconds and waited for *idle* more; told every two seconds or so."""


_default = Reporter()


def set_default_reporter(reporter: Reporter) -> None:
    """Set who is told by diagnostics that are given nobody else."""
    global _default
    if not isinstance(reporter, Reporter):
        raise TypeError(f"expected an otel_sched Reporter, got {reporter!r}")
    _default = reporter


def default_reporter() -> Reporter:
    """Return who is told where nobody else was given."""
    return _default
