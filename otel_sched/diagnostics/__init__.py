"""Floor 5: what a hung process can still tell."""

from .._core.finding import Finding as Finding
from .._core.finding import FindingKind as FindingKind
from .._core.finding import Reporter as Reporter
from .._core.finding import set_default_reporter as set_default_reporter
from .changes import Diff as Diff
from .changes import diff as diff
from .dumps import Dump as Dump
from .dumps import dump as dump
from .dumps import dump_async as dump_async
from .dumps import dump_queues as dump_queues
from .dumps import dump_tasks as dump_tasks
from .dumps import dump_tasks_async as dump_tasks_async
from .dumps import snapshot as snapshot
from .monitor import LoopMonitor as LoopMonitor
from .monitor import LoopStats as LoopStats
from .monitor import monitor_loop as monitor_loop
from .scan import Detectors as Detectors
from .signals import SignalDumps as SignalDumps
from .signals import dump_on_signal as dump_on_signal
from .together import Diagnostics as Diagnostics
from .together import start as start

__all__ = [
    "Detectors",
    "Diagnostics",
    "Diff",
    "Dump",
    "Finding",
    "FindingKind",
    "LoopMonitor",
    "LoopStats",
    "Reporter",
    "SignalDumps",
    "diff",
    "dump",
    "dump_async",
    "dump_on_signal",
    "dump_queues",
    "dump_tasks",
    "dump_tasks_async",
    "monitor_loop",
    "set_default_reporter",
    "snapshot",
    "start",
]
