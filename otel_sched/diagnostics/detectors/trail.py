"""Floor 5: where an asyncio task stands, in words and as a traceback; and for how long it is willing to stand there."""

import asyncio
import gc
from types import CoroutineType, FrameType, MethodType
from typing import Any

from ..stacks import line_of, plain_name, printed, suspended


def trail(task: asyncio.Task[Any] | None) -> tuple[str, str]:
    """Return the place where a suspended task waits, in words, and its stack as a traceback is printed."""
    if task is None:
        return "", ""
    frames, _ = suspended(task.get_coro())
    if not frames:
        return "", ""
    at = _own(frames)
    name = plain_name(at.f_code.co_qualname)
    return f"{name}() at {at.f_code.co_filename}:{at.f_lineno}", printed([line_of(each) for each in frames])


def innermost(task: asyncio.Task[Any]) -> Any:
    """Return the last coroutine that a suspended task awaits."""
    _, awaitables = suspended(task.get_coro())
    return next((each for each in reversed(awaitables) if type(each) is CoroutineType), None)


def timed(task: asyncio.Task[Any]) -> bool:
    """Say whether a suspended task waits inside asyncio.timeout() or wait_for(), which end the wait some time.

    What an `async with` will call at its end lies on the coroutine's stack; the garbage collector knows what is there.
    """
    _, awaitables = suspended(task.get_coro())
    for awaitable in awaitables:
        for each in gc.get_referents(awaitable):
            holder = each.__self__ if type(each) is MethodType else each
            if isinstance(holder, asyncio.Timeout):
                if holder.when() is not None:
                    return True
            elif type(holder).__name__ == "TimerHandle":  # wait_for() on 3.11; uvloop has a class of its own
                return True
    return False


def _own(frames: list[FrameType]) -> FrameType:
    """Return the innermost frame that is neither asyncio's nor ours: that is the line the reader can change."""
    for frame in reversed(frames):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ("asyncio", "otel_sched"):
            return frame
    return frames[-1]
