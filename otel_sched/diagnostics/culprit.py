"""Floor 5: what runs in an event loop's thread at this moment: the step, its stack, and the job that it belongs to."""

import asyncio
import linecache
import sys
import threading
import weakref
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from .._core.callsite import is_application
from .._core.consumer import _context_of
from .._core.job import Job
from .._core.ledger import current
from .._core.runner import worker_of
from .instructions import awaits, begins, ends_here
from .stacks import Line, line_of, name_of, plain_name, printed, shortened, thread_frames

MAX_FRAMES = 60
"""Of a deeper stack the middle is left out."""
MAX_SOURCE = 120

_RUN = asyncio.Handle._run.__code__
_MACHINERY = ("asyncio", "selectors", "uvloop", "otel_sched")
_WAITING = ("asyncio", "concurrent", "otel_sched", "queue", "selectors", "socketserver", "threading")
"""Modules in which threads stand that wait for work."""


@dataclass(slots=True)
class Step:
    """One look at a loop's thread. It keeps neither frames nor the asyncio task, so that nothing lives longer by it."""

    lines: list[Line] = field(default_factory=list)
    """Outermost first; only what lies above the loop itself."""
    omitted: int = 0
    task: "weakref.ref[asyncio.Task[Any]] | None" = None
    task_name: str = ""
    coroutine: Any = None
    """The code object of the task's coroutine."""
    job: "weakref.ref[Job[Any]] | None" = None
    job_facts: dict[str, str] = field(default_factory=dict)
    """What is to be told of the job, which may be over by then."""
    exact: bool = True
    """Whether what held the interpreter's lock until this look, if anything did, was at the line to blame."""
    awaits: bool = False
    """Whether that line is an await that is reached just now: nothing but what came before it can block."""
    waited: float = 0.0
    """For how many seconds whoever looked was kept waiting for the interpreter's lock."""
    ended: bool = False
    """Whether the loop had just come back from a step of *task*, so that nothing of it is on the stack."""

    @property
    def idle(self) -> bool:
        """Whether nothing of the program runs: the loop waits, or turns."""
        return self.ended or (self.task is None and all(_is_machinery(module) for _, _, module in self.lines))

    def same(self, other: "Step") -> bool:
        """Say whether *other*, seen a little later, is the same step: within one turn of a loop a task has but one."""
        if self.idle or other.idle:
            return self.idle and other.idle
        if self.task is not None or other.task is not None:
            return self.task == other.task
        return bool(self.lines and other.lines) and self.lines[0][0] is other.lines[0][0]

    @property
    def place(self) -> tuple[CodeType, int] | None:
        """The function and the line to blame, where that is on the stack."""
        number = _blamed(self.lines)
        return None if number is None else self.lines[number][:2]

    def culprit(self) -> tuple[str, int, str] | None:
        """Return file, line and function to blame: the innermost of the program's own code.

        Where there is none, that of a library; where the stack is gone, the task's coroutine function.
        """
        number = _blamed(self.lines)
        if number is not None:
            code, line, _ = self.lines[number]
            return code.co_filename, line, plain_name(code.co_qualname)
        if isinstance(self.coroutine, CodeType):
            return self.coroutine.co_filename, self.coroutine.co_firstlineno, plain_name(self.coroutine.co_qualname)
        return None

    def text(self, *, quick: bool = False) -> str:
        """Return the stack as a traceback is printed; *quick* shows source only where no file has to be read for it."""
        return printed(self.lines, omitted=self.omitted, quick=quick)


def look(loop: asyncio.AbstractEventLoop | None, thread: int, outer: int) -> Step:
    """Look what *loop* does in *thread*; its own frames, *outer* many, are left out. From any thread."""
    step = Step()
    frames = thread_frames(sys._current_frames().get(thread))
    outer = outer or _below_callback(frames)
    task = None if loop is None else asyncio.current_task(loop)
    if task is None:
        task = _task_that_ended(frames, outer)
        step.ended = task is not None
    if task is not None:
        step.task = weakref.ref(task)
        step.task_name = name_of(task)
        step.coroutine = getattr(task.get_coro(), "cr_code", None)
        job = _job_of(task)
    else:
        job = _job_of_callback(frames, outer)
    if job is not None:
        step.job, step.job_facts = weakref.ref(job), _facts_of(job)
    _fill(step, _without_us(frames[outer:]))
    return step


