"""Floor 6: an asyncio task that waits for ever, in a line: what it waits for, and in which line of the program."""

import asyncio
import linecache
from types import FrameType
from typing import Any

from .._core.callsite import is_application
from ..diagnostics.stacks import plain_name, suspended
from ..diagnostics.tasks import WaitInfo
from ..diagnostics.text import MAX_SOURCE
from ..diagnostics.text import described as wait_words
from ..diagnostics.waits import WaitKind, described, place


def stands(task: asyncio.Task[Any]) -> str:
    """Say what *task* waits for, and in which line of the program's own code."""
    coroutine = task.get_coro()
    name = plain_name(getattr(coroutine, "__qualname__", type(coroutine).__name__))
    frames, owners = suspended(coroutine)
    begun = len(frames) > 1 or getattr(coroutine, "cr_await", None) is not None
    head = f"{task.get_name()} ({name}) {_waits(task, frames, owners)}"
    if not begun or not frames:
        return head + ", before its first line"
    frame = _own(frames)
    code, line = frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno
    source = linecache.getline(code.co_filename, line).strip()[:MAX_SOURCE]
    where = f"{plain_name(code.co_qualname)}() at {code.co_filename}:{line}"
    return f"{head}, in {where}" + (f": {source}" if source else "")


def _waits(task: asyncio.Task[Any], frames: list[FrameType], owners: list[Any]) -> str:
    future = getattr(task, "_fut_waiter", None)
    if isinstance(future, asyncio.Task):
        return f"waits for asyncio task {future.get_name()}"
    found = place(frames, owners)
    if found is None or found.kind is WaitKind.TASKS:
        return "waits"
    return wait_words(WaitInfo(found.kind, described(found), 0.0, 0))


def _own(frames: list[FrameType]) -> FrameType:
    """Return the innermost frame of the program's own code; where there is none, of what is not asyncio's or ours."""
    for frame in reversed(frames):
        if is_application(frame.f_code.co_filename) and not _is_of(frame, "otel_sched"):
            return frame
    return next((each for each in reversed(frames) if not _is_of(each, "asyncio", "otel_sched")), frames[-1])


def _is_of(frame: FrameType, *packages: str) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages
