"""assert_no_leaked_jobs: what is left of jobs fails the test and is listed; what came to its end does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_sched import Observer, OtelObserver, Queue, WorkerPool, set_default_observer, watch
from otel_sched._core.observer import default_observer
from otel_sched.testing import InMemoryTelemetry, RecordingObserver, assert_no_leaked_jobs, run
from tests.conftest import ARun

Handle = Callable[[Any], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    """Let queues only count, as they do without an SDK."""
    before = default_observer()
    set_default_observer(OtelObserver())
    yield
    assert isinstance(default_observer(), OtelObserver), "what stood in has given way"
    set_default_observer(before)


@asynccontextmanager
async def worker(queue: Any, handle: Handle, *, done: bool = True) -> AsyncIterator[None]:
    """Have one consumer at work."""

    async def consume() -> None:
        while True:
            item = await queue.get()
            await handle(item)
            if done:
                queue.task_done()

    task = asyncio.create_task(consume(), name="worker-1")
    try:
        yield
    finally:
        task.cancel()


async def nothing(_: Any) -> None:
    """Handle an item."""


async def for_ever(_: Any) -> None:
    """Never come to an end."""
    await asyncio.get_running_loop().create_future()


def leaked(failure: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    """Return the lines of a failure that name something."""
    head, *lines = str(failure.value).splitlines()
    assert head == "jobs were leaked:"
    return lines


def test_jobs_that_all_end_leave_nothing(arun: ARun) -> None:
    """Handled, failed, cancelled; by consumers and by a pool."""

    async def fail(_: Any) -> None:
        raise ValueError

    async def main() -> None:
        async with assert_no_leaked_jobs():
            orders: Queue[int] = Queue(name="orders")
            async with worker(orders, nothing):
                for number in range(3):
                    orders.put_nowait(number)
                await orders.join()
            async with WorkerPool(orders, fail):
                orders.put_nowait(1)
            async with WorkerPool(orders, for_ever, grace=0.0) as pool:
                orders.put_nowait(1)
                while not pool.stats().busy:
                    await asyncio.sleep(0)

    arun(main())


def test_a_job_that_is_not_finished_is_named_with_its_task_and_line(arun: ARun) -> None:
    """Where it waits, in the code of the program and not in asyncio's."""

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders")
        async with worker(orders, for_ever), assert_no_leaked_jobs():
            orders.put_nowait(1)

    with pytest.raises(AssertionError) as failure:
        arun(main())
    (line,) = leaked(failure)
    at = for_ever.__code__.co_firstlineno + 2
    assert "of queue 'orders' (consume): taken for" in line
    assert f"asyncio task 'worker-1' (consume), which waits in for_ever() at {__file__}:{at}. Call task_done()" in line
    assert "if it is still being worked on, wait for that, or pass grace=" in line


def test_a_job_of_a_pool_is_named_too(arun: ARun) -> None:
    """With the asyncio task of the worker that has it."""

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders")
        async with WorkerPool(orders, for_ever, workers=1, name="till", grace=0.0), assert_no_leaked_jobs():
            orders.put_nowait(1)

    with pytest.raises(AssertionError) as failure:
        arun(main())
    (line,) = leaked(failure)
    assert "asyncio task 'till-0'" in line
    assert "for_ever() at" in line
    assert line.endswith(". It is still being worked on: wait for join(), or pass grace=")


def test_jobs_that_still_wait_are_counted(arun: ARun) -> None:
    """Unless they may wait: all, or those of a queue that is named."""

    async def main(**options: Any) -> None:
        async with assert_no_leaked_jobs(**options):
            orders: Queue[int] = Queue(name="orders")
            orders.put_nowait(1)
            orders.put_nowait(2)

    with pytest.raises(AssertionError) as failure:
        arun(main())
    assert leaked(failure) == ["  queue 'orders': 2 jobs still waiting, never taken"]
    with pytest.raises(AssertionError):
        arun(main(allow_waiting=["mails"]))
    arun(main(allow_waiting=["orders"]))
    arun(main(allow_waiting=True))


def test_what_was_there_before_is_not_counted(arun: ARun) -> None:
    """A queue of the whole program may have jobs of its own; those that come in meanwhile are counted."""

    async def main(more: int) -> None:
        orders: Queue[int] = Queue(name="orders")
        background = asyncio.create_task(asyncio.sleep(0), name="background")
        async with worker(orders, for_ever):
            orders.put_nowait(1)
            await asyncio.sleep(0)
            orders.put_nowait(2)
            async with assert_no_leaked_jobs():
                for number in range(more):
                    orders.put_nowait(number)
        await background

    arun(main(0))
    with pytest.raises(AssertionError, match="'orders': 1 job still waiting"):
        arun(main(1))


