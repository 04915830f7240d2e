"""Floor 5: how long the garbage collector stops the process: it stops every event loop, and is nobody's code."""

import gc
import threading
from collections import deque
from typing import Any

from .._core.clock import monotonic

KEPT = 16
"""How many collections are remembered: whoever asks wants those of the last second or so."""


class Pauses:
    """The latest collections that may take long, and the one that goes on; the youngest generation's never do."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.RLock()  # the collector itself may call `leave`, in the midst of `attend`
        self._began: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=KEPT)

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
        began = self._began
        pauses = [*self._recent.copy(), *([] if began is None else [(began, until)])]
        return sum(max(0.0, min(end, until) - max(start, since)) for start, end in pauses)

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        """Note the instant; hundreds of young collections come in a second, so those pay for one look alone."""
        if info["generation"] == 0:
            return
        if phase == "start":
            self._began = monotonic()
        elif self._began is not None:
            self._recent.append((self._began, monotonic()))
            self._began = None


pauses = Pauses()
"""Of this process."""
