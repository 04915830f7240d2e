"""Floor 5: what one look has found so far: who takes from which queue, who works on which job, who waits for room.

It holds ids and weak references only: between the steps of a look the program runs on, and may end.
"""

import asyncio
import logging
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..._core.finding import Finding, FindingKind, count
from ..._core.job import Job
from ..stacks import suspended
from ..waits import WaitKind, place
from .blocked import puts_into
from .following import Follower
from .history import History
from .origin import Origins
from .seat import Seat

WeakTask = Callable[[], asyncio.Task[Any] | None]
Found = tuple[Finding, Job[Any] | None]


class Knowledge(NamedTuple):
    """What detectors keep from one look to the next."""

    history: History
    origins: Origins
    takers: "weakref.WeakKeyDictionary[Any, tuple[weakref.ref[Any], ...]]"
    """The books of the queues that a task was ever seen to take from."""


class Scene:
    """One look at a loop."""

    def __init__(
        self,
        now: float,
        knowledge: Knowledge,
        followers: "Callable[[Any], Follower | None]",
        allow: Callable[[tuple[str, ...]], int | None],
    ) -> None:
        self.now = now
        """By the loop's clock, at the begin of the look."""
        self.knowledge = knowledge
        self.follower = followers
        """Returns what was noted of the jobs of a queue, for its ledger."""
        self.books: dict[str, list[Callable[[], Any]]] = defaultdict(list)
        """For each name, the ledgers of the queues that are called so, weakly."""
        self.getters: dict[int, weakref.ref[Any]] = {}
        """For the id() of each future that waits for an item: the ledger of the empty queue."""
        self.putters: dict[int, int] = {}
        """For the id() of each future that waits for room: the id() of the full queue's ledger."""
        self.blocked: dict[int, list[frozenset[int] | None]] = defaultdict(list)
        """For each full queue somebody waits to put into: what each of its takers is blocked by."""
        self.takers: dict[int, list[WeakTask]] = defaultdict(list)
        """For the id() of each ledger, who takes from its queue."""
        self.first: dict[Any, WeakTask] = {}
        """For the weak reference to each open job, a task that works on it."""
        self.others: dict[Any, list[WeakTask]] = defaultdict(list)
        """The others, where there are any."""
        self._allow = allow

    def see_queue(self, ledger: Any) -> None:
        """Note who waits for an item, or for room in a full queue."""
        queue, ref = ledger.queue(), weakref.ref(ledger)
        self.books[ledger.name].append(ref)
        if queue is None:
            return
        for future in queue._getters:
            self.getters[id(future)] = ref
        if ledger.capacity is not None and queue._putters and queue.full():
            self.blocked[id(ledger)] = []
            for future in queue._putters:
                self.putters[id(future)] = id(ledger)

    def waits_at(self, task: asyncio.Task[Any]) -> Any:
        """Return the ledger of the queue in whose get() *task* waits; None for one that waits elsewhere."""
        ref = self.getters.get(id(getattr(task, "_fut_waiter", None)))
        if ref is None or ref in self.knowledge.takers.get(task, ()):
            return None if ref is None else ref()
        # The future of the begin of the look may be gone, and its id() that of another: the frames know.
        found = place(*suspended(task.get_coro()))
        ledger = ref()
        waits = found is not None and found.kind is WaitKind.QUEUE_GET
        return ledger if waits and getattr(found.on, "_otel_ledger", None) is ledger else None  # type: ignore[union-attr]

    def see_task(self, seat: Seat) -> None:
        """Note what a task works on, takes from, and is blocked by."""
        task = seat.task
        if seat.job is not None and seat.job.outcome is None:
            job = weakref.ref(seat.job)  # the one that its context holds, not a new one
            if self.first.setdefault(job, seat.weak) is not seat.weak:
                self.others[job].append(seat.weak)
        if not seat.takes:
            self.knowledge.origins.see(seat)
            return
        for ledger in self._takes_from(seat):
            self.takers[id(ledger)].append(seat.weak)
            if id(ledger) in self.blocked:
                self.blocked[id(ledger)].append(puts_into(task, self.putters))

    def _takes_from(self, seat: Seat) -> Iterator[Any]:
        known = self.knowledge.takers.get(seat.task, ())
        new = tuple([ref for each in seat.ledgers() if (ref := weakref.ref(each)) not in known])
        if new:
            known = self.knowledge.takers[seat.task] = known + new
            for each in new:
                follower = self.follower(each())
                if follower is not None:
                    follower.ends.mind(seat.task)
        for each in known:
            ledger = each()
            if ledger is not None:
                yield ledger

    def working_on(self, job: Job[Any]) -> list[asyncio.Task[Any]]:
        """Return the live tasks that work on *job*, the one that took it first."""
        ref = weakref.ref(job)
        refs = [self.first[ref], *self.others.get(ref, ())] if ref in self.first else []
        tasks = [task for each in refs if (task := each()) is not None]
        owner = getattr(job.owner, "task", None)
        own = owner() if callable(owner) else None
        return sorted([task for task in tasks if not task.done()], key=lambda task: task is not own)

    def allowed(self, kind: FindingKind, queue: str, name: str) -> int | None:
        """Count a finding; return how many like it were held back, or None to hold this one back too."""
        count(kind, queue)
        return self._allow((kind.value, queue, name))


def found(
    kind: FindingKind,
    sentence: str,
    *,
    queue: str,
    held: int,
    facts: Mapping[str, str | int | float | bool],
    stack: str = "",
    job: Job[Any] | None = None,
    level: int = logging.WARNING,
) -> Found:
    """Return a finding, with the number of those like it that were held back."""
    more = f" ({held} more like it were not told.)" if held else ""
    said = {**facts, "held_back": held} if held else facts
    return Finding(kind=kind, sentence=sentence + more, level=level, queue=queue, stack=stack, facts=said), job


class Detector:
    """Looks for one kind of thing; every method is one step, after which the program may run."""

    def task(self, scene: Scene, seat: Seat) -> list[Found]:
        """Look at one task."""
        return []

    def queue(self, scene: Scene, ledger: Any) -> list[Found]:
        """Look at one queue, when all tasks were looked at."""
        return []

    def end(self, scene: Scene) -> list[Found]:
        """Look at all that was found."""
        return []
