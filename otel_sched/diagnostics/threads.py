"""Floor 5: the threads of this process and the event loops that run in them."""

import asyncio
import os
import selectors
import sys
import threading
from asyncio import base_events, runners
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .._core.callsite import is_application
from .stacks import Stack, Stacks, thread_frames, without_us

MAX_THREADS = 100
"""The most threads shown; the rest is counted."""

_OURS = ("otel_sched", "otel-sched")
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_RUNNERS = {base_events.BaseEventLoop.run_forever.__code__: "self", runners.Runner.run.__code__: "self"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopInfo:
    """An event loop that has asyncio tasks."""

    name: str
    """`loop-1` and so on, in the order of their oldest tasks; of this dump only."""
    kind: str
    """Its class, such as `uvloop.Loop`."""
    thread: str | None
    """The name of the thread that it runs in; None where it does not run, or where that cannot be known."""
    closed: bool
    """Closed, so that its tasks can never go on."""
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadInfo:
    """A thread and what it does."""

    name: str
    ident: int
    loop: str | None
    """The name of the event loop that runs in it, where that is known."""
    stack: Stack


def idle_words(thread: ThreadInfo) -> str | None:
    """Say in a few words what a thread does that tells nothing of the program; None for one that has to be seen."""
    if thread.name.startswith(_OURS):
        return "of otel_sched itself"
    frames = list(thread.stack.frames)
    while frames and frames[-1].file == selectors.__file__:
        frames.pop()
    if not frames:
        return None
    file, line, function = frames[-1]
    if thread.loop is not None and (file, function) == (base_events.__file__, "BaseEventLoop._run_once"):
        return "its event loop waits"
    if thread.loop is not None and (file == runners.__file__ or f"{os.sep}uvloop{os.sep}" in file):
        return "nothing but its event loop runs in it"  # uvloop has no frames: it waits, or a callback in C runs
    if file.startswith(_LIBRARY) and not any(is_application(each.file) for each in frames):
        return f"waits in {function}, line {line} of {file}"
    return None


class Threads:
    """The threads at one moment; it holds their frames, so it must not live long."""

    __slots__ = ("frames", "names")

    def __init__(self) -> None:
        me = threading.get_ident()
        self.names = {each.ident: each.name for each in threading.enumerate() if each.ident is not None}
        self.frames: dict[int, FrameType] = {
            ident: frame for ident, frame in sys._current_frames().items() if ident != me or _turns_a_loop()
        }

    def of_loop(self, loop: Any, task: Any) -> str | None:
        """Return the name of the thread that *loop* runs in, where that is known; *task* is the one that runs in it."""
        ident = getattr(loop, "_thread_id", None)
        if ident is None:  # uvloop's does not show it
            own = getattr(task.get_coro() if task is not None else None, "cr_frame", None)
            ident = next((each for each, top in self.frames.items() if _runs(top, loop, own)), None)
        return None if ident is None else self.names.get(ident, f"thread {ident}")

    def infos(self, stacks: Stacks, loops: Iterable[LoopInfo]) -> tuple[ThreadInfo, ...]:
        """Return what is shown of the first MAX_THREADS."""
        by_thread = {loop.thread: loop.name for loop in loops if loop.thread is not None}
        found = []
        for ident, top in list(self.frames.items())[:MAX_THREADS]:
            name = self.names.get(ident, f"thread {ident}")
            found.append(
                ThreadInfo(
                    name=name, ident=ident, loop=by_thread.get(name), stack=stacks.of(without_us(thread_frames(top)))
                )
            )
        return tuple(found)


def kind_of(loop: Any) -> str:
    """Return the class of a loop as it is shown."""
    kind = type(loop)
    module = kind.__module__.partition(".")[0]
    return f"{module}.{kind.__qualname__.lstrip('_')}"


def _turns_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _runs(top: FrameType, loop: Any, own: FrameType | None) -> bool:
    frame: FrameType | None = top
    while frame is not None:
        if frame is own:
            return True
        name = _RUNNERS.get(frame.f_code)
        if name is not None:
            owner = frame.f_locals.get(name)
            return getattr(owner, "_loop", owner) is loop
        frame = frame.f_back
    return False
