"""Floor 5: whether a state has held for long enough, and was told of already. Pure: the time is given.

Most of what detectors see is wrong only if it stays: a loop that was blocked makes everything look old, so that it
takes some looks besides some seconds.
"""

from typing import Any
from weakref import WeakKeyDictionary

LOOKS = 3
"""How many looks, after the first, must find the same."""


class _Entry:
    __slots__ = ("looks", "since", "state", "told")

    def __init__(self, state: object, since: float) -> None:
        self.state = state
        self.since = since
        self.looks = 0
        self.told = False


class Steady:
    """Remembers, weakly, in which state something is and since when."""

    __slots__ = ("_patience", "_seen")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: WeakKeyDictionary[Any, _Entry] = WeakKeyDictionary()

    def holds(self, subject: Any, state: object, now: float, times: int = 1) -> float | None:
        """Return for how many seconds *subject* has been in *state*, once, when it is long enough; else None.

        Args:
            subject: What is looked at.
            state: What it is like; when it changes, all begins anew.
            now: The time of the look.
            times: How many times as patient to be, where it may well be in order.
        """
        seconds = self.lasts(subject, state, now, times)
        entry = self._seen[subject]
        if seconds is None or entry.told:
            return None
        entry.told = True
        return seconds

    def lasts(self, subject: Any, state: object, now: float, times: int = 1) -> float | None:
        """Return the same, but at every look."""
        entry = self._seen.get(subject)
        if entry is None or entry.state != state:
            self._seen[subject] = _Entry(state, now)
            return None
        entry.looks += 1
        seconds = now - entry.since
        return None if entry.looks < LOOKS or seconds < self._patience * times else seconds

    def over(self, subject: Any) -> None:
        """Forget *subject*: nothing is wrong with it. What comes after that is a new occurrence."""
        self._seen.pop(subject, None)
