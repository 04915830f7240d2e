"""Floor 5: where code stands: a coroutine through all that it awaits, a thread through its calls."""

import gc
import linecache
import os
import traceback
from collections.abc import Iterable
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, NamedTuple

from .._core.runner import _Inside

MAX_FRAMES = 40
"""Beyond this many frames of one stack the middle is left out and counted: the ends say most."""
OUTER_FRAMES = 10
"""How many of them are the outermost."""
MAX_STEPS = 10_000
"""How far a chain of awaits is followed."""

_HERE = os.path.dirname(__file__) + os.sep
_THROUGH = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"})
_SUSPENDED = (CoroutineType, GeneratorType, AsyncGeneratorType)


Line = tuple[CodeType, int, str]
"""A frame without what it holds: the code, the line, and the module's name."""


class Frame(NamedTuple):
    """One line of a stack."""

    file: str
    line: int
    function: str


class Stack(NamedTuple):
    """Frames, outermost first."""

    frames: tuple[Frame, ...] = ()
    omitted: int = 0
    """How many were left out after the first OUTER_FRAMES."""


class Stacks:
    """Makes stacks; like ones are one object, for ten thousand tasks stand in few places."""

    __slots__ = ("_frames", "_numbers", "all")

    def __init__(self) -> None:
        self._frames: dict[tuple[CodeType, int], Frame] = {}
        self._numbers: dict[Stack, int] = {}
        self.all: list[Stack] = []

    def of(self, frames: list[FrameType]) -> Stack:
        """Return the stack of *frames*, outermost first."""
        return self.all[self.index(frames)]

    def index(self, frames: list[FrameType]) -> int:
        """Return where in `all` the stack of *frames* stands."""
        frames, omitted = shortened(frames, MAX_FRAMES)
        stack = Stack(tuple([self._frame(each) for each in frames]), omitted)
        index = self._numbers.setdefault(stack, len(self.all))
        if index == len(self.all):
            self.all.append(stack)
        return index

    def _frame(self, frame: FrameType) -> Frame:
        code = frame.f_code
        line = frame.f_lineno or code.co_firstlineno  # None before its first line, on some Pythons
        known = self._frames.get((code, line))
        if known is None:
            known = self._frames[code, line] = Frame(code.co_filename, line, plain_name(code.co_qualname))
        return known


def shortened(frames: list[FrameType], most: int) -> tuple[list[FrameType], int]:
    """Return *most* of *frames*, those after the first OUTER_FRAMES left out, and how many these are."""
    omitted = max(0, len(frames) - most)
    return (frames[:OUTER_FRAMES] + frames[OUTER_FRAMES + omitted :] if omitted else frames), omitted


def printed(lines: list[Line], *, omitted: int = 0, quick: bool = False) -> str:
    """Return *lines*, outermost first, as a traceback is printed, without ours unless there are no others.

    Locals are not looked at: that would keep them. *omitted* lines were left out after the first OUTER_FRAMES; *quick*
    shows source only where no file has to be read for it.
    """
    shown = [line for line in lines if line[2].partition(".")[0] != "otel_sched"] or lines
    if not shown:
        return ""
    entries = [
        traceback.FrameSummary(
            code.co_filename,
            line,
            plain_name(code.co_qualname),
            line="" if quick and code.co_filename not in linecache.cache else None,
        )
        for code, line, _ in shown
    ]
    formatted = traceback.StackSummary.from_list(entries).format()
    if omitted:
        formatted.insert(OUTER_FRAMES, f"  ... {omitted} more\n")
    return "Stack, most recent call last:\n" + "".join(formatted).rstrip("\n")


def line_of(frame: FrameType) -> Line:
    """Return a frame without what it holds."""
    code = frame.f_code
    return code, frame.f_lineno or code.co_firstlineno, str(frame.f_globals.get("__name__", ""))


def plain_name(qualname: str) -> str:
    """Return a function's name as its author would say it: without the functions that it was defined in."""
    return qualname.rpartition("<locals>.")[2]


def awaits(awaitable: Any) -> Any:
    """Return what a suspended coroutine, generator or async generator waits for, as an object; None at the end."""
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_await
    if kind is GeneratorType:
        return awaitable.gi_yieldfrom or _driven(awaitable)
    if kind is AsyncGeneratorType:
        return awaitable.ag_await
    if kind.__name__ in _THROUGH:  # C objects without attributes; the garbage collector knows what they refer to
        return next((each for each in gc.get_referents(awaitable) if _goes_on(each)), None)
    # Cython's, and whatever else looks like a coroutine
    return getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)


def suspended(awaitable: Any) -> tuple[list[FrameType], list[Any]]:
    """Return the frames of a suspended coroutine and of all that it awaits, outermost first, and whose each is."""
    frames: list[FrameType] = []
    owners: list[Any] = []
    for _ in range(MAX_STEPS):
        if awaitable is None:
            break
        frame = _frame_of(awaitable)
        if frame is not None:
            frames.append(frame)
            owners.append(awaitable)
        awaitable = awaits(awaitable)
    return frames, owners


def running_frames(coroutine: Any, threads: Iterable[FrameType]) -> list[FrameType]:
    """Return the frames of a coroutine that runs, found in the innermost frames of all *threads*; empty if in none."""
    own = _frame_of(coroutine)
    for top in threads if own is not None else ():
        frames = thread_frames(top)
        if own in frames:
            return frames[frames.index(own) :]
    return [] if own is None else [own]


def thread_frames(top: FrameType | None) -> list[FrameType]:
    """Return the frames of a thread from its innermost one, outermost first."""
    frames: list[FrameType] = []
    while top is not None and len(frames) < MAX_STEPS:
        frames.append(top)
        top = top.f_back
    frames.reverse()
    return frames


def without_us(frames: list[FrameType]) -> list[FrameType]:
    """Leave out what this package does itself: the task and the thread that ask for a dump are among those shown."""
    ours = (number for number, frame in enumerate(frames) if frame.f_code.co_filename.startswith(_HERE))
    return frames[: next(ours, None)]


def _frame_of(awaitable: Any) -> FrameType | None:
    kind = type(awaitable)
    frame: Any
    if kind is CoroutineType:
        frame = awaitable.cr_frame
    elif kind is GeneratorType:
        frame = awaitable.gi_frame
    elif kind is AsyncGeneratorType:
        frame = awaitable.ag_frame
    else:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
    return frame if isinstance(frame, FrameType) else None


def _goes_on(each: Any) -> bool:
    return isinstance(each, _SUSPENDED) or type(each).__name__ in _THROUGH


def _driven(generator: Any) -> Any:
    """Return the coroutine that a worker of a pool drives by hand, step by step in the producer's context."""
    if generator.gi_code is not _Inside.__await__.__code__:
        return None
    inside = next((each for each in gc.get_referents(generator) if type(each) is _Inside), None)
    return None if inside is None else inside._coroutine


def name_of(task: Any) -> str:
    """Return a task's name; nothing where a class of its own fails to tell."""
    try:
        return str(task.get_name())
    except Exception:
        return ""
