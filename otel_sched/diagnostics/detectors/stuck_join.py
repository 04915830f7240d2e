"""Floor 5: somebody awaits join(), and what is unfinished can never be settled."""

from typing import Any, NamedTuple

from ..._core.finding import FindingKind
from ..._core.job import DropReason
from ..._core.ledger import LEASED
from .following import Follower
from .scene import Detector, Found, Scene, found
from .seat import task_words, waiting_tasks
from .steady import Steady
from .trail import timed, trail

NAMED = 3
"""How many takes and tasks a sentence names before it counts them."""


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
    """Return why a join() can never return, in a word, or "" where it can as far as is known.

    "lost": more is unfinished than waits, is worked on, or may be. "idle": all that was taken is held by consumers that
    wait for more. "nobody": items wait and no consumer is left.
    """
    if join.unfinished <= 0:
        return ""
    if join.unfinished > join.waiting + join.open + join.unclear:
        return "lost"
    if join.active or join.unclear:
        return ""
    if join.open and not join.waiting:
        return "idle"
    if join.waiting and not join.takers and not join.open and join.taken:
        return "nobody"
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
        seconds = self._steady.holds(ledger, (why, moved), scene.now)
        held = None if seconds is None else scene.allowed(FindingKind.STUCK_JOIN, ledger.name, why)
        if held is None:
            return []
        place, stack = trail(joiners[0])
        who = ", ".join(task_words(task) for task in joiners[:NAMED])
        where = f", at {place}" if place else ""
        sentence = f"join() of queue {ledger.name!r} cannot finish (awaited by {who}{where}): "
        sentence += _because(why, join, scene, ledger, follower)
        facts: dict[str, str | int | float | bool] = {"reason": why, "joiners": len(joiners), "for": seconds or 0.0}
        facts |= {key: value for key, value in join._asdict().items() if key != "taken"}
        return [
            found(FindingKind.STUCK_JOIN, sentence, queue=ledger.name, held=held, facts=facts, stack=stack, level=40)
        ]


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
    advice = "Call task_done() in a `finally:` round the work on each item."
    if why == "nobody":
        return (
            f"{join.waiting} items wait in it and no consumer is left. Start consumers, and see what ended the last: "
            f"{_ends(follower) or 'nothing is known of it'}."
        )
    if why == "idle":
        who: dict[str, int] = {}
        for job in ledger.open:
            for task in _owner(job):
                who[task_words(task)] = who.get(task_words(task), 0) + 1
        return (
            f"{join.open} items were taken and never had a task_done(); those who took them wait for more: "
            f"{_listed([f'{task} has {count}' for task, count in who.items()])}. {advice}"
        )
    lost = join.unfinished - join.waiting - join.open - join.unclear
    cleared = ledger.dropped.get(DropReason.CLEARED.value, 0)
    ends = _ends(follower)
    takers = [task_words(task) for ref in scene.takers.get(id(ledger), ()) if (task := ref()) is not None]
    said = f"{lost} of {join.unfinished} unfinished items have left the queue and never had a task_done()"
    if ends:
        said += f"; taken by {ends}"
    elif takers:
        said += f"; its consumers: {_listed(takers)}"
    if cleared:
        said += f"; {cleared} items were removed through queue._queue, which needs a task_done() for each"
    if join.waiting and not join.takers and not join.unclear:
        said += f"; {join.waiting} more wait, and no consumer is left: catch what one item raises"
    return f"{said}. {advice}"


def _ends(follower: Follower) -> str:
    return _listed(
        [
            f"asyncio task {stray.task!r} ({stray.name}, job {stray.job}), which ended"
            + (f" with {stray.error}" if stray.error else "")
            for stray in follower.strays
        ]
    )


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return "; ".join(words[:NAMED]) + more
