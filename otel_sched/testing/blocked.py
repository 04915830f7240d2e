"""Floor 6: assert_loop_never_blocked: fails a test whose event loop did not turn, and says what kept it from that."""

import asyncio
import functools
import inspect
import math
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from .._core.observer import prepare
from .starved import Starved
from .turns import Beats, Turns, attend

if TYPE_CHECKING:
    from ..diagnostics.culprit import Step

P = ParamSpec("P")
R = TypeVar("R")

LEAST = 0.01
"""The shortest limit: below it one measures the machine."""
MOST_KINDS = 100
SHOWN = 5
PART = 0.2
"""What computes for less than this part of a turn did not compute, if nobody could look."""


@dataclass(slots=True)
class Seen:
    """What was at work in one turn, and how often."""

    step: "Step"
    times: int = 1


@dataclass(slots=True)
class Block:
    """A turn that took too long. Seconds."""

    seconds: float
    """Without what the machine and the garbage collector took of it."""
    step: "Step | None"
    changed: bool
    overslept: float
    working: float | None
    others_working: float
    other: "Step | None" = None
    other_thread: str = ""


class assert_loop_never_blocked:
    """Fail when one turn of the running event loop takes longer than *limit* seconds: nothing else could run.

    Use it as `with assert_loop_never_blocked(0.05):` in a coroutine, or as a decorator of an async test. The failure
    names file, line, function, asyncio task and job, with the stack from while it blocked.

    Real time counts, on a `VirtualLoop` too. A turn is all that runs between two waits of the loop; on uvloop, whose
    turns cannot be seen, a block is noticed for certain when it takes a fifth longer than the limit. Not counted are
    the time that the machine gave the thread no processor, where the system tells (Linux does), and collections of
    the garbage collector, whose length depends on all that the test session holds.

    Raises:
        AssertionError: at the end, when it was blocked. What the block itself raises comes first.
        RuntimeError: at the begin, when no event loop runs.
        ValueError: *limit* is below 0.01 s, where one would measure the machine.
    """

    def __init__(self, limit: float = 0.05) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise TypeError(f"limit must be a number of seconds, not {limit!r}; as a decorator, call it: @...(0.05)")
        if not LEAST <= limit < math.inf:
            raise ValueError(f"limit must be at least {LEAST:g} s, not {limit!r}: below it one measures the machine")
        self._limit = float(limit)
        self._watch: LoopWatch | None = None

    def __enter__(self) -> Self:
        """Begin to watch the running loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("assert_loop_never_blocked() watches the running event loop: use it in one") from None
        if self._watch is not None:
            raise RuntimeError("it is in use already: make another one")
        prepare()  # before it measures: what the first queue of a process loads is nobody's fault
        self._watch = LoopWatch(loop, self._limit)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Watch no more; fail if the loop was blocked."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
            if watch.blocks and kind is None:
                raise AssertionError(watch.complaint())

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Watch each call of a coroutine function."""
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"it decorates coroutine functions (async def), not {function!r}")

        @functools.wraps(function)
        async def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            with type(self)(self._limit):
                return await function(*args, **kwargs)

        return watched


