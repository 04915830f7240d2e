"""Floor 5: what was seen before: asyncio keeps no time of birth, so the first look at a task or future is noted."""

import itertools
from typing import Any
from weakref import WeakKeyDictionary

Sighting = tuple[int, float]
"""A number given once in this process and to nothing else, unlike an address, and when that was, in monotonic seconds.

The number is 0 for what cannot be remembered. A plain tuple, which costs the garbage collector nothing.
"""


class Sightings:
    """Remembers things, weakly, by when they were first seen; from any thread."""

    __slots__ = ("_known", "_numbers")

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, Sighting] = WeakKeyDictionary()
        self._numbers = itertools.count(1)

    def see(self, thing: Any, now: float) -> Sighting:
        """Return when *thing* was first seen: now, if never before."""
        try:
            known = self._known.get(thing)
            if known is None:
                known = self._known.setdefault(thing, (next(self._numbers), now))
        except TypeError:  # no hash, or no weak references
            return 0, now
        return known


tasks = Sightings()
"""The numbers of asyncio tasks in dumps."""
waits = Sightings()
"""Futures that tasks wait for: one that stands in two dumps has not been done in between."""
queues = Sightings()
"""The numbers of queues, by their books."""
