"""The tree of who waits for whom, from a dump's own values."""

import asyncio
from collections.abc import Iterable

from otel_sched.diagnostics import dump_tasks
from otel_sched.diagnostics.stacks import Stack
from otel_sched.diagnostics.tasks import TaskInfo, TaskState
from otel_sched.diagnostics.text import MAX_INDENT
from otel_sched.diagnostics.tree import nodes
from otel_sched.testing import run

STACK = Stack()


def task(number: int, *awaited_by: int, coroutine: str = "work") -> TaskInfo:
    """Return a task that others wait for."""
    return TaskInfo(
        number=number,
        name=f"task-{number}",
        loop="loop-1",
        coroutine=coroutine,
        state=TaskState.READY,
        started=True,
        cancelling=0,
        age=0.0,
        wait=None,
        stack=STACK,
        jobs=(),
        jobs_total=0,
        awaits=(),
        awaits_total=0,
        awaited_by=awaited_by,
    )


def shape(tasks: Iterable[TaskInfo]) -> list[str]:
    """Return the tree as lines: depth, number, how many are like it, and whether it stands there again."""
    return [
        f"{'.' * node.depth}{node.number}"
        + (f"+{len(node.like)}" if node.like else "")
        + (" ring" if node.ring else " again" if node.again else "")
        for node in nodes(tasks)
    ]


def test_children_follow_their_parents() -> None:
    """From the top: those that nobody waits for."""
    assert shape([task(3, 2), task(1), task(2, 1), task(4, 1, coroutine="other")]) == ["1", ".2", "..3", ".4"]


def test_a_task_with_two_parents_is_shown_once() -> None:
    """And named at the other."""
    assert shape([task(1, coroutine="a"), task(2, coroutine="b"), task(3, 1, 2)]) == ["1", ".3", "2", ".3 again"]


def test_like_tasks_are_one_node() -> None:
    """Unless one has children of its own."""
    assert shape([task(each) for each in range(1, 6)] + [task(9, 3, coroutine="child")]) == ["1+3", "3", ".9"]


def test_a_ring_is_found_and_ends() -> None:
    """None of it is at the top, and it is said where it closes."""
    assert shape([task(1, 3), task(2, 1), task(3, 2)]) == ["1", ".2", "..3", "...1 ring"]


def test_a_task_that_waits_for_itself_is_a_ring() -> None:
    """As one that is in its own gather() does."""
    assert shape([task(1, 1)]) == ["1", ".1 ring"]


def test_a_parent_that_is_not_in_the_dump_hides_nobody() -> None:
    """It fell under the limit: its children are at the top."""
    assert shape([task(5, 4)]) == ["5"]


def test_a_long_chain_is_walked_and_indented_within_bounds() -> None:
    """Longer than Python's stack is deep."""

    async def main() -> str:
        async def follows(other: "asyncio.Task[None]") -> None:
            await other

        first = last = asyncio.create_task(asyncio.sleep(1))
        for _ in range(2000):
            last = asyncio.create_task(follows(last))
        await asyncio.sleep(0)
        text = dump_tasks(limit=5000).text()
        await asyncio.gather(first, last)
        return text

    lines = run(main()).splitlines()
    assert max(len(line) - len(line.lstrip()) for line in lines) <= 2 * (MAX_INDENT + 5)
    assert any("[depth 400]" in line for line in lines)
