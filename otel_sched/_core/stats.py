"""Floor 3: a queue's numbers as users read them."""

from dataclasses import dataclass, field

from .ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of one queue. Totals count from the queue's creation, ages are in seconds.

    put = size + active + finished + dropped holds in every snapshot. While nobody listens (no SDK, no observer) jobs
    are only counted: each is `active` from get() to task_done(), and all that get() hands out without a task_done()
    ever being called stay so.
    """

    name: str
    size: int
    """Jobs that wait."""
    capacity: int | None
    """The maxsize; None when unbounded."""
    put: int
    taken: int
    active: int
    """Jobs taken and not yet settled."""
    finished: int
    """Jobs that ended, in whatever way; `outcomes` says how."""
    dropped: int
    """Items that left without being taken."""
    outcomes: dict[str, int] = field(default_factory=dict)
    oldest_age: float = 0.0
    """How long the oldest waiting job has waited; 0.0 when none waits."""
    oldest_active_age: float = 0.0
    """How long the longest-running job has been running."""
    puts_waiting: int = 0
    """Producers blocked because the queue is full."""
    gets_waiting: int = 0
    """Consumers waiting for a job."""


def stats_of(ledger: Ledger) -> Stats:
    """Return the numbers of the queue that *ledger* belongs to."""
    now = ledger.snapshot()
    outcomes: dict[str, int] = {}
    for series in now.series.values():
        for outcome, count in series.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return Stats(
        name=ledger.name,
        size=now.size,
        capacity=now.capacity,
        put=now.put,
        taken=now.taken,
        active=now.active,
        finished=now.finished,
        dropped=sum(now.dropped.values()),
        outcomes=outcomes,
        oldest_age=now.oldest_age,
        oldest_active_age=max((each.oldest_active_age for each in now.series.values()), default=0.0),
        puts_waiting=now.puts_waiting,
        gets_waiting=now.gets_waiting,
    )
