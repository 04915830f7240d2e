"""Floor 5: start(): the loop's monitor, the detectors and, on request, dumps on a signal, in one call."""

import asyncio
import contextlib
import os
from typing import Self, TextIO

from .._core.finding import Reporter
from .monitor import LoopMonitor, monitor_loop
from .scan import Detectors
from .signals import SignalDumps, dump_on_signal


class Diagnostics:
    """What `start()` has started; it goes on until `stop()`, or the end of its `with` block, or of the loop."""

    def __init__(
        self, monitor: LoopMonitor, detectors: Detectors, dumps: SignalDumps | None, undo: contextlib.ExitStack
    ) -> None:
        self.monitor = monitor
        self.detectors = detectors
        self.dumps = dumps
        """None where no signal was asked for."""
        self._undo = undo

    def stop(self) -> None:
        """Stop all of them, from any thread; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    *,
    threshold: float = 0.1,
    patience: float = 5.0,
    slow_factor: float = 5.0,
    dump_signal: int | None = None,
    dump_file: str | os.PathLike[str] | TextIO | None = None,
    reporter: Reporter | None = None,
) -> Diagnostics:
    """Watch the running event loop and all that its queues, jobs and tasks do; call it first in the main coroutine.

    Each part can be had alone, with more to choose: `LoopMonitor`, `Detectors`, `dump_on_signal`.

    Args:
        threshold: Seconds that the loop may fail to turn before somebody is blamed.
        patience: Seconds without a change before something is taken for stuck.
        slow_factor: A job is slow when it runs for longer than this many times the p99 of its kind.
        dump_signal: A signal on which to write a dump, such as `signal.SIGUSR1`; None for no such thing.
        dump_file: Where to write it: a path to append to, or an open text file; by default standard error.
        reporter: Who is told; by default whoever `set_default_reporter` has set.

    Raises:
        ValueError, TypeError: An argument is wrong; then nothing is started.
        RuntimeError: No event loop runs, or detectors look at this one already.
    """
    if dump_signal is None and dump_file is not None:
        raise ValueError(f"dump_file is {dump_file!r}, but nothing is dumped without a dump_signal: pass both")
    if asyncio._get_running_loop() is None:
        raise RuntimeError("no event loop runs here: call start() in a coroutine, the main one best of all")
    with contextlib.ExitStack() as undo:
        detectors = Detectors(patience=patience, slow_factor=slow_factor, reporter=reporter)
        detectors.start()
        undo.callback(detectors.stop)
        monitor = monitor_loop(threshold, reporter=reporter)
        undo.callback(monitor.stop)
        dumps = None if dump_signal is None else dump_on_signal(dump_signal, file=dump_file)
        if dumps is not None:
            undo.callback(dumps.stop)
        return Diagnostics(monitor, detectors, dumps, undo.pop_all())