class LoopWatch:
    """Takes the time of each turn of one loop, in its thread, and looks from a thread of its own at what takes long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        from ..diagnostics.gctime import pauses
        from ..diagnostics.heartbeat import _depth_of_task

        self.blocks: list[Block] = []
        self._loop = loop
        self._limit = limit
        self._outer = _depth_of_task(loop)
        self._thread = threading.get_ident()
        self._starved = Starved()
        self._pauses = pauses
        self._pauses.attend()
        self._turn = 0
        self._began: float | None = None
        self._looks = Looks(self._turn)
        self._turns: Turns | Beats = attend(loop, self, limit / 5)
        self._stop = threading.Event()
        self._looker = threading.Thread(target=self._watch, name="otel_sched-assert", daemon=True)
        self._looker.start()

    def begin(self, now: float) -> None:
        """Note where the clocks stand; *now* may be an instant to come."""
        self._worked, self._all_worked = time.thread_time(), time.process_time()
        self._starved_before = self._starved.seconds()
        self._turn += 1
        self._began = now

    def end(self, now: float) -> None:
        """Keep what is to be known of a turn that took too long."""
        began, self._began = self._began, None
        if began is None or now - began <= self._limit:
            return
        looks = self._looks if self._looks.turn == self._turn else Looks(self._turn)
        lost = self._starved.seconds() - self._starved_before + looks.starved + self._pauses.within(began, now)
        seconds = now - began - max(0.0, lost)
        working: float | None = time.thread_time() - self._worked
        others = max(0.0, time.process_time() - self._all_worked - (working or 0.0))
        nobody = not looks.seen and (working or 0.0) < PART * seconds  # neither this thread nor the other one ran
        if seconds <= self._limit or (nobody and not self._starved.known):
            return
        step, changed = looks.most()
        overslept = max(0.0, (looks.first or now) - began - self._limit / 2)
        block = Block(seconds, step, changed, overslept, None if nobody else working, others, *looks.other)
        self.blocks.append(block)

    def close(self) -> None:
        """Stop; the turn that goes on counts as far as it has come."""
        self.end(time.monotonic())
        self._turns.remove(self)
        self._stop.set()
        self._looker.join()
        self._pauses.leave()
        self._starved.close()

    def _watch(self) -> None:
        from ..diagnostics.culprit import look

        look(None, threading.get_ident(), 0)  # what runs for the first time is slow, and there may be no time then
        while not self._stop.wait(self._limit / 4):
            turn, began = self._turn, self._began
            if began is not None and time.monotonic() - began >= self._limit / 2:
                self._look(turn, began)

    def _look(self, turn: int, began: float) -> None:
        """Look what goes on, at once: whoever kept the interpreter's lock so far goes on as soon as it is let go."""
        from ..diagnostics.culprit import look, other_thread

        now, worked = time.monotonic(), time.thread_time()
        step = look(self._loop, self._thread, self._outer)
        if self._looks.turn != turn:
            self._looks = Looks(turn)
        looks = self._looks
        if not looks.seen and now - began > self._limit:
            name, other = other_thread(self._thread)
            looks.other = (other, name)
        if self._turn == turn and self._began is not None and not step.idle:
            looks.add(step, now)
        looks.starved += max(0.0, time.monotonic() - now - (time.thread_time() - worked))

    def complaint(self) -> str:
        """Say what blocked the loop, the longest first."""
        worst = sorted(self.blocks, key=lambda block: -block.seconds)
        times = "" if len(worst) == 1 else f", {len(worst)} times"
        parts = [f"the event loop was blocked for longer than {self._limit:g} s{times}:"]
        parts += [self._said(block) for block in worst[:SHOWN]]
        if len(worst) > SHOWN:
            parts.append(f"and {len(worst) - SHOWN} more")
        return "\n\n".join(parts)

    def _said(self, block: Block) -> str:
        from ..diagnostics.blame import Evidence, blocked

        evidence = Evidence(
            blocked=block.seconds,
            step=block.step,
            changed=block.changed,
            overslept=block.overslept,
            working=block.working,
            others_working=block.others_working,
            other=block.other,
            other_thread=block.other_thread,
        )
        name = "main" if self._thread == threading.main_thread().ident else "of another thread"
        found = blocked(name, evidence, seconds=block.seconds, over=True)
        return f"{found.sentence}\n{found.stack}".rstrip()


class Looks:
    """What was seen in one turn."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.first: float | None = None
        self.seen: dict[Any, Seen] = {}
        self.starved = 0.0
        """For how long whoever looked kept the interpreter's lock, but had no processor."""
        self.other: tuple[Step | None, str] = (None, "")

    def add(self, step: "Step", now: float) -> None:
        """Count one look."""
        self.first = self.first or now
        key = (step.task, step.culprit())
        seen = self.seen.get(key)
        if seen is not None:
            seen.times += 1
            seen.step = step
        elif len(self.seen) < MOST_KINDS:
            self.seen[key] = Seen(step)

    def most(self) -> "tuple[Step | None, bool]":
        """Return what was seen most often, and whether that was less than half of the time."""
        seen = sorted(self.seen.values(), key=lambda each: -each.times)
        if not seen:
            return None, False
        return seen[0].step, 2 * seen[0].times < sum(each.times for each in seen)
