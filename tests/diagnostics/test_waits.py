"""What a task waits for, and who waits for whom."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_sched import Queue, watch
from otel_sched.diagnostics import Dump, dump_tasks, dump_tasks_async
from otel_sched.diagnostics.tasks import TaskInfo
from otel_sched.testing import run, wait_until
from tests.conftest import ARun


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Let tasks `a`, `b`, ... run until each waits; cancel them at the end."""
    tasks = [asyncio.create_task(each, name=chr(97 + n)) for n, each in enumerate(coroutines)]
    for _ in range(5):
        await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def by_name(dump: Dump) -> dict[str, TaskInfo]:
    """Return the tasks of a dump by name."""
    assert dump.tasks is not None
    return {task.name: task for task in dump.tasks}


def names(dump: Dump, numbers: tuple[int, ...]) -> set[str]:
    """Return the names of tasks."""
    return {task.name for task in by_name(dump).values() if task.number in numbers}


async def condition() -> None:
    waited = asyncio.Condition()
    async with waited:
        await waited.wait()


async def reads() -> None:
    await asyncio.StreamReader().read(1)


async def joins() -> None:
    orders = Queue[int](name="orders")
    orders.put_nowait(1)
    await orders.join()


async def puts() -> None:
    orders = Queue[int](1, name="orders")
    orders.put_nowait(1)
    await orders.put(2)


async def gets_from_a_watched_queue() -> None:
    await watch(asyncio.Queue[int](), name="orders").get()


@pytest.mark.parametrize(
    ("waits", "kind", "on"),
    [
        (lambda: Queue[int](name="orders").get(), "queue_get", "orders"),
        (lambda: Queue[int](name="orders").take(), "queue_get", "orders"),
        (gets_from_a_watched_queue, "queue_get", "orders"),
        (lambda: asyncio.Queue[int]().get(), "queue_get", "Queue at 0x"),
        (puts, "queue_put", "orders"),
        (joins, "queue_join", "orders"),
        (lambda: asyncio.Event().wait(), "event", "Event at 0x"),
        (lambda: asyncio.Semaphore(0).acquire(), "semaphore", "Semaphore at 0x"),
        (lambda: asyncio.Barrier(2).wait(), "barrier", "Barrier at 0x"),
        (condition, "condition", "Condition at 0x"),
        (lambda: asyncio.sleep(12.5), "sleep", "12.5 s"),
        (reads, "stream", "StreamReader at 0x"),
        (lambda: asyncio.wait_for(asyncio.Event().wait(), 60), None, ""),
    ],
)
def test_a_wait_has_a_kind_and_a_name(
    arun: ARun, waits: Callable[[], Coroutine[Any, Any, Any]], kind: str | None, on: str
) -> None:
    """What asyncio and this library wait in is known, through whatever stands between."""

    async def main() -> TaskInfo:
        async with running(waits()):
            return by_name(dump_tasks())["a"]

    wait = arun(main()).wait
    assert wait is not None
    if kind is None:  # in another task on 3.11, else in this one
        assert wait.kind in ("event", "tasks")
    else:
        assert wait.kind == kind
    assert wait.on.startswith(on)


def test_a_plain_future_is_shown_by_its_address() -> None:
    """Nothing more is known; the stack says where."""

    async def main() -> TaskInfo:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        async with running(waits()):
            return by_name(dump_tasks())["a"]

    wait = run(main()).wait
    assert wait is not None
    assert wait.kind == "future"


async def gathers(*children: Coroutine[Any, Any, Any]) -> None:
    await asyncio.gather(*children)


async def shields(*children: Coroutine[Any, Any, Any]) -> None:
    await asyncio.shield(asyncio.gather(*children))


