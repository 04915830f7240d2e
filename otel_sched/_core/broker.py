"""Floor 2: what a pool needs of a queue, local or on another machine: three verbs."""

from typing import Protocol, TypeVar

from .job import CancelReason, Job, Outcome
from .ledger import Ledger, Series

T = TypeVar("T")


class Broker(Protocol[T]):
    """A source of jobs. `otel_sched.Queue` is one; a pool cannot tell it from another."""

    @property
    def ledger(self) -> Ledger:
        """The books: name, options, counts."""
        ...

    async def put(self, item: T, /) -> None:
        """Queue *item*; wait while there is no room."""
        ...

    async def take(self, series: Series, /) -> Job[T]:
        """Wait for the next job and lease it to the calling asyncio task, counted under *series*.

        Raises QueueShutDown when there will never be another.
        """
        ...

    def settle(
        self,
        job: Job[T],
        outcome: Outcome,
        error: BaseException | None = None,
        reason: CancelReason | None = None,
        /,
    ) -> None:
        """End a leased job; a second call for the same job does nothing."""
        ...

    async def join(self) -> None:
        """Return when every job ever put is settled."""
        ...
