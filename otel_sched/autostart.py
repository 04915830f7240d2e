"""Floor 6: diagnostics by environment variable, for programs that nobody may touch, or that are stuck tonight.

`OTEL_SCHED_DIAGNOSTICS=true` starts them in every event loop in which a queue is made that otel_sched observes;
`OTEL_SCHED_DUMP_SIGNAL=SIGUSR1` has dumps written on that signal, to the file that `OTEL_SCHED_DUMP_FILE` names.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
import weakref
from typing import Any

from ._core import census
from ._core.complaint import complain
from .diagnostics import start
from .diagnostics.outlet import writer
from .diagnostics.signals import dumps_on

DIAGNOSTICS = "OTEL_SCHED_DIAGNOSTICS"
DUMP_SIGNAL = "OTEL_SCHED_DUMP_SIGNAL"
DUMP_FILE = "OTEL_SCHED_DUMP_FILE"

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off", "")
_seen: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()
_lock = threading.Lock()


def arm() -> None:
    """Do what the environment says. What is wrong in it is logged: it must not keep a program from running."""
    wanted = os.environ.get(DIAGNOSTICS, "").strip().lower()
    if wanted not in _TRUE + _FALSE:
        complain(logging.WARNING, "%s=%s is neither true nor false: diagnostics are not started", DIAGNOSTICS, wanted)
    if wanted in _TRUE:
        census.arrivals.append(_arrived)
    name = os.environ.get(DUMP_SIGNAL, "").strip().upper()
    if name:
        _dump_on(name)


def _dump_on(name: str) -> None:
    file = os.environ.get(DUMP_FILE) or None
    try:
        writer(file, DUMP_FILE)
    except ValueError as error:  # without any dumps the signal would end the process
        complain(logging.WARNING, "dumps go to standard error: %s", error)
        file = None
    try:
        dumps_on(name, file, names=(DUMP_SIGNAL, DUMP_FILE)).makes_way = True
    except ValueError as error:
        complain(logging.WARNING, "no dumps are written: %s", error)
    except Exception as error:
        complain(logging.WARNING, "%s=%s: no dumps are written", DUMP_SIGNAL, name, error=error)


def _arrived(_: Any) -> None:
    """Start diagnostics in the running loop, once; those that the program starts itself take their place."""
    loop: Any = asyncio._get_running_loop()
    if loop is None or loop in _seen:
        return
    with _lock:
        if loop in _seen:
            return
        _seen.add(loop)
    # In an empty context: the timers of what is started would keep the one of whoever makes a queue.
    with contextlib.suppress(RuntimeError):
        loop.call_soon(_start, context=contextvars.Context())


def _start() -> None:
    try:
        started = start()
        started.detectors.makes_way = started.stop
        started.monitor.make_way(started.stop)
    except RuntimeError:  # the program has started them itself
        pass
    except Exception as error:
        complain(logging.WARNING, "diagnostics could not be started", error=error)
