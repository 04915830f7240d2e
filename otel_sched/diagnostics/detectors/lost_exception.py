"""Floor 5: exceptions that nobody asked for, tied to the job in which their asyncio task was started.

asyncio tells its exception handler of them when such a task is collected, from whatever thread that happens in. Only
words are kept, and told with the next look: the garbage collector is no place to call anybody.
"""

import asyncio
import contextlib
import threading
import traceback
import weakref
from collections import deque
from typing import Any

from ..._core.finding import FindingKind
from ..._core.job import type_name
from .origin import Origins
from .scene import Detector, Found, Scene, found
from .seat import Seat, seat_of, task_words

KEPT = 1000
"""How many are kept until the next look."""


def lost_task(context: Any) -> "tuple[asyncio.Task[Any], BaseException] | None":
    """Return the task and the exception where a loop's exception handler is told that nobody has retrieved it."""
    if not isinstance(context, dict) or "never retrieved" not in str(context.get("message", "")):
        return None
    task, error = context.get("future") or context.get("task"), context.get("exception")
    return (task, error) if isinstance(task, asyncio.Task) and isinstance(error, BaseException) else None


class _Lost:
    """One lost exception, in words."""

    __slots__ = ("error", "facts", "function", "queue", "sentence", "stack")

    def __init__(self, seat: Seat, error: BaseException, origins: Origins) -> None:
        origin = origins.of(seat)
        self.queue = origin.queue
        self.error = type_name(error)
        self.function = getattr(seat.task.get_coro(), "__qualname__", "")
        by = f" ({origin.job})" if origin.job else ""
        ended = seat.consumer is not None and seat.consumer.name == self.function.rpartition("<locals>.")[2]
        where = f"took {origin.words()}" if seat.takes or ended else f"was started in {origin.words()}{by}"
        self.sentence = (
            f"Asyncio task {task_words(seat.task)} {where} and failed with {self.error}: {_short(error)}. Nobody has "
            "asked for its exception: await the task or use a TaskGroup; keep a reference until then."
        )
        self.facts: dict[str, str | int | float | bool] = {"task": seat.task.get_name(), "error.type": self.error}
        self.facts |= {key: value for key, value in origin._asdict().items() if key != "queue" and value}
        self.stack = "".join(traceback.format_exception(error)).rstrip("\n")


class LostException(Detector):
    """Tells of them once each. It stands in the loop's exception handler, and calls the one that was there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, origins: Origins) -> None:
        self._loop = weakref.ref(loop)
        self._origins = origins
        self._lost: deque[_Lost] = deque(maxlen=KEPT)
        self._at_work = threading.local()

    def stand_in(self) -> None:
        """Take the place of the loop's exception handler, unless it is one of ours already."""
        loop = self._loop()
        before = None if loop is None else loop.get_exception_handler()
        if loop is not None and not (isinstance(before, _Handler) and before.detector() is self):
            loop.set_exception_handler(_Handler(self, before))

    def stand_back(self) -> None:
        """Give the place back. Where somebody else has taken it, and calls us, nothing but that call is left."""
        loop = self._loop()
        handler = None if loop is None else loop.get_exception_handler()
        if loop is not None and isinstance(handler, _Handler) and handler.detector() is self:
            loop.set_exception_handler(handler.before)

    def note(self, context: Any) -> None:
        """Note the exception of a task that was started in a job, or takes jobs."""
        lost = lost_task(context)
        seat = None if lost is None else seat_of(lost[0])
        if lost is not None and seat is not None:
            self._lost.append(_Lost(seat, lost[1], self._origins))

    def end(self, scene: Scene) -> list[Found]:
        """Tell what was noted since the last look."""
        result: list[Found] = []
        while self._lost and len(result) < KEPT:
            lost = self._lost.popleft()
            held = scene.allowed(FindingKind.LOST_EXCEPTION, lost.queue, f"{lost.function} {lost.error}")
            if held is not None:
                told = found(
                    FindingKind.LOST_EXCEPTION,
                    lost.sentence,
                    queue=lost.queue,
                    held=held,
                    facts=lost.facts,
                    stack=lost.stack,
                    level=40,
                )
                result.append(told)
        return result


class _Handler:
    """What stands in the loop: it notes, then does what was done before. It holds the detector weakly."""

    def __init__(self, detector: LostException, before: Any) -> None:
        self.detector = weakref.ref(detector)
        self.before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Any) -> None:
        detector = self.detector()
        if detector is None:
            self._go_on(loop, context)
            return
        at_work, outer = detector._at_work, getattr(detector._at_work, "context", None)
        if outer is not context:  # else one of ours that another handler calls: noted already
            at_work.context = context
            with contextlib.suppress(Exception):  # words can fail too: an exception's own __str__
                detector.note(context)
        try:
            self._go_on(loop, context)
        finally:
            at_work.context = outer

    def _go_on(self, loop: asyncio.AbstractEventLoop, context: Any) -> None:
        if self.before is None:
            loop.default_exception_handler(context)
        else:
            self.before(loop, context)


def _short(error: BaseException) -> str:
    text = str(error)
    return text if len(text) <= 200 else f"{text[:200]}..."
