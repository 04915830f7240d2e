"""Floor 6: what tests of code that uses queues need: virtual time, telemetry in memory, and assertions about jobs."""

from typing import TYPE_CHECKING, Any

from .blocked import assert_loop_never_blocked as assert_loop_never_blocked
from .leaks import assert_no_leaked_jobs as assert_no_leaked_jobs
from .loop import Deadlock as Deadlock
from .loop import VirtualLoop as VirtualLoop
from .loop import run as run
from .recorder import Event as Event
from .recorder import RecordedJob as RecordedJob
from .recorder import RecordedJobs as RecordedJobs
from .recorder import RecordingObserver as RecordingObserver
from .virtual import virtual_time as virtual_time
from .wait import wait_until as wait_until
from .wait import wait_until_sync as wait_until_sync

if TYPE_CHECKING:
    from .memory import InMemoryTelemetry as InMemoryTelemetry
    from .metric import Metric as Metric
    from .spans import Logs as Logs
    from .spans import Spans as Spans

__all__ = [
    "Deadlock",
    "Event",
    "InMemoryTelemetry",
    "Logs",
    "Metric",
    "RecordedJob",
    "RecordedJobs",
    "RecordingObserver",
    "Spans",
    "VirtualLoop",
    "assert_loop_never_blocked",
    "assert_no_leaked_jobs",
    "run",
    "virtual_time",
    "wait_until",
    "wait_until_sync",
]

if not TYPE_CHECKING:  # a module that has it has every name, for type checkers

    def __getattr__(name: str) -> Any:
        """Load what knows OpenTelemetry when it is first asked for."""
        if name in ("Spans", "Logs"):
            from . import spans as module
        elif name == "InMemoryTelemetry":
            from . import memory as module
        elif name == "Metric":
            from . import metric as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(module, name)
