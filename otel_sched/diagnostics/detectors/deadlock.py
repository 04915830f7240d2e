"""Floor 5: consumers that all wait to put into full queues which only they empty: one queue, or a ring of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..._core.census import ledgers
from ..._core.finding import FindingKind
from .scene import Detector, Found, Scene, found
from .seat import waiting_tasks
from .steady import Steady
from .trail import trail

NAMED = 3
"""How many queues and tasks a sentence names before it counts them."""

Blocked = Mapping[int, Iterable[frozenset[int] | None]]


def deadlocked(blocked: Blocked) -> list[frozenset[int]]:
    """Return the sets of full queues that can never get room again, each with those that hang on it.

    Args:
        blocked: For each full queue, what each of its consumers is blocked by: the full queues one of which must get
            room first, or None for a consumer that can go on.

    A queue is stuck if it has consumers and all of them wait for room in stuck queues only; the largest set of which
    that is true is what is left when all others are taken away.
    """
    stuck = {queue: list(consumers) for queue, consumers in blocked.items()}
    while True:
        free = [queue for queue, consumers in stuck.items() if not _all_stuck(consumers, stuck)]
        if not free:
            break
        for queue in free:
            del stuck[queue]
    return _parts({queue: frozenset().union(*_given(consumers)) for queue, consumers in stuck.items()})


def _all_stuck(consumers: list[frozenset[int] | None], stuck: Mapping[int, Any]) -> bool:
    return bool(consumers) and all(queues and stuck.keys() >= queues for queues in consumers)


def _given(consumers: Iterable[frozenset[int] | None]) -> list[frozenset[int]]:
    return [queues for queues in consumers if queues is not None]


def _parts(graph: Mapping[int, frozenset[int]]) -> list[frozenset[int]]:
    """Split a graph into the parts that hang together."""
    parts: list[set[int]] = []
    for queue, others in graph.items():
        touching = {queue, *others}
        apart = []
        for part in parts:
            if part & touching:
                touching |= part
            else:
                apart.append(part)
        parts = [*apart, touching]
    return [frozenset(part) for part in parts]


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
            f"Queue {names[0]} is full ({members[0].capacity}), and all of its {consumers} consumers wait to put into "
            "it themselves, so that nobody takes from it"
        )
    else:
        ring = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        what = (
            f"Queues {ring} are full, and all of their {consumers} consumers wait to put into one of them, so that "
            "nobody takes from any"
        )
    sentence = (
        f"Deadlock: {what}; nothing has moved for {seconds:.3g} s. "
        + (f"One waits in {place}. " if place else "")
        + "Make the queue unbounded (a larger one is full later), use put_nowait() and handle QueueFull, or let other "
        "tasks put what a consumer hands on."
    )
    facts: dict[str, str | int | float | bool] = {
        "queues": ", ".join(each.name for each in members),
        "consumers": consumers,
        "for": seconds,
    }
    return found(FindingKind.DEADLOCK, sentence, queue=members[0].name, held=held, facts=facts, stack=stack, level=40)
