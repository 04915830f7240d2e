"""Floor 4: watch(), for a queue object that exists and code that nobody may touch."""

from asyncio import Queue as AsyncioQueue  # by value: some programs put another class in its place
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from .clock import Clock
from .dropin import prepared
from .observed import Observed, SidecarObserved
from .observer import Observer
from .options import Carry, Correlation, Options, ProcessSpans, Settle

T = TypeVar("T")
Q = TypeVar("Q", bound=AsyncioQueue[Any])

_PUBLIC = ("ledger", "settle", "stats", "take")


class Watched(SidecarObserved[Any]):
    """What a watched queue's class has before its own."""

    __slots__ = ()

    async def put(self, item: Any) -> None:
        """Put *item* as the queue's own class does, and tell how long it was blocked."""
        put = super().put  # it may cease to be watched meanwhile
        if self.full():
            await self._otel_room()
        await put(item)

    async def get(self) -> Any:
        """Get an item as the queue's own class does."""
        if self._otel_deliver is not None:
            self._otel_tracker.entering()
        return await super().get()

    def shutdown(self, *args: Any, **kwargs: Any) -> Any:
        """Shut the queue down as its own class does: programs had a shutdown() of their own before asyncio."""
        return self._otel_shutdown(*args, **kwargs)


def watch(
    queue: AsyncioQueue[T],
    *,
    name: str | None = None,
    settle: Settle = "auto",
    process_spans: ProcessSpans = "auto",
    correlation: Correlation = "auto",
    producer_spans: bool = True,
    carry: Carry | None = None,
    buckets: Sequence[float] | None = None,
    observer: Observer | None = None,
    clock: Clock | None = None,
) -> Observed[T]:
    """Observe a queue that exists, as if it had been made as one of ours, and return it.

    It stays the same object of the same class in every respect but `type()`: its class becomes a subclass of its own,
    which `unwatch` takes back. What waits in it counts as put now. The arguments are those of `Queue`; without a
    *name* it is called after the place that calls this. Watching it again with the same name changes nothing.

    Raises TypeError for what is no asyncio.Queue, ValueError for one that is watched under another name.
    """
    if not isinstance(queue, AsyncioQueue):
        raise TypeError(f"watch() takes an asyncio.Queue, got {queue!r}")
    if "_otel_automatic" in vars(queue):  # the program knows better than what was done to it without asking
        unwatch(queue)
    if isinstance(queue, Observed):
        if name is not None and name != queue._otel_ledger.name:
            raise ValueError(
                f"this queue is observed already, as {queue._otel_ledger.name!r}; it cannot be {name!r} as well"
            )
        return queue
    options = Options(
        settle=settle,
        process_spans=process_spans,
        correlation=correlation,
        producer_spans=producer_spans,
        carry=carry,
        buckets=buckets,
    )
    ledger = prepared(queue, queue.maxsize, name, options, clock, observer)
    watched: Any = queue
    watched.__class__ = _watched_class(watched.__class__)
    watched._otel_ledger = ledger
    watched._otel_stand_by()
    watched._otel_observe(ledger, observer)
    return watched  # type: ignore[no-any-return]


def unwatch(queue: Q) -> Q:
    """Take back what `watch` did; jobs that are open end as unobserved. A queue that is not watched is left alone.

    Raises RuntimeError while a WorkerPool works on it.
    """
    if not isinstance(queue, Watched):
        return queue
    if queue._otel_ledger.limits:
        raise RuntimeError(f"a pool works on queue {queue._otel_ledger.name!r}: stop it before you unwatch the queue")
    watched: Any = queue
    watched._otel_tracker.let_go()
    watched.__class__ = type(queue).__bases__[1]
    for attribute in [each for each in vars(queue) if each.startswith("_otel_")]:
        delattr(queue, attribute)
    return queue


@lru_cache(maxsize=256)  # bounded, for a program may make classes without end
def _watched_class(cls: type[Any]) -> type[Any]:
    """Return the class of watched queues of *cls*: what *cls* itself defines under our public names wins."""
    body: dict[str, Any] = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    body |= {public: getattr(cls, public) for public in _PUBLIC if hasattr(cls, public)}
    if not hasattr(cls, "shutdown"):
        body["shutdown"] = property(_no_shutdown)
    return type(cls.__name__, (Watched, cls), body)


def _no_shutdown(queue: Any) -> None:
    """Say so where the queue's own class has no shutdown(): Python 3.11 and 3.12."""
    raise AttributeError(
        f"{type(queue).__name__!r} object has no attribute 'shutdown': asyncio has it from Python 3.13 on; "
        "otel_sched.Queue has it everywhere"
    )