def test_an_asyncio_task_that_outlives_its_job_is_named(arun: ARun) -> None:
    """With the job that started it. One that is started between two jobs, or ends with its job, is no leak."""
    started: list[asyncio.Task[Any]] = []

    async def leaves_one(_: Any) -> None:
        started.append(asyncio.create_task(for_ever(0), name="left behind"))

    async def awaits_one(_: Any) -> None:
        await asyncio.create_task(nothing(0))

    async def main(handle: Handle) -> None:
        try:
            async with assert_no_leaked_jobs():
                orders: Queue[int] = Queue(name="orders")

                async def consume() -> None:
                    await handle(await orders.get())
                    orders.task_done()
                    started.append(asyncio.create_task(for_ever(0), name="between"))

                orders.put_nowait(1)
                await asyncio.create_task(consume())
        finally:
            for task in started:
                task.cancel()

    arun(main(awaits_one))
    with pytest.raises(AssertionError) as failure:
        arun(main(leaves_one))
    (line,) = leaked(failure)
    assert line.startswith("  asyncio task 'left behind' (for_ever), which waits in for_ever() at ")
    assert "was started in job " in line
    assert "of queue 'orders' (consume), which has ended" in line


def test_a_missing_task_done_is_told(arun: ARun) -> None:
    """join() would hang. A queue that says that its consumers never call it is left in peace."""

    async def main(**options: Any) -> None:
        orders: Queue[int] = Queue(name="orders", **options)
        async with worker(orders, nothing, done=False), assert_no_leaked_jobs():
            orders.put_nowait(1)

    with pytest.raises(AssertionError, match=r"gone on to the next get\(\) without task_done\(\)"):
        arun(main())
    arun(main(settle="next_get"))


def test_a_consumer_that_dies_without_a_task_done_is_told(arun: ARun) -> None:
    """Its job is over, but join() waits for ever."""

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders")
        async with assert_no_leaked_jobs(), worker(orders, for_ever):
            orders.put_nowait(1)
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match=r"join\(\) would not return: task_done\(\) is missing for 1 job"):
        arun(main())


def test_a_missing_task_done_of_a_job_that_nobody_saw_run_is_told(arun: ARun) -> None:
    """Its run has no asyncio task of its own, so that only join() shows it."""

    async def main(calls: int) -> None:
        async with assert_no_leaked_jobs():
            orders: Queue[int] = Queue(name="orders")
            for number in range(2):
                orders.put_nowait(number)
                await asyncio.create_task(orders.get())
            for _ in range(calls):
                orders.task_done()

    arun(main(2))
    with pytest.raises(AssertionError, match=r"join\(\) would not return: task_done\(\) is missing for 1 job"):
        arun(main(1))


@pytest.mark.parametrize("observer", ["nobody", "recorder", "telemetry"])
def test_queues_with_an_observer_of_their_own_are_looked_at_too(
    arun: ARun, observer: str, telemetry: InMemoryTelemetry
) -> None:
    """Whether it follows jobs or not; and it is told all the same."""
    recorder = RecordingObserver()
    known: dict[str, Observer] = {"nobody": Observer(), "recorder": recorder, "telemetry": telemetry.observer}

    async def main(handle: Handle, *, inside: bool) -> None:
        before = None if inside else Queue[int](name="orders", observer=known[observer])
        async with assert_no_leaked_jobs():
            orders = before or Queue[int](name="orders", observer=known[observer])
            async with worker(orders, handle):
                orders.put_nowait(1)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if handle is for_ever:
                    raise_if_left()

    def raise_if_left() -> None:
        raise LookupError

    for inside in (True, False):
        arun(main(nothing, inside=inside))
        with pytest.raises(LookupError):
            arun(main(for_ever, inside=inside))
    if observer == "recorder":
        assert recorder.outcomes() == {"ok": 2, "cancelled": 2}
    if observer == "telemetry":
        assert len(telemetry.spans.named("process orders").with_outcome("ok")) == 2


def test_a_queue_that_counts_only_still_tells_how_many_are_left(arun: ARun) -> None:
    """It was made inside, with an observer that follows nothing."""

    async def main() -> None:
        async with assert_no_leaked_jobs():
            orders: Queue[int] = Queue(name="orders", observer=Observer())
            orders.put_nowait(1)
            await orders.get()

    with pytest.raises(AssertionError, match="1 job taken and not finished"):
        arun(main())


