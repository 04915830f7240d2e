"""Floor 1: which of many like messages to let through. Pure: it takes the time, it does not read a clock."""

from collections.abc import Hashable

BURST = 5
PERIOD = 10.0
MAX_KEYS = 1000


class Repeats:
    """Lets BURST like messages through in PERIOD seconds and counts the rest for a summary."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Hashable, list[float]] = {}

    def allow(self, key: Hashable, now: float) -> int | None:
        """Return how many like *key* were held back since the last that passed, or None to hold this one back too."""
        entry = self._seen.get(key)
        if entry is None:
            if len(self._seen) >= MAX_KEYS:
                self._seen.pop(next(iter(self._seen)))
            self._seen[key] = [now, 1, 0]
            return 0
        since, passed, held = entry
        if now - since >= PERIOD:
            entry[:] = [now, 1, 0]
            return int(held)
        if passed < BURST:
            entry[1] += 1
            return 0
        entry[2] += 1
        return None

    def take_held(self) -> dict[Hashable, int]:
        """Return and forget how many of each are held back and not yet told of."""
        held = {key: int(entry[2]) for key, entry in list(self._seen.items()) if entry[2]}
        for key in held:
            if key in self._seen:
                self._seen[key][2] = 0
        return held
