"""Floor 5: a dump when a signal comes, made by a thread that waits for nothing else: the loop may hang.

Python's own signal handlers run in the main thread when it comes to them, which is too late when that hangs in C. So
`faulthandler` takes the signal: its handler is C, asks nothing of the interpreter, and writes the stack of the
interrupted thread into a pipe of ours. That wakes the thread here.
"""

import contextlib
import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from .._core.complaint import complain
from .collector import held_off
from .dumps import Dump, checked_limit, dump
from .outlet import checked_signal, write_to, writer
from .tasks import MAX_TASKS, note_tasks

NOTED = 1.0
"""Seconds between two looks at which tasks there are, so that a dump knows how old they are; more where it costs."""
SHARE = 0.001
"""Of a core: what these looks may cost."""
QUIET = 0.02
"""Seconds without a byte after which what the signal handler writes is complete."""
PIPE = 65536
"""Bytes read for one dump at most, about what a pipe holds: signals may come faster than dumps can be made."""
STOP_WAIT = 5.0
"""Seconds that stop() waits for a dump that is being made."""

_active: dict[int, "SignalDumps"] = {}


class SignalDumps:
    """Makes a dump whenever a signal comes, until `stop()`; as a context manager, until the block ends."""

    def __init__(self, signum: int, where: str, write: Callable[[str], None], form: str, limit: int) -> None:
        self.signum = signum
        self._where = where
        self._write = write
        self._form = form
        self._limit = limit
        previous = signal.getsignal(signum)
        self._previous = previous
        self.makes_way = False
        """Whether others that the program asks for take their place."""
        self._chain = previous not in (signal.SIG_DFL, signal.SIG_IGN)
        self._start()

    def stop(self) -> None:
        """Give the signal back to who had it before; from any thread, and twice does no harm."""
        if _active.get(self.signum) is not self:
            return
        del _active[self.signum]
        now = signal.getsignal(self.signum)
        faulthandler.unregister(self.signum)
        if now is not self._previous and threading.current_thread() is threading.main_thread():
            signal.signal(self.signum, now)  # set after us: it must not be lost
        os.close(self._pipe[1])  # which ends the thread
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_WAIT)

    def restart(self) -> None:
        """Begin anew in a forked child: the thread has stayed behind, and the pipe is the parent's."""
        for each in self._pipe:
            with contextlib.suppress(OSError):
                os.close(each)
        self._start()

    def _start(self) -> None:
        self._pipe = reading, writing = os.pipe()
        os.set_blocking(writing, False)  # a full pipe must not hold up the thread that the signal interrupts
        name = f"otel_sched dumps on {signal.Signals(self.signum).name}"
        self._thread = threading.Thread(target=self._wait, args=(reading,), name=name, daemon=True)
        self._thread.start()
        # Only the interrupted thread: those of others move on while the handler reads, for it does not hold the GIL.
        faulthandler.register(self.signum, file=writing, all_threads=False, chain=self._chain)

    def _wait(self, reading: int) -> None:
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        pause = 0.0
        while True:
            try:
                if poll.poll(pause * 1000):
                    said = _read(poll, reading)
                    if not said:
                        break
                    self._dump(said)
                else:
                    pause = _note()
            except Exception as error:
                complain(logging.ERROR, "a dump on a signal failed", error=error)
                pause = NOTED
        os.close(reading)

    def _dump(self, said: bytes) -> None:
        made = replace(dump(limit=self._limit), interrupted=said.decode("utf-8", "backslashreplace").strip())
        with held_off():
            rendered = _rendered(made, self._form)
        try:
            self._write(rendered + "\n")
        except Exception as error:  # a disk that is full, a folder that is gone: nobody can ask for this moment again
            lost = f"otel_sched: {self._where} cannot be written to ({error!r}), so the dump comes here:"
            write_to(sys.stderr, f"{lost}\n{rendered}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def dump_on_signal(
    signum: int | str = signal.SIGUSR1,
    *,
    file: str | os.PathLike[str] | TextIO | None = None,
    form: Literal["text", "json"] = "text",
    limit: int = MAX_TASKS,
) -> SignalDumps:
    """Write a dump whenever the process gets a signal, also while its event loops hang; from any thread.

    What handled the signal before is called as well, if it was a function. Who sets a handler for the same signal
    later takes it away, so call this last.

    Args:
        signum: The signal, or its name: `kill -USR1 <pid>` by default.
        file: Where to write: a path to append to, or an open text file; by default standard error, where a dump goes
            too when that file cannot be written to any more.
        form: "text" for people, or "json" for programs: each dump is one line.
        limit: The most tasks shown.

    Raises ValueError for a signal that cannot be caught or that has dumps already and for a path that cannot be
    appended to, TypeError for what is no file.
    """
    return dumps_on(signum, file, form=form, limit=limit)


def dumps_on(
    signum: Any, file: Any, *, form: str = "text", limit: int = MAX_TASKS, names: tuple[str, str] = ("signum", "file")
) -> SignalDumps:
    """Do as `dump_on_signal` does; errors speak of the first two arguments by other *names*."""
    chosen = checked_signal(signum, names[0])
    if form not in ("text", "json"):
        raise ValueError(f"form must be 'text' or 'json', got {form!r}")
    if chosen in _active and not _active[chosen].makes_way:
        raise ValueError(f"{names[0]}: {chosen.name} writes dumps already: stop() that first, or choose another")
    limit = checked_limit(limit)
    where, write = writer(file, names[1])
    if chosen in _active:
        _active[chosen].stop()
    made = _active[chosen] = SignalDumps(chosen, where, write, form, limit)
    return made


def _rendered(made: Dump, form: str) -> str:
    """Return a dump as it is written: JSON in one line, or whoever reads several could not tell them apart."""
    return made.text() if form == "text" else made.json().replace("\n", " ")


def _read(poll: select.poll, reading: int) -> bytes:
    """Read what the signal handler writes, until it is complete; nothing at the end of the pipe."""
    said = os.read(reading, PIPE)
    while said and len(said) < PIPE and poll.poll(QUIET * 1000):
        more = os.read(reading, PIPE)
        if not more:
            break
        said += more
    return said


def _note() -> float:
    """Note which tasks there are; return how long to wait until the next time."""
    began = time.thread_time()
    note_tasks(time.monotonic())
    return max(NOTED, (time.thread_time() - began) / SHARE)


def _restart_all() -> None:
    for each in tuple(_active.values()):
        each.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
