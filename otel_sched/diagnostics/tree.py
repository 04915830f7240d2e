"""Floor 5: asyncio tasks as a tree of who waits for whom, like ones together. Pure: it reads a dump's own values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .tasks import TaskInfo


@dataclass(slots=True)
class Node:
    """A task at its place in the tree."""

    number: int
    depth: int
    again: bool = False
    """Whether it stands in the tree already."""
    ring: bool = False
    """Whether it stands above this very place: it waits, by way of others, for itself."""
    like: tuple[int, ...] = ()
    """Others beside it that differ from it in nothing but name, age and job, and wait for no task."""


def nodes(tasks: Iterable[TaskInfo]) -> Iterator[Node]:
    """Yield *tasks* from the top: those that nobody waits for, each followed by those that it waits for.

    Tasks that wait for one another in a ring, so that none is at the top, come last. Tasks are looked at one by one and
    known by number from then on: ten thousand of them, held at once, are work for the garbage collector.
    """
    kinds: dict[Any, int] = {}
    kind_of: dict[int, int] = {}
    above: dict[int, tuple[int, ...]] = {}
    for task in tasks:
        kind_of[task.number] = kinds.setdefault(_likeness(task), len(kinds))
        if task.awaited_by:
            above[task.number] = task.awaited_by
    below: dict[int, list[int]] = {}
    for number, parents in above.items():
        for parent in parents:
            below.setdefault(parent, []).append(number)
    forest = _Forest(kind_of, below)
    yield from forest.walk([each for each in kind_of if not any(parent in kind_of for parent in above.get(each, ()))])
    for number in kind_of:
        if number not in forest.seen:
            yield from forest.walk([number])


class _Forest:
    """Who stands below whom, and who was written already."""

    def __init__(self, kind_of: dict[int, int], below: dict[int, list[int]]) -> None:
        self.seen: set[int] = set()
        self._kind_of = kind_of
        self._below = below

    def walk(self, tops: list[int]) -> Iterator[Node]:
        """Yield a tree without recursion: a chain of tasks may be longer than Python's stack."""
        path: list[int] = []
        left = list(reversed(self._grouped(tops, 0)))
        while left:
            node = left.pop()
            del path[node.depth :]
            node.again = node.number in self.seen
            node.ring = node.number in path
            yield node
            if node.again:
                continue
            self.seen.update((node.number, *node.like))
            path.append(node.number)
            left += reversed(self._grouped(self._below.get(node.number, []), node.depth + 1))

    def _grouped(self, numbers: list[int], depth: int) -> list[Node]:
        groups: dict[Any, list[int]] = {}
        for number in numbers:
            key = ("parent", number) if number in self._below else ("leaf", self._kind_of[number])
            groups.setdefault(key, []).append(number)
        return [Node(first, depth, like=tuple(others)) for first, *others in groups.values()]


_SHARED = frozenset({"lock", "semaphore", "barrier", "queue_get", "queue_put", "queue_join", "task"})
"""Kinds of waits where it matters for which one: futures and events are mostly one for each task."""


def _likeness(task: TaskInfo) -> Any:
    wait = task.wait
    what = None if wait is None else (wait.kind, wait.on if wait.kind in _SHARED else "", wait.held_by)
    stack = id(task.stack)  # like stacks of a dump are one object
    return task.coroutine, task.state, task.started, task.cancelling, what, stack