def other_thread(thread: int) -> tuple[str, Step | None]:
    """Return name and stack of the one other thread that does anything but wait; nothing where there are more."""
    found = []
    names = {each.ident: each.name for each in threading.enumerate()}
    for ident, top in sys._current_frames().items():
        if ident not in (thread, threading.get_ident()):
            frames = thread_frames(top)
            if str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] not in _WAITING:
                found.append((names.get(ident, f"thread {ident}"), frames))
    if len(found) != 1:
        return "", None
    step = Step()
    _fill(step, found[0][1])
    return found[0][0], step


def source(file: str, line: int, *, quick: bool = False) -> str:
    """Return that line of the source, stripped; empty where it cannot be had, or not without reading a file."""
    if quick and file not in linecache.cache:
        return ""
    return linecache.getline(file, line).strip()[:MAX_SOURCE]


def _fill(step: Step, frames: list[FrameType]) -> None:
    frames, step.omitted = shortened(frames, MAX_FRAMES)
    step.lines = [line_of(each) for each in frames]
    number = _blamed(step.lines)
    if number is None:
        return
    blamed, inner = frames[number], frames[number + 1 :]
    within = [line for line in step.lines[number + 1 :] if not _is_machinery(line[2])]
    entered = len(inner) == 1 and begins(inner[0].f_code, inner[0].f_lasti)  # and has done nothing yet
    step.awaits = not within and (entered or awaits(blamed.f_code, blamed.f_lasti))
    if step.awaits:
        step.exact = False
    elif not inner:
        step.exact = ends_here(blamed.f_code, blamed.f_lasti)
    else:
        step.exact = not entered


def _blamed(lines: list[Line]) -> int | None:
    """Return which of *lines* to blame: the innermost of the program's own code, else of a library's."""
    theirs = [number for number, line in enumerate(lines) if not _is_machinery(line[2])]
    own = [number for number in theirs if is_application(lines[number][0].co_filename)]
    return next(reversed(own or theirs), None)


def _below_callback(frames: list[FrameType]) -> int:
    """Return how many frames lie below a callback's where asyncio's own loop shows that; 0 where it does not."""
    return next((n for n in range(len(frames), 0, -1) if frames[n - 1].f_code is _RUN), 0)


def _without_us(frames: list[FrameType]) -> list[FrameType]:
    """Leave out the innermost frames that are this package's: our own hook of the garbage collector, say."""
    while frames and str(frames[-1].f_globals.get("__name__", "")).startswith("otel_sched.diagnostics."):
        frames = frames[:-1]
    return frames


def _job_of(task: asyncio.Task[Any]) -> Job[Any] | None:
    """Return the open job that *task* works on: its pool's, else that of its context, which it may have inherited."""
    worker = worker_of(task)
    if worker is not None:
        return worker.job if worker.job is None or worker.job.outcome is None else None
    return _open(_context_of(task).get(current))


def _task_that_ended(frames: list[FrameType], outer: int) -> asyncio.Task[Any] | None:
    """Return the task whose step has just ended, where the loop's frame tells (not uvloop's)."""
    frame = frames[-1] if 0 < outer == len(frames) else None
    if frame is None or frame.f_code is not _RUN or begins(frame.f_code, frame.f_lasti):
        return None
    callback = getattr(frame.f_locals.get("self"), "_callback", None)
    task = getattr(callback, "__self__", None)
    return task if isinstance(task, asyncio.Task) else None


def _job_of_callback(frames: list[FrameType], outer: int) -> Job[Any] | None:
    """Return the open job in whose context a callback was scheduled, where the loop's frame tells (not uvloop's)."""
    frame = frames[outer - 1] if 0 < outer < len(frames) else None
    if frame is None or frame.f_code is not _RUN:
        return None
    context = getattr(frame.f_locals.get("self"), "_context", None)
    return None if context is None else _open(context.get(current))


def _facts_of(job: Job[Any]) -> dict[str, str]:
    facts = {"queue": job.queue, "job_id": job.id}
    if job.name:
        facts["job"] = job.name
    identity = job.ledger.identify(job)
    if identity is not None:
        facts |= {"trace_id": f"{identity[0]:032x}", "span_id": f"{identity[1]:016x}"}
    return facts


def _open(ref: "weakref.ref[Job[Any]] | None") -> Job[Any] | None:
    job = None if ref is None else ref()
    return job if job is not None and job.outcome is None else None


def _is_machinery(module: str) -> bool:
    return module.partition(".")[0] in _MACHINERY
