"""Floor 5: how long the garbage collector stops the process: it stops every event loop, and is nobody's code."""

import gc
import threading
from collections import deque
from typing import Any

from .._core.clock import monotonic

KEPT = 1000
"""How many pieces of time are remembered: whoever asks wants those of the last seconds."""
PIECE = 0.005
"""Seconds. Collections that begin within this are remembered as one: code that makes objects sets off hundreds."""


class Pauses:
    """The latest collections that may take long, and the one that goes on; the youngest generation's never do."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.RLock()  # the collector itself may call `leave`, in the midst of `attend`
        self._began: float | None = None
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=KEPT)
        """Begin, end, and for how much of the time between them it was at work."""

    @property
    def collecting(self) -> bool:
        """Whether a collection goes on; from any thread, which then has come in by a callback or a finalizer of it."""
        return self._began is not None

    def attend(self) -> None:
        """Begin to take the time, for one more user."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                gc.callbacks.append(self._collecting)

    def leave(self) -> None:
        """End that for one user; the last one leaves nothing behind."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._collecting in gc.callbacks:
                gc.callbacks.remove(self._collecting)
                self._began = None

    def within(self, since: float, until: float) -> float:
        """Return for how many seconds between two instants the collector was at work; from any thread."""
        recent = self._recent.copy()  # first: one that ends in between is missed, and none is counted twice
        began = self._began
        seconds = 0.0 if began is None else max(0.0, until - max(began, since))
        for start, end, took in reversed(recent):
            if end <= since:
                break
            if start < until:
                seconds += took * (min(end, until) - max(start, since)) / (end - start)
        return seconds

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        """Note the instant; hundreds of young collections come in a second, so those pay for one look alone."""
        if info["generation"] == 0:
            return
        if phase == "start":
            self._began = monotonic()
        elif self._began is not None:
            self._note(self._began, monotonic())
            self._began = None

    def _note(self, began: float, ended: float) -> None:
        recent = self._recent
        if recent and began - recent[-1][0] < PIECE:
            first, _, took = recent[-1]
            recent[-1] = first, ended, took + ended - began
        elif ended > began:
            recent.append((began, ended, ended - began))


pauses = Pauses()
"""Of this process."""
