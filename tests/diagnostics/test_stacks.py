"""Stacks: from a task through everything that can stand between it and what it waits for."""

import asyncio
import re
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_sched import Queue, WorkerPool
from otel_sched.diagnostics import Dump, dump_tasks
from otel_sched.diagnostics.detectors.trail import trail
from otel_sched.diagnostics.stacks import MAX_FRAMES
from otel_sched.diagnostics.tasks import TaskInfo
from otel_sched.testing import run
from tests.conftest import ARun

Step = Callable[[asyncio.Event], Awaitable[object]]


async def innermost(event: asyncio.Event) -> None:
    await event.wait()


class Awaitable_:
    def __init__(self, event: asyncio.Event) -> None:
        self.event = event

    def __await__(self) -> Generator[Any, None, None]:
        return innermost(self.event).__await__()


async def through_an_object(event: asyncio.Event) -> None:
    await Awaitable_(event)


def a_generator(event: asyncio.Event) -> Generator[Any, None, None]:
    yield from innermost(event).__await__()


@types.coroutine
def an_old_coroutine(event: asyncio.Event) -> Generator[Any, None, None]:
    yield from a_generator(event)


async def through_generators(event: asyncio.Event) -> None:
    await an_old_coroutine(event)


async def items(event: asyncio.Event) -> AsyncIterator[int]:
    await innermost(event)
    yield 1


async def through_async_for(event: asyncio.Event) -> None:
    async for _ in items(event):
        pass


async def through_anext(event: asyncio.Event) -> None:
    await anext(items(event), None)


async def ends_late(event: asyncio.Event) -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await innermost(event)


async def through_aclose(event: asyncio.Event) -> None:
    values: Any = ends_late(event)
    await anext(values)
    await values.aclose()


@asynccontextmanager
async def opened(event: asyncio.Event) -> AsyncIterator[None]:
    await innermost(event)
    yield


async def through_a_context_manager(event: asyncio.Event) -> None:
    async with opened(event):
        pass


def named(dump: Dump, name: str) -> TaskInfo:
    """Return the one task of a name."""
    assert dump.tasks is not None
    (found,) = [task for task in dump.tasks if task.name == name]
    return found


def functions(task: TaskInfo) -> list[str]:
    """Return the functions of its stack, without the classes and functions around them."""
    return [frame.function.rpartition(".")[2] for frame in task.stack.frames]


@pytest.mark.parametrize(
    ("step", "between"),
    [
        (innermost, []),
        (through_an_object, ["through_an_object"]),
        (through_generators, ["through_generators", "an_old_coroutine", "a_generator"]),
        (through_async_for, ["through_async_for", "items"]),
        (through_anext, ["through_anext", "items"]),
        (through_aclose, ["through_aclose", "ends_late"]),
        (through_a_context_manager, ["through_a_context_manager", "__aenter__", "opened"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_stack_goes_through_everything_awaited(
    arun: ARun, step: Callable[[asyncio.Event], Coroutine[Any, Any, None]], between: list[str]
) -> None:
    """Coroutines, generators, async generators and objects with __await__: down to the last line."""

    async def main() -> TaskInfo:
        event = asyncio.Event()
        task = asyncio.create_task(step(event), name="waits")
        await asyncio.sleep(0)
        found = named(dump_tasks(), "waits")
        event.set()
        await task
        return found

    task = arun(main())
    assert functions(task) == [*between, "innermost", "wait"]
    innermost_of_ours = task.stack.frames[len(between)]
    assert innermost_of_ours.file == __file__
    assert innermost_of_ours.line == innermost.__code__.co_firstlineno + 1


def test_the_running_task_shows_its_calls_and_not_ours(arun: ARun) -> None:
    """Plain functions stand in it too, up to the call of the dump."""

    def asks() -> Dump:
        return dump_tasks()

    async def inside() -> Dump:
        return asks()

    async def main() -> TaskInfo:
        return named(await asyncio.create_task(inside(), name="asks"), "asks")

    task = arun(main())
    assert task.state == "running"
    assert functions(task) == ["inside", "asks"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks before")
def test_an_eager_task_is_seen_before_its_first_wait() -> None:
    """It runs inside its parent's step, and the parent's own stack leads to it."""

    async def asks() -> Dump:
        return dump_tasks()

    async def main() -> Dump:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.create_task(asks())

    found = run(main()).tasks
    assert found is not None
    (task,) = [task for task in found if task.coroutine.endswith("asks")]
    assert task.state == "running"
    assert functions(task) == ["asks"]


def test_a_task_that_has_not_begun_says_so() -> None:
    """It is ready, in its first line, and waits for nothing."""

    async def main() -> TaskInfo:
        task = asyncio.create_task(innermost(asyncio.Event()), name="new")
        found = named(dump_tasks(), "new")
        task.cancel()
        return found

    task = run(main())
    assert (task.state, task.started, task.wait) == ("ready", False, None)
    assert functions(task) == ["innermost"]


def test_a_handler_in_its_producers_context_is_seen() -> None:
    """A pool drives such a handler by hand, which no attribute of a coroutine tells."""

    async def main() -> TaskInfo:
        event = asyncio.Event()
        orders = Queue[asyncio.Event](name="orders", carry="context")
        async with WorkerPool(orders, innermost, workers=1, name="worker"):
            await orders.put(event)
            await asyncio.sleep(1)
            found = named(dump_tasks(), "worker-0")
            event.set()
        return found

    assert functions(run(main()))[-2:] == ["innermost", "wait"]


def test_a_deep_stack_keeps_its_ends() -> None:
    """What is left out in the middle is counted."""

    async def deeper(event: asyncio.Event, left: int) -> None:
        await (deeper(event, left - 1) if left else innermost(event))

    async def main() -> Dump:
        task = asyncio.create_task(deeper(asyncio.Event(), 300), name="deep")
        await asyncio.sleep(0)
        found = dump_tasks()
        task.cancel()
        return found

    found = run(main())
    task = named(found, "deep")
    assert len(task.stack.frames) == MAX_FRAMES
    assert task.stack.omitted == 301 + 2 - MAX_FRAMES
    assert functions(task)[0] == "deeper"
    assert functions(task)[-1] == "wait"
    assert f"... {task.stack.omitted} more" in found.text()


class Client:
    async def send(self, over: asyncio.Event) -> None:
        """Wait in a method."""
        await over.wait()


def test_dumps_and_findings_name_a_function_alike() -> None:
    """By its class, and without the functions that it was defined in."""

    async def main() -> tuple[list[str], str, str]:
        async def inner() -> None:
            await Client().send(asyncio.Event())

        task = asyncio.create_task(inner(), name="sends")
        await asyncio.sleep(0)
        tasks = dump_tasks().tasks
        assert tasks is not None
        (shown,) = [each for each in tasks if each.name == "sends"]
        told = trail(task)[1]
        task.cancel()
        return [frame.function for frame in shown.stack.frames], told, shown.coroutine

    functions, told, coroutine = asyncio.run(main())
    assert functions == ["inner", "Client.send", "Event.wait"]
    assert re.findall(r"^  File .*, in (.*)$", told, re.MULTILINE) == functions
    assert coroutine == "inner"
