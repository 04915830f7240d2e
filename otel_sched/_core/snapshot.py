"""Floor 1: a ledger's counts at one instant. Plain classes: making a dataclass costs an import 1 ms."""


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
