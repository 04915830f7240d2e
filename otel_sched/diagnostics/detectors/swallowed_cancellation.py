"""Floor 5: a consumer that was cancelled and goes on taking jobs."""

import weakref
from typing import Any

from ..._core.finding import FindingKind
from .scene import Detector, Found, Scene, found
from .seat import Seat
from .steady import Steady
from .trail import timed, trail

DRAINING = 3
"""How many times as patient to be with one that never waits: it may get through what is left, and end then."""


def goes_on(idle: bool, before: object, now: object) -> bool:
    """Say whether a consumer that was cancelled has gone on: it waits for its next job, or has taken another.

    Cleaning up may take its time: as long as it is at the job in which it was cancelled, nothing can be said.

    Args:
        idle: Whether it waits in get().
        before: The job that it was at when it was first seen to be cancelled.
        now: The job that it is at.
    """
    return idle or (now is not None and now is not before)


class _Cancelled:
    """A consumer that was seen to be cancelled."""

    __slots__ = ("has_waited", "requests", "was_at")

    def __init__(self, requests: int, was_at: object) -> None:
        self.requests = requests
        self.was_at = was_at
        self.has_waited = False
        """Whether it was seen to wait for new jobs: one that drains its queue takes what is there."""


class SwallowedCancellation(Detector):
    """Tells of cancelled consumers that have gone on for *patience* seconds; once for each cancellation."""

    def __init__(self, patience: float) -> None:
        self._cancelled: weakref.WeakKeyDictionary[Any, _Cancelled] = weakref.WeakKeyDictionary()
        self._steady = Steady(patience)

    def task(self, scene: Scene, seat: Seat) -> list[Found]:
        """Look at one consumer."""
        task = seat.task
        requests = task.cancelling()
        if not requests or not seat.takes or getattr(task, "_must_cancel", False):
            if self._cancelled and task in self._cancelled:  # somebody called uncancel()
                del self._cancelled[task]
                self._steady.over(task)
            return []
        at = None if seat.job is None else weakref.ref(seat.job)
        known = self._cancelled.get(task)
        if known is None or known.requests != requests:
            self._cancelled[task] = known = _Cancelled(requests, at)
        idle = _idle(seat)
        known.has_waited |= idle
        if not goes_on(idle, known.was_at, at):
            return []
        seconds = self._steady.holds(task, requests, scene.now, 1 if known.has_waited else DRAINING)
        if seconds is None:
            return []
        queue = next((ledger.name for ledger in seat.ledgers()), "")
        held = scene.allowed(FindingKind.SWALLOWED_CANCELLATION, queue, task.get_name())
        return [] if held is None else [_told(seat, queue, idle, known.has_waited, seconds, held)]


def _told(seat: Seat, queue: str, idle: bool, has_waited: bool, seconds: float, held: int) -> Found:
    place, stack = trail(seat.task)
    cause = "an `except` or `finally` in it swallows CancelledError"
    sentence = (
        f"Asyncio task {seat.name()} was cancelled and goes on "
        + ("waiting for jobs" if idle else "with other jobs")
        + (f" of queue {queue!r}" if queue else "")
        + (f", in {place}" if place else "")
        + f"; it has done so for {seconds:.3g} s. "
        + (f"A{cause[1:]}" if has_waited else f"Unless it finishes on purpose what is left in the queue, {cause}")
        + ": let it pass, or call task.uncancel() where it is meant."
    )
    facts: dict[str, str | int | float | bool] = {
        "task": seat.task.get_name(),
        "cancel_requests": seat.task.cancelling(),
        "since": seconds,
        "idle": idle,
        "has_waited": has_waited,
    }
    job = seat.job if seat.job is not None and seat.job.outcome is None else None
    kind = FindingKind.SWALLOWED_CANCELLATION
    return found(kind, sentence, queue=queue, held=held, facts=facts, stack=stack, job=job)


def _idle(seat: Seat) -> bool:
    """Say whether a consumer waits for new jobs, and for as long as it takes."""
    future = getattr(seat.task, "_fut_waiter", None)
    if future is None:
        return False
    queues = (ledger.queue() for ledger in seat.ledgers())
    return any(future in getattr(queue, "_getters", ()) for queue in queues) and not timed(seat.task)
