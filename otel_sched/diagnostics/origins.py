"""Floor 5: the job that an asyncio task was started in and outlives, as far as it can be known."""

import weakref
from typing import Any, NamedTuple

from .._core.consumer import _context_of
from .._core.ledger import current
from .detectors.origin import Origins
from .detectors.seat import seat_of

knowing: "weakref.WeakKeyDictionary[Any, Origins]" = weakref.WeakKeyDictionary()
"""Who remembers the jobs of an event loop that have ended, by the loop: detectors do."""


class Origin(NamedTuple):
    """What is left of a job."""

    queue: str
    """Empty where nothing is known but that there was one."""
    name: str
    """Of the function that worked on it; empty where it is not known."""
    id: str
    """Likewise."""


def origin_of(task: Any) -> tuple[str, str, str] | None:
    """Return queue, function and id of the job that *task* was started in, if that has ended; from any thread."""
    ref = _context_of(task).get(current)
    if ref is None:
        return None
    job = ref()
    if job is not None and job.outcome is None:
        return None
    seat = seat_of(task)
    if seat is None or seat.takes:
        return None
    found = (knowing.get(task.get_loop()) or Origins()).of(seat)
    return found.queue, found.job, found.id