async def waits_for_all(*children: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait([asyncio.ensure_future(each) for each in children])


async def as_completed(*children: Coroutine[Any, Any, Any]) -> None:
    for each in asyncio.as_completed(children):
        await each


async def groups(*children: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in children:
            group.create_task(each)


async def times_out(*children: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(asyncio.gather(*children), 3600)


@pytest.mark.parametrize("waits", [gathers, shields, waits_for_all, as_completed, groups, times_out])
def test_children_are_known_however_they_are_awaited(
    arun: ARun, waits: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    """The parent lists them, they list the parent, and the parent waits for nothing else."""

    async def main() -> Dump:
        async with running(waits(asyncio.sleep(3600), asyncio.sleep(3600))):
            return dump_tasks()

    found = arun(main())
    assert found.tasks is not None
    parent = by_name(found)["a"]
    children = [task for task in found.tasks if task.number in parent.awaits]
    assert [child.coroutine for child in children] == ["sleep", "sleep"]
    assert parent.awaits_total == 2
    assert [child.awaited_by for child in children] == [(parent.number,)] * 2
    assert parent.wait is not None
    assert (parent.wait.kind, parent.wait.on) == ("tasks", "2 tasks")


def test_a_task_group_owns_its_children_before_it_waits_for_them() -> None:
    """Inside the block the parent waits for something else, and they are its children still."""

    async def parent() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600), name="child")
            await asyncio.Event().wait()

    async def main() -> Dump:
        async with running(parent()):
            return dump_tasks()

    found = run(main())
    tasks = by_name(found)
    assert tasks["child"].awaited_by == (tasks["a"].number,)
    assert tasks["a"].wait is not None
    assert tasks["a"].wait.kind == "event"


def test_a_task_that_is_awaited_itself_is_named() -> None:
    """Which is the commonest of all."""

    async def main() -> Dump:
        async def waits() -> None:
            await child

        child = asyncio.create_task(asyncio.sleep(3600), name="child")
        async with running(waits(), waits()):
            found = dump_tasks()
        return found

    found = run(main())
    child, parent = by_name(found)["child"], by_name(found)["a"]
    assert names(found, child.awaited_by) == {"a", "b"}
    assert parent.wait is not None
    assert (parent.wait.kind, parent.wait.on) == ("task", f"task {child.number}")


def test_an_applications_callbacks_make_nobody_wait() -> None:
    """That a callback refers to a future does not say that this waits for that."""

    async def main() -> Dump:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        async def works() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(lambda _: future.done())
            await asyncio.Event().wait()

        async with running(waits(), works()):
            return dump_tasks()

    assert by_name(run(main()))["a"].awaits == ()


async def inside(lock: Any, then: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async with lock:
        await then()


def forever() -> Coroutine[Any, Any, Any]:
    return asyncio.Event().wait()


@pytest.mark.parametrize("make", [asyncio.Lock, asyncio.Semaphore, asyncio.Condition])
def test_who_holds_a_lock_is_known(arun: ARun, make: Callable[[], Any]) -> None:
    """The one inside `async with`, and none of those that wait to get in."""

    async def main() -> Dump:
        lock, other = make(), make()
        async with running(inside(lock, forever), inside(lock, forever), inside(lock, forever), inside(other, forever)):
            return dump_tasks()

    found = arun(main())
    tasks = by_name(found)
    for waiting in ("b", "c"):
        wait = tasks[waiting].wait
        assert wait is not None
        assert names(found, wait.held_by) == {"a"}
    assert f"held by task {tasks['a'].number}" in found.text()


def test_two_locks_taken_crosswise_are_seen() -> None:
    """Each task holds what the other waits for: the text is enough to find the deadlock."""

    async def main() -> Dump:
        one, two = asyncio.Lock(), asyncio.Lock()

        async def crosswise(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(0)
                async with second:
                    pass

        async with running(crosswise(one, two), crosswise(two, one)):
            return dump_tasks()

    found = run(main())
    held = {name: task.wait.held_by for name, task in by_name(found).items() if task.wait is not None}
    assert names(found, held["a"]) == {"b"}
    assert names(found, held["b"]) == {"a"}


def test_a_task_that_waits_for_a_lock_of_its_own_is_seen() -> None:
    """A lock is not re-entrant: who takes it twice waits for itself."""

    async def main() -> Dump:
        lock = asyncio.Lock()
        async with running(inside(lock, lambda: inside(lock, forever))):
            return dump_tasks()

    found = run(main())
    task = by_name(found)["a"]
    assert task.wait is not None
    assert task.wait.held_by == (task.number,)


def test_who_waits_for_a_condition_does_not_hold_its_lock() -> None:
    """It has let go of it; only another one inside holds it."""

    async def main() -> Dump:
        shared = asyncio.Condition()
        async with running(inside(shared, shared.wait), inside(shared, forever)):
            return dump_tasks()

    found = run(main())
    wait = by_name(found)["a"].wait
    assert wait is not None
    assert wait.kind == "condition"
    assert names(found, wait.held_by) == {"b"}


def test_a_call_in_a_thread_says_how_far_it_is(arun: ARun) -> None:
    """That no thread is free is what stands still in many a program."""

    async def main() -> tuple[Dump, set[str]]:
        asyncio.get_running_loop().set_default_executor(executor)
        begun, release = threading.Event(), threading.Event()

        def call() -> None:
            begun.set()
            release.wait(10)

        async with running(asyncio.to_thread(call), asyncio.to_thread(call)):
            await wait_until(begun.is_set)
            found = await dump_tasks_async()  # which needs none of the threads that are busy
            release.set()
        return found, {task.wait.on for task in by_name(found).values() if task.wait and task.coroutine == "to_thread"}

    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(1)
    _, said = arun(main())
    assert said == {"running", "not begun: no thread is free"}


def test_a_dump_keeps_nothing_alive() -> None:
    """Not a task, not what it waits for, not the values in its frames: neither the dump nor what it left behind."""

    class Thing:
        pass

    async def main() -> None:
        alive: list[weakref.ref[Any]] = []

        async def works(orders: Queue[Thing], event: asyncio.Event) -> None:
            thing = await orders.get()
            alive.append(weakref.ref(thing))
            await event.wait()
            del thing
            await orders.get()

        orders, event = Queue[Thing](name="orders"), asyncio.Event()
        orders.put_nowait(Thing())
        task = asyncio.create_task(works(orders, event))
        await asyncio.sleep(0)
        kept = [dump_tasks()]
        event.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        kept.append(dump_tasks())
        assert alive[0]() is None
        alive += [weakref.ref(task), weakref.ref(orders), weakref.ref(event)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        del task, orders, event
        gc.collect()
        assert [each() for each in alive] == [None] * 4
        assert len(kept) == 2

    run(main())
