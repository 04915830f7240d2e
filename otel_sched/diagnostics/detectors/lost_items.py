"""Floor 5: items that have left their queue, that nobody has any more, and that join() waits for: in words."""

from typing import Any

from ..._core.job import DropReason
from .following import Follower, Stray
from .words import counted, listed


def lost_without_doubt(follower: Follower) -> bool:
    """Say whether none of those who ended with an item can have given it to somebody who settles it later.

    One that ended with an exception did not come so far.
    """
    return all(stray.error and not stray.cancelled for stray in follower.strays)


def lost_words(lost: int, unfinished: int, left: int, takers: list[str], ledger: Any, follower: Follower) -> str:
    """Return the sentence's second half.

    Args:
        lost: How many items.
        unfinished: Of how many that are unfinished.
        left: How many wait in the queue that nobody will take.
        takers: The consumers that are alive.
        ledger: The books of the queue.
        follower: What is noted of its jobs.
    """
    ends = [_ended(stray) for stray in follower.strays]
    cleared = ledger.dropped.get(DropReason.CLEARED.value, 0)
    said = f"{lost} of {counted(unfinished, 'unfinished item')} "
    said += "has left the queue" if lost == 1 else "have left the queue"
    said += " and never had a task_done()" if lost_without_doubt(follower) else " and had no task_done() so far"
    if ends:
        said += f"; taken by {listed(ends)}"
    elif takers:
        said += f"; its consumers: {listed(takers)}"
    if cleared:
        removed = counted(cleared, "item") + (" was" if cleared == 1 else " were")
        said += f"; {removed} removed through queue._queue, which needs a task_done() for each"
    if left:
        waits = "waits" if left == 1 else "wait"
        said += f"; {left} more {waits}, and no consumer is left: catch what one item raises"
    return f"{said}. Call task_done() in a `finally:` round the work on each item."


def _ended(stray: Stray) -> str:
    how = "was cancelled" if stray.cancelled else f"ended with {stray.error}" if stray.error else "has returned"
    return f"asyncio task {stray.task!r} ({stray.name}, job {stray.job}), which {how}"
