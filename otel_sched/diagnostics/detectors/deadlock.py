"""Floor 5: consumers that all wait to put into full queues which only they empty: one queue, or a ring of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ..._core.census import ledgers
from ..._core.finding import FindingKind
from .scene import Detector, Found, Scene, found
from .seat import waiting_tasks
from .steady import Steady
from .trail import trail
from .words import listed

Blocked = Mapping[int, Iterable[frozenset[int] | None]]


def deadlocked(blocked: Blocked) -> list[frozenset[int]]:
    """Return the sets of full queues that can never get room again, each with those that hang on it.

    Args:
        blocked: For each full queue, what each of its consumers is blocked by: the full queues one of which must get
            room first, or None for a consumer that can go on.

    A queue is stuck if it has consumers and all of them wait for room in stuck queues only; the largest set of which
    that is true is what is left when all others are taken away.
    """
    given = {queue: list(consumers) for queue, consumers in blocked.items()}
    hangs_on: dict[int, list[int]] = defaultdict(list)
    """For each queue, those whose consumers can go on when it gets room."""
    free = []
    for queue, consumers in given.items():
        if not consumers or any(not queues or not queues <= given.keys() for queues in consumers):
            free.append(queue)
        for other in frozenset().union(*(queues or () for queues in consumers)):
            hangs_on[other].append(queue)
    stuck = set(given)
    while free:
        queue = free.pop()
        if queue in stuck:
            stuck.remove(queue)
            free += hangs_on[queue]
    return _parts({queue: {other for queues in given[queue] for other in queues or ()} for queue in stuck})


def _parts(graph: Mapping[int, set[int]]) -> list[frozenset[int]]:
    """Split a graph into the parts that hang together."""
    both: dict[int, set[int]] = defaultdict(set)
    for queue, others in graph.items():
        both[queue] |= others
        for other in others:
            both[other].add(queue)
    parts = []
    while both:
        part, reached = set(), {next(iter(both))}
        while reached:
            queue = reached.pop()
            part.add(queue)
            reached |= both.pop(queue, set()) - part
        parts.append(frozenset(part))
    return parts


class DeadlockDetector(Detector):
    """Tells of a deadlock when nothing has moved in its queues for *patience* seconds; once, until something moves."""

    def __init__(self, patience: float) -> None:
        self._steady = Steady(patience)

    def end(self, scene: Scene) -> list[Found]:
        """Look at who blocks whom, when all tasks were looked at."""
        sure = {queue: consumers for queue, consumers in scene.blocked.items() if consumers}
        if not sure:
            return []
        books = {id(ledger): ledger for ledger in ledgers() if id(ledger) in sure}
        for queue in [queue for queue in sure if queue not in books or _unclear(scene, books[queue])]:
            del sure[queue]
        result = []
        for part in deadlocked(sure):
            members = sorted((books[queue] for queue in part), key=lambda ledger: (ledger.name, id(ledger)))
            state = tuple((id(each), each.put, sum(one.taken for one in each.all_series.values())) for each in members)
            seconds = self._steady.holds(members[0], (state, [len(sure[queue]) for queue in sorted(part)]), scene.now)
            held = None if seconds is None else scene.allowed(FindingKind.DEADLOCK, members[0].name, "")
            if seconds is not None and held is not None:
                result.append(_told(members, scene, seconds, held))
        return result


def _unclear(scene: Scene, ledger: Any) -> bool:
    """Say whether somebody may take from a queue of whom nothing is known."""
    follower = scene.follower(ledger)
    return follower is None or follower.unclear(ledger) > 0


def _told(members: list[Any], scene: Scene, seconds: float, held: int) -> Found:
    names = [repr(each.name) for each in members]
    consumers = sum(len(scene.blocked[id(each)]) for each in members)
    first = members[0].queue()
    tasks = [] if first is None else waiting_tasks(first._putters)
    known = {ref() for ref in scene.takers[id(members[0])]}
    task = next((each for each in tasks if each in known), tasks[0] if tasks else None)
    place, stack = trail(task)
    if len(members) == 1:
        what = (
            f"Queue {names[0]} is full ({members[0].capacity}), and "
            + ("its only consumer waits" if consumers == 1 else f"all of its {consumers} consumers wait")
            + " to put into it "
            + ("itself" if consumers == 1 else "themselves")
            + ", so that nobody takes from it"
        )
    else:
        what = (
            f"Queues {listed(names, ', ')} are full, and all of their {consumers} consumers wait to put into one of "
            "them, so that nobody takes from any"
        )
    sentence = (
        f"Deadlock: {what}; nothing has moved for {seconds:.3g} s. "
        + (f"{'It' if consumers == 1 else 'One'} waits in {place}. " if place else "")
        + "Only a task that has never taken from "
        + ("it" if len(members) == 1 else "them")
        + " could end this. "
        + "Make the queue unbounded (a larger one is full later), use put_nowait() and handle QueueFull, or let other "
        "tasks put what a consumer hands on."
    )
    facts: dict[str, str | int | float | bool] = {
        "queues": ", ".join(each.name for each in members),
        "consumers": consumers,
        "for": seconds,
    }
    return found(FindingKind.DEADLOCK, sentence, queue=members[0].name, held=held, facts=facts, stack=stack, level=40)