def test_it_works_round_a_whole_run() -> None:
    """Without a loop, and although the queue is gone by then."""

    async def main(left: int) -> None:
        orders: Queue[int] = Queue(name="orders")
        for number in range(left):
            orders.put_nowait(number)

    with assert_no_leaked_jobs():
        run(main(0))
    gone = "'orders': 1 job still waiting when the queue itself was gone"
    with pytest.raises(AssertionError, match=gone), assert_no_leaked_jobs():
        run(main(1))


def test_watched_queues_are_looked_at(arun: ARun) -> None:
    """They are asyncio's own."""

    async def main() -> None:
        with assert_no_leaked_jobs():
            watch(asyncio.Queue(), name="watched").put_nowait(1)

    # The queue is gone when the block ends: what waited in it was lost.
    with pytest.raises(AssertionError, match="'watched': 1 job still waiting when"):
        arun(main())


def test_grace_waits_for_what_is_about_to_end() -> None:
    """Only `async with` can, for it lets the loop turn."""

    async def main(grace: float) -> None:
        async with assert_no_leaked_jobs(grace=grace):
            orders: Queue[int] = Queue(name="orders")
            stack.append(worker(orders, lambda _: asyncio.sleep(5)))
            await stack[0].__aenter__()
            orders.put_nowait(1)

    stack: list[Any] = []
    run(main(6.0))
    stack.clear()
    with pytest.raises(AssertionError, match="not finished"):
        run(main(4.0))


def test_what_was_just_cancelled_may_hear_of_it(arun: ARun) -> None:
    """`async with` lets it; plain `with` tells how things are at once."""

    async def consume(orders: Queue[int]) -> None:
        try:
            await for_ever(await orders.get())
        finally:
            orders.task_done()

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders")
        consumer = asyncio.create_task(consume(orders))
        async with assert_no_leaked_jobs():
            orders.put_nowait(1)
            await asyncio.sleep(0)
            consumer.cancel()

    async def at_once() -> None:
        orders: Queue[int] = Queue(name="orders")
        consumer = asyncio.create_task(consume(orders))
        with assert_no_leaked_jobs():
            orders.put_nowait(1)
            await asyncio.sleep(0)
            consumer.cancel()

    arun(main())
    with pytest.raises(AssertionError, match="taken for"):
        arun(at_once())


def test_an_error_of_the_block_comes_first(arun: ARun) -> None:
    """What the test itself raises is not hidden."""

    async def main() -> None:
        async with assert_no_leaked_jobs():
            Queue[int](name="orders").put_nowait(1)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        arun(main())


def test_it_decorates_async_tests(arun: ARun) -> None:
    """Each call is looked at by itself."""

    @assert_no_leaked_jobs()
    async def test(left: int) -> int:
        orders: Queue[int] = Queue(name="orders")
        for number in range(left):
            orders.put_nowait(number)
        return left

    assert arun(test(0)) == 0
    with pytest.raises(AssertionError):
        arun(test(1))
    assert arun(test(0)) == 0
    with pytest.raises(TypeError, match="coroutine functions"):
        assert_no_leaked_jobs()(nothing.__class__)  # type: ignore[arg-type]


def test_a_long_list_is_cut(arun: ARun) -> None:
    """The rest is counted."""

    async def main() -> None:
        queues = [Queue[int](name=f"queue {number}") for number in range(30)]
        async with assert_no_leaked_jobs():
            for queue in queues:
                queue.put_nowait(1)

    with pytest.raises(AssertionError, match="and 10 more"):
        arun(main())


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf"), True, "1"])
def test_a_grace_that_makes_no_sense_is_refused(grace: Any) -> None:
    """The message names it."""
    with pytest.raises(ValueError, match="grace must be 0 or more seconds, not"):
        assert_no_leaked_jobs(grace=grace)


def test_one_name_is_no_collection_of_names() -> None:
    """Its letters would be taken for names."""
    with pytest.raises(TypeError, match=r"write \['orders'\]"):
        assert_no_leaked_jobs(allow_waiting="orders")


def test_queues_are_as_before_when_it_is_over(arun: ARun) -> None:
    """One that only counted does so again, also after a failure."""

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders")
        listener = orders._otel_tracker.listener
        with pytest.raises(AssertionError):
            async with assert_no_leaked_jobs():
                orders.put_nowait(1)
        assert orders._otel_tracker.listener is listener
        assert orders._otel_deliver is None
        assert not orders.ledger.following

    arun(main())
