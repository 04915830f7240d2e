"""Floor 3: what all drop-in queues share: asyncio's constructor with a name and the telemetry arguments."""

from collections.abc import Sequence
from math import ceil, isinf
from typing import TYPE_CHECKING, Any, TypeVar

from .blocking import Blocking, await_item
from .callsite import creation_name
from .clock import Clock, default_clock
from .ledger import Ledger
from .observed import FromLedger, Observed
from .observer import Observer
from .options import Carry, Correlation, Options, ProcessSpans, Settle, checked_maxsize, checked_name

T = TypeVar("T")


class DropIn(Observed[T], Blocking[T]):
    """asyncio's constructor and coroutines, with a name and the telemetry arguments."""

    if TYPE_CHECKING:
        name: str
    else:
        name = FromLedger(lambda ledger: ledger.name, "The name of its series on every dashboard.")

    def __init__(
        self,
        maxsize: int = 0,
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
    ) -> None:
        """Make a queue that holds at most *maxsize* items; any number when it is 0.

        Args:
            name: What dashboards call it. Queues of one name are one series. By default the place of its creation,
                such as `shop.orders`.
            settle: What ends a job that get() handed out: "task_done", the consumer's "next_get", or "auto", which
                finds out which kind of consumer this is.
            process_spans: Whether get() starts a span that is current in the consumer until the job ends: "auto"
                unless a recording span of somebody else is current there, "always", or "never".
            correlation: How a job's span relates to its producer's: "parent", "link" (a trace of its own), or
                "auto": parent if it starts within 10 s. The link is always there.
            producer_spans: Whether a put() inside a recording span gets a span of its own.
            carry: What else goes with a job: the producer's "baggage", current in the consumer while the job runs,
                or its whole "context", readable as `current_job().producer_context`, with the baggage.
            buckets: Upper bounds, in seconds, of this queue's wait and run histograms, in rising order.
            observer: Who is told of its jobs; by default OpenTelemetry through the global providers.
            clock: A function that returns monotonic seconds; in virtual time, by default, the loop's own.

        Raises TypeError or ValueError for a negative size, a name that is empty or no string, unknown option values.
        """
        options = Options(
            settle=settle,
            process_spans=process_spans,
            correlation=correlation,
            producer_spans=producer_spans,
            carry=carry,
            buckets=buckets,
        )
        self._otel_ledger = prepared(self, checked_maxsize(maxsize), name, options, clock, observer)
        super().__init__(maxsize)
        self._otel_observe(self._otel_ledger, observer)

    async def put(self, item: T) -> None:
        """Put *item* into the queue; wait for a free slot while it is full. Raises QueueShutDown after shutdown()."""
        if self.full():
            await self._otel_room()
        self.put_nowait(item)

    async def get(self) -> T:
        """Remove and return an item; wait while there is none. Raises QueueShutDown when there will be no more."""
        if self._otel_deliver is not None:
            self._otel_tracker.entering()
        if self.empty():
            await await_item(self)
        return self.get_nowait()


def prepared(
    queue: Any, maxsize: float, name: str | None, options: Options, clock: Clock | None, observer: Any
) -> Ledger:
    """Check what a queue was told and open its books."""
    name = creation_name(queue) if name is None else checked_name(name)
    if clock is not None and not callable(clock):
        raise TypeError(f"clock must be a function that returns seconds, got {clock!r}")
    if observer is not None and not isinstance(observer, Observer):
        raise TypeError(f"observer must be an otel_sched Observer, got {observer!r}")
    return Ledger(name, options, clock or default_clock(), None if not maxsize or isinf(maxsize) else ceil(maxsize))
