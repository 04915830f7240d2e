"""Floor 6: diagnostics by environment variable, for programs that nobody may touch, or that are stuck tonight.

`OTEL_SCHED_DIAGNOSTICS=true` starts them in every event loop in which a queue is made that otel_sched observes;
`OTEL_SCHED_DUMP_SIGNAL=SIGUSR1` has dumps written on that signal, to the file that `OTEL_SCHED_DUMP_FILE` names.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import threading
import weakref
from typing import Any

from ._core import census
from ._core.complaint import complain
from .diagnostics import dump_on_signal, start

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
    try:
        signum = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        dump_on_signal(signum, file=os.environ.get(DUMP_FILE) or None).makes_way = True
    except KeyError:
        complain(logging.WARNING, "%s=%s names no signal, such as SIGUSR1: no dumps are written", DUMP_SIGNAL, name)
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
    except RuntimeError:  # the program has started them itself
        pass
    except Exception as error:
        complain(logging.WARNING, "diagnostics could not be started", error=error)
