"""Floor 5: jobs that were taken where their run could not be seen, until a call that `instrument` wraps claims one.

A call claims the job whose item it is given: one taken in the same context, or one that another asyncio task took
(`create_task(queue.get())`, `wait_for(queue.get(), t)` on Python 3.11) if its item can be referred to weakly. Numbers,
strings, tuples, lists and dictionaries cannot, and what cannot be known for sure is left unlinked.
"""

import weakref
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import SpanContext

from .._core.job import Job

MAX_UNCLAIMED = 1000

_here: ContextVar["Unclaimed | None"] = ContextVar("otel_sched_unclaimed", default=None)
_by_item: dict[int, "Unclaimed"] = {}


class Unclaimed:
    """What is remembered of such a job."""

    __slots__ = ("attempt", "claimed", "held", "item", "job_id", "key", "producer", "queue", "wait")

    def __init__(self, job: Job[Any], producer: SpanContext | None) -> None:
        self.key = id(job.item)
        self.producer = producer
        self.queue = job.queue
        self.job_id = job.id
        self.attempt = job.attempt
        self.wait = job.wait
        self.claimed = False
        self.held: Any = None
        """The item, where it cannot be referred to weakly: until it is claimed, done, or another is taken here."""
        self.item: weakref.ref[Any] | None = None

    def of(self, item: object) -> bool:
        """Say whether *item* is its item; the id alone may be that of a later object."""
        return self.key == id(item) and (self.held is item if self.item is None else self.item() is item)


def leave_unclaimed(job: Job[Any], producer: SpanContext | None) -> None:
    """Remember *job*, which was taken here and whose run nobody sees."""
    left = Unclaimed(job, producer)
    _here.set(left)
    try:
        key = left.key
        left.item = weakref.ref(job.item, lambda _: _by_item.pop(key, None))
    except TypeError:
        left.held = job.item
        return
    if len(_by_item) >= MAX_UNCLAIMED:
        _by_item.pop(next(iter(_by_item)), None)
    _by_item[left.key] = left


def claim(items: Iterable[Any]) -> Unclaimed | None:
    """Return, once, the job of one of *items*."""
    here = _here.get()
    for item in items:
        left = _by_item.pop(id(item), None)
        if left is not None and left.item is not None and left.item() is item and not left.claimed:
            left.claimed = True
            return left
        if here is not None and not here.claimed and here.of(item):
            here.claimed, here.held = True, None
            return here
    return None


def forget() -> None:
    """Let go of the job that was taken here last: it is done."""
    here = _here.get()
    if here is not None:
        _here.set(None)
        here.held = None
        if _by_item.get(here.key) is here:
            del _by_item[here.key]
