"""Floor 5: somebody awaits join(), and what is unfinished can never be settled, or not by anybody who is known."""

import logging
from typing import Any, NamedTuple

from ..._core.finding import FindingKind
from ..._core.ledger import LEASED
from .following import Follower
from .lost_items import lost_without_doubt, lost_words
from .scene import Detector, Found, Scene, found
from .seat import task_words, waiting_tasks
from .steady import Steady
from .trail import timed, trail
from .words import counted, listed

LATE = 2
"""How many times as patient to be where nobody has ever taken anything: the consumers may be about to start."""


class Join(NamedTuple):
    """What is known of a queue that somebody joins; numbers of items."""

    unfinished: int
    """For which task_done() is still to come."""
    waiting: int
    """In the queue."""
    open: int
    """Taken, and their consumer still has them."""
    unclear: int
    """At most so many more were taken by somebody of whom nothing is known."""
    active: int
    """Of the open ones, those whose consumer is at work and may call task_done()."""
    takers: int
    """Consumers that are known and alive."""
    taken: int
    """So far."""


def why_stuck(join: Join) -> str:
    """Return why a join() does not return, in a word, or "" where it will as far as is known.

    "lost": more is unfinished than waits, is worked on, or may be. "idle": all that was taken is held by consumers that
    wait for more. "nobody": items wait and no consumer is left. "never": nor was there ever one.
    """
    if join.unfinished <= 0:
        return ""
    if join.unfinished > join.waiting + join.open + join.unclear:
        return "lost"
    if join.active or join.unclear:
        return ""
    if join.open and not join.waiting:
        return "idle"
    if join.waiting and not join.takers and not join.open:
        return "nobody" if join.taken else "never"
    return ""


class StuckJoin(Detector):
    """Tells of a join() that was stuck for *patience* seconds, once, until it is no longer."""

    def __init__(self, patience: float) -> None:
        self._steady = Steady(patience)

    def queue(self, scene: Scene, ledger: Any) -> list[Found]:
        """Look at one queue."""
        queue, follower = ledger.queue(), scene.follower(ledger)
        waiters = getattr(getattr(queue, "_finished", None), "_waiters", ())
        joiners = waiting_tasks(waiters)
        if not joiners or follower is None or follower.elsewhere:
            self._steady.over(ledger)
            return []
        join = _join(scene, ledger, queue, follower)
        why = why_stuck(join)
        if not why:
            self._steady.over(ledger)
            return []
        moved = () if why == "lost" else (ledger.put, join.taken, join.unfinished)
        seconds = self._steady.holds(ledger, (why, moved), scene.now, LATE if why == "never" else 1)
        held = None if seconds is None else scene.allowed(FindingKind.STUCK_JOIN, ledger.name, why)
        if seconds is None or held is None:
            return []
        place, stack = trail(joiners[0])
        certain = why == "lost" and not join.unclear and lost_without_doubt(follower)
        sentence = (
            f"join() of queue {ledger.name!r} {'cannot finish' if certain else 'does not return'} (awaited by "
            f"{listed([task_words(task) for task in joiners], ', ')}{f', at {place}' if place else ''}): "
            + _because(why, join, scene, ledger, follower)
        )
        facts: dict[str, str | int | float | bool] = {"reason": why, "joiners": len(joiners), "for": seconds}
        facts |= {key: value for key, value in join._asdict().items() if key != "taken"}
        level = logging.ERROR if certain else logging.WARNING
        kind = FindingKind.STUCK_JOIN
        return [found(kind, sentence, queue=ledger.name, held=held, facts=facts, stack=stack, level=level)]


def _join(scene: Scene, ledger: Any, queue: Any, follower: Follower) -> Join:
    return Join(
        unfinished=queue._unfinished_tasks,
        waiting=queue.qsize(),
        open=len(ledger.open),
        unclear=follower.unclear(ledger),
        active=1 if _any_at_work(scene, ledger, queue) else 0,
        takers=sum(_alive(ref) for ref in scene.takers.get(id(ledger), ())) + len(queue._getters),
        taken=sum(series.taken for series in tuple(ledger.all_series.values())),
    )


def _alive(ref: Any) -> bool:
    task = ref()
    return task is not None and not task.done()


def _any_at_work(scene: Scene, ledger: Any, queue: Any) -> bool:
    """Say whether one of those who hold a job is not just waiting for the next."""
    getters = {id(future) for future in queue._getters}
    for job in ledger.open:
        tasks = scene.working_on(job) or _owner(job)
        if not tasks and job.owner is LEASED:  # by a broker's take(): whoever called that
            return True
        for task in tasks:
            if id(getattr(task, "_fut_waiter", None)) not in getters or timed(task):
                return True
    return False


def _owner(job: Any) -> list[Any]:
    owner = getattr(job.owner, "task", None)
    task = owner() if callable(owner) else None
    return [] if task is None else [task]


def _because(why: str, join: Join, scene: Scene, ledger: Any, follower: Follower) -> str:
    items = counted(join.waiting, "item") + (" waits" if join.waiting == 1 else " wait")
    if why == "never":
        return (
            f"{items} in it, and nobody has taken any so far. Start consumers before join() is awaited: it only waits "
            "for them."
        )
    if why == "nobody":
        ends = follower.ends.words()
        return (
            f"{items} in it, and nobody takes from it now. "
            + (f"Of its consumers, {listed(ends)}. " if ends else "")
            + "Unless another one is about to come, start one; and catch what one item raises."
        )
    if why == "idle":
        return _idle_words(join.open, ledger)
    takers = [task_words(task) for ref in scene.takers.get(id(ledger), ()) if (task := ref()) is not None]
    left = join.waiting if not join.takers and not join.unclear else 0
    lost = join.unfinished - join.waiting - join.open - join.unclear
    return lost_words(lost, join.unfinished, left, takers, ledger, follower)


def _idle_words(number: int, ledger: Any) -> str:
    who: dict[str, int] = {}
    for job in ledger.open:
        for task in _owner(job):
            who[task_words(task)] = who.get(task_words(task), 0) + 1
    taken = counted(number, "item") + (" was taken and has" if number == 1 else " were taken and have")
    return (
        f"{taken} had no task_done() so far; those who took them wait for more: "
        f"{listed([f'{task} has {count}' for task, count in who.items()])}. Call task_done() in a `finally:` round the "
        "work on each item; where a thread, or another task, does that work, there."
    )
