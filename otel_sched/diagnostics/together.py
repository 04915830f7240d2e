"""Floor 5: start(): the loop's monitor, the detectors and, on request, dumps on a signal, in one call."""

import asyncio
import contextlib
import os
import weakref
from typing import Self, TextIO

from .._core.finding import Reporter
from .._core.observer import prepare
from .monitor import LoopMonitor, monitor_loop
from .origins import knowing
from .scan import Detectors
from .signals import SignalDumps, dumps_on

_started: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Detectors]]" = weakref.WeakKeyDictionary()


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
    dump_signal: int | str | None = None,
    dump_file: str | os.PathLike[str] | TextIO | None = None,
    reporter: Reporter | None = None,
) -> Diagnostics:
    """Watch the running event loop and all that its queues, jobs and tasks do; call it first in the main coroutine.

    Each part can be had alone, with more to choose: `LoopMonitor`, `Detectors`, `dump_on_signal`.

    Args:
        threshold: Seconds that the loop may fail to turn before somebody is blamed.
        patience: Seconds without a change before something is taken for stuck.
        slow_factor: A job is slow when it runs for longer than this many times the p99 of its kind.
        dump_signal: A signal on which to write a dump, such as `signal.SIGUSR1`, or its name; None for no such thing.
        dump_file: Where to write it: a path to append to, or an open text file; by default standard error.
        reporter: Who is told; by default whoever `set_default_reporter` has set.

    Raises:
        ValueError, TypeError: An argument is wrong; then nothing is started.
        RuntimeError: No event loop runs, or diagnostics were started in this one already.
    """
    if dump_signal is None and dump_file is not None:
        raise ValueError(f"dump_file is {dump_file!r}, but nothing is dumped without a dump_signal: pass both")
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError("no event loop runs here: call start() in a coroutine, the main one best of all")
    prepare()  # before anything measures
    with contextlib.ExitStack() as undo:
        detectors = Detectors(patience=patience, slow_factor=slow_factor, reporter=reporter)
        if _are_started(loop):
            raise RuntimeError("diagnostics were started in this event loop already: stop() those first")
        detectors.start()
        undo.callback(detectors.stop)
        knowing[loop] = detectors._knowledge.origins  # dumps want to know too
        undo.callback(knowing.pop, loop, None)
        monitor = monitor_loop(threshold, reporter=reporter)
        undo.callback(monitor.stop)
        dumps = None
        if dump_signal is not None:
            dumps = dumps_on(dump_signal, dump_file, names=("dump_signal", "dump_file"))
            undo.callback(dumps.stop)
        _started[loop] = weakref.ref(detectors)
        return Diagnostics(monitor, detectors, dumps, undo.pop_all())


def _are_started(loop: asyncio.AbstractEventLoop) -> bool:
    """Say whether diagnostics are at work in *loop* that make way for no others."""
    known = _started.get(loop)
    detectors = None if known is None else known()
    return detectors is not None and detectors._running and detectors.makes_way is None
