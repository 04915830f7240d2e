"""Floor 1: a ledger's counts at one instant. Plain classes: making a dataclass costs an import 1 ms."""

from typing import Any


class SeriesCounts:
    """What a snapshot holds of one job name."""

    __slots__ = ("cancels", "oldest_active_age", "outcomes", "taken")

    def __init__(
        self,
        outcomes: dict[str, int] | None = None,
        cancels: dict[tuple[str, str], int] | None = None,
    ) -> None:
        self.taken = 0
        self.outcomes = {} if outcomes is None else outcomes
        self.cancels = {} if cancels is None else cancels
        self.oldest_active_age = 0.0

    @property
    def active(self) -> int:
        return self.taken - sum(self.outcomes.values())


class Snapshot:
    """The books at one instant; `series` is keyed by job name, "" for jobs that ended before they were taken."""

    __slots__ = (
        "capacity",
        "dropped",
        "errors",
        "gets_waiting",
        "held",
        "limits",
        "oldest_age",
        "put",
        "puts_waiting",
        "series",
        "taken",
    )

    def __init__(self, capacity: int | None = None, errors: int = 0, held: int = 0) -> None:
        self.capacity = capacity
        self.errors = errors
        self.held = held
        self.put = self.taken = self.puts_waiting = self.gets_waiting = 0
        self.oldest_age = 0.0
        self.dropped: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.series: dict[str, SeriesCounts] = {}

    @property
    def unstarted(self) -> int:
        return sum(self.series[""].outcomes.values()) if "" in self.series else 0

    @property
    def finished(self) -> int:
        return sum(sum(each.outcomes.values()) for each in self.series.values())

    @property
    def active(self) -> int:
        return self.taken - self.finished + self.unstarted

    @property
    def size(self) -> int:
        return self.put - self.taken - self.unstarted - sum(self.dropped.values())

    def add(self, more: "Snapshot") -> None:
        """Make one of two of a name: counts, sizes and capacities add up, ages take the maximum."""
        self.put += more.put
        self.taken += more.taken
        self.errors += more.errors
        self.held += more.held
        self.puts_waiting += more.puts_waiting
        self.gets_waiting += more.gets_waiting
        self.oldest_age = max(self.oldest_age, more.oldest_age)
        if more.capacity is not None:
            self.capacity = (self.capacity or 0) + more.capacity
        _add(self.dropped, more.dropped)
        _add(self.limits, more.limits)
        for name, counts in more.series.items():
            sums = self.series.setdefault(name, SeriesCounts())
            sums.taken += counts.taken
            sums.oldest_active_age = max(sums.oldest_active_age, counts.oldest_active_age)
            _add(sums.outcomes, counts.outcomes)
            _add(sums.cancels, counts.cancels)


def _add(into: dict[Any, int], more: dict[Any, int]) -> None:
    for key, count in more.items():
        into[key] = into.get(key, 0) + count
