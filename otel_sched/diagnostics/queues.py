"""Floor 5: what is shown of a queue: its numbers, who waits at it, and which of its jobs are open."""

import itertools
from dataclasses import dataclass
from typing import Any

from .._core.stats import Stats, stats_of
from .jobs import JobInfo, OpenJobs
from .links import Waiters
from .sightings import queues as seen_queues

MAX_QUEUES = 1_000
"""The most queues shown; the rest is counted."""
MAX_WAITERS = 100
"""The most tasks named that wait at one queue; `Stats` counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue that is observed."""

    number: int
    """Given when first seen, and to no other queue of this process ever."""
    stats: Stats
    kind: str
    """Its class."""
    unfinished: int
    """What join() waits for: items put and not yet told of by task_done()."""
    shut_down: bool
    getters: tuple[int, ...]
    """The asyncio tasks blocked in get()."""
    putters: tuple[int, ...]
    """Those blocked in put() because it is full."""
    jobs: tuple[JobInfo, ...]
    """Its open jobs, the oldest first; none where nobody listens, so that jobs are only counted."""
    jobs_total: int


def queue_infos(jobs: OpenJobs, waiters: Waiters) -> tuple[QueueInfo, ...]:
    """Return what is shown of the first MAX_QUEUES queues."""
    found = []
    for ledger in jobs.ledgers[:MAX_QUEUES]:
        try:
            found.append(_info(ledger, jobs, waiters))
        except Exception:  # a container or a clock of somebody's own may answer in any way; the other queues matter
            continue
    return tuple(found)


def _info(ledger: Any, jobs: OpenJobs, waiters: Waiters) -> QueueInfo:
    queue = ledger.queue()
    open_jobs = tuple(ledger.open)

    def waiting(name: str) -> tuple[int, ...]:
        futures = tuple(getattr(queue, name, ()))
        found = itertools.chain.from_iterable(waiters.direct(future) for future in futures)
        return tuple(itertools.islice(found, MAX_WAITERS))

    return QueueInfo(
        number=seen_queues.see(ledger, 0.0)[0],
        stats=stats_of(ledger),
        kind=type(queue).__qualname__,
        unfinished=int(getattr(queue, "_unfinished_tasks", 0)),
        shut_down=bool(getattr(queue, "_is_shutdown", False)),
        getters=waiting("_getters"),
        putters=waiting("_putters"),
        jobs=jobs.infos(open_jobs),
        jobs_total=len(open_jobs),
    )
