"""Floor 5: which job an asyncio task was started in, also when that job is long over and gone."""

import weakref
from typing import Any, NamedTuple

from ..._core.job import Job
from .seat import Seat

ENDED = 2000
"""How many ended jobs are remembered by the weak references that contexts hold to them."""


class Origin(NamedTuple):
    """What is left of a job: words."""

    queue: str
    job: str
    """The job's name; empty where it is not known."""
    id: str = ""
    trace_id: str = ""

    def words(self) -> str:
        """Name the job in a sentence."""
        which = f"job {self.id}" if self.id else "a job"
        return f"{which} of queue {self.queue!r}" if self.queue else "a job that is over"


class Origins:
    """Remembers, weakly, the job in which each asyncio task was started."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()
        self._ended: dict[int, tuple[Any, Origin]] = {}  # by id(): a reference to what is gone has no hash

    def fold(self, queue: str, ended: list[tuple[Any, ...]]) -> None:
        """Take in what `Follower` noted of jobs that have ended; the oldest are forgotten."""
        for ref, series, *_ in ended[-ENDED:]:
            self._ended[id(ref)] = (ref, Origin(queue, "" if series is None else series.name))
        while len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]

    def see(self, seat: Seat) -> None:
        """Remember the job of a task that was started in one, while there is still everything to know of it."""
        if seat.job is not None and seat.job.outcome is None and seat.task not in self._seen:
            self._seen[seat.task] = _of(seat.job)

    def of(self, seat: Seat) -> Origin:
        """Return the job in which the task of *seat* was started, as far as it is known."""
        known = self._seen.get(seat.task)
        if known is not None:
            return known
        if seat.job is not None:
            return _of(seat.job)
        ended = self._ended.get(id(seat.ref))
        if ended is not None and ended[0] is seat.ref:
            return ended[1]
        consumer = seat.consumer
        if consumer is not None and consumer.ledger is not None:  # the consumer in whose context it was started
            return Origin(consumer.ledger.name, consumer.name)
        return Origin("", "")


def _of(job: Job[Any]) -> Origin:
    known = job.ledger.identify(job) if job.outcome is None else None
    return Origin(job.queue, job.name, job.id, f"{known[0]:032x}" if known else "")
