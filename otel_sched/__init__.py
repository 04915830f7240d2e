"""asyncio queues and worker pools that show what they do: spans, metrics and logs through OpenTelemetry.
(PYTEST_DONT_REWRITE: else pytest, for the sake of our plugin, would warn wherever this was imported before.)"""

import os
from typing import TYPE_CHECKING, Any

from ._core.errors import ConfigurationError, OtelSchedError, QueueShutDown
from ._core.finding import set_default_reporter
from ._core.job import CancelReason, Job, Outcome
from ._core.ledger import current_job
from ._core.observer import Listener, Observer, set_default_observer
from ._core.pool import PoolStats, WorkerPool
from ._core.queue import LifoQueue, PriorityQueue, Queue
from ._core.stats import Stats
from ._core.version import VERSION
from ._core.watch import unwatch, watch
from ._core.wrap import instrument
from .telemetry.keep import Keep
from .telemetry.observer import OtelObserver
from .telemetry.reporter import OtelReporter

if TYPE_CHECKING:
    from .telemetry.setup import Telemetry, attach, configure

__version__ = VERSION
__all__ = [
    "CancelReason",
    "ConfigurationError",
    "Job",
    "Keep",
    "LifoQueue",
    "Listener",
    "Observer",
    "OtelObserver",
    "OtelReporter",
    "OtelSchedError",
    "Outcome",
    "PoolStats",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "Stats",
    "Telemetry",
    "WorkerPool",
    "attach",
    "configure",
    "current_job",
    "instrument",
    "set_default_observer",
    "unwatch",
    "watch",
]

set_default_observer(OtelObserver())
set_default_reporter(OtelReporter())
if "OTEL_SCHED_DIAGNOSTICS" in os.environ or "OTEL_SCHED_DUMP_SIGNAL" in os.environ:
    from .autostart import arm

    arm()


if not TYPE_CHECKING:  # a module that has it has every name, for type checkers

    def __getattr__(name: str) -> Any:
        """Load what few programs need, or what loads an SDK, when it is first asked for."""
        if name in ("Telemetry", "attach", "configure"):
            from .telemetry import setup

            return getattr(setup, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
