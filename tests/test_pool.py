"""WorkerPool: who takes what, what one failure touches, how it grows, shrinks, drains and ends."""

import asyncio
import contextvars
import functools
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace

from otel_sched import (
    Job,
    LifoQueue,
    Listener,
    Observer,
    OtelObserver,
    Outcome,
    PriorityQueue,
    Queue,
    QueueShutDown,
    WorkerPool,
    current_job,
    watch,
)
from otel_sched._core import pool as pool_module
from otel_sched._core.ledger import Ledger
from otel_sched.telemetry.logs import OtlpHandler
from otel_sched.testing import InMemoryTelemetry, run
from tests.chains import Chain, ids
from tests.conftest import ARun

SILENT = Observer()


class Boom(Exception):
    """What goes wrong in these tests."""


class Follower(Observer):
    """An observer that follows every job and keeps the settled ones' stories."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, str, str | None]] = []

    def watch(self, ledger: Ledger) -> Listener:
        told = self.told

        class Told(Listener):
            def settled(self, job: Job[Any]) -> None:
                told.append((job.item, str(job.outcome), job.reason and job.reason.value))

        return Told()


async def nothing(item: Any) -> None:
    """Do nothing with it."""


def virtual_queue(**arguments: Any) -> Queue[Any]:
    """Return a queue on the running loop's clock."""
    return Queue(name="orders", clock=asyncio.get_running_loop().time, **{"observer": Follower()} | arguments)


def assert_even(queue: Any) -> Any:
    """Assert that nothing waits or runs any more, in the books and in fact; return the numbers."""
    stats = queue.stats()
    assert (stats.size, stats.active, queue.qsize()) == (0, 0, 0)
    assert stats.put == stats.finished + stats.dropped
    assert queue._unfinished_tasks == 0
    return stats


def said(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    """Return what our logger said at that level."""
    return [each.getMessage() for each in caplog.records if each.name == "otel_sched" and each.levelname == level]


# Work


@pytest.mark.parametrize("kind", [Queue, PriorityQueue, LifoQueue, "watched"])
def test_every_job_is_handled_once(kind: Any, arun: ARun) -> None:
    """Over each kind of queue: producers that block, eight workers, join(), and a clean end."""
    for observer in (SILENT, Follower()):
        handled: list[int] = []

        async def handler(item: int, handled: list[int] = handled) -> None:
            handled.append(item)
            if item % 3 == 0:
                await asyncio.sleep(0)

        async def main(handler: Any = handler, observer: Observer = observer) -> None:
            queue: Any
            if kind == "watched":
                queue = watch(asyncio.Queue[int](5), name="orders", observer=observer)
            else:
                queue = kind(5, name="orders", observer=observer)
            async with WorkerPool(queue, handler, workers=8) as pool:
                for item in range(200):
                    await queue.put(item)
                await pool.join()
                assert pool.stats().busy == 0
            assert assert_even(queue).outcomes == {"ok": 200}

        arun(main())
        assert sorted(handled) == list(range(200))


def test_workers_are_named_tasks() -> None:
    """`orders-0`, `orders-1`, ...: after the queue, or as the pool is called."""

    async def names_of(**arguments: Any) -> list[str]:
        async with WorkerPool(virtual_queue(), nothing, workers=3, **arguments):
            return sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())

    assert run(names_of()) == ["orders-0", "orders-1", "orders-2"]
    assert run(names_of(name="cheap")) == ["cheap-0", "cheap-1", "cheap-2"]


def test_who_is_free_takes_more() -> None:
    """One slow job blocks one worker; the other does all the rest meanwhile."""

    async def main() -> None:
        by: dict[str, int] = {}
        queue = virtual_queue()

        async def handler(seconds: float) -> None:
            task = asyncio.current_task()
            assert task is not None
            by[task.get_name()] = by.get(task.get_name(), 0) + 1
            await asyncio.sleep(seconds)

        async with WorkerPool(queue, handler, workers=2) as pool:
            for seconds in [100] + [1] * 50:
                await queue.put(seconds)
            await pool.join()
        assert sorted(by.values()) == [1, 50]
        assert asyncio.get_running_loop().time() == 100.0

    run(main())


def test_an_exception_touches_nothing_but_its_job(caplog: pytest.LogCaptureFixture, arun: ARun) -> None:
    """Error and timeout are counted and logged with their stack; the workers and the other jobs go on."""

    async def handler(item: int) -> None:
        if item == 3:
            raise Boom("three")
        if item == 5:
            async with asyncio.timeout(0):
                await asyncio.sleep(1)

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=SILENT)
        async with WorkerPool(queue, handler, workers=2) as pool:
            for item in range(10):
                await queue.put(item)
            await pool.join()
            assert (pool.stats().workers, pool.stats().replaced) == (2, 0)
        assert assert_even(queue).outcomes == {"ok": 8, "error": 1, "timeout": 1}

    arun(main())
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(record.getMessage().split("'orders': ")[1].split(" in ")[0] for record in errors) == [
        "failed",
        "timeout",
    ]
    assert all(record.exc_info for record in errors)


def test_a_handler_that_raises_cancelled_error_itself_ends_its_job_alone() -> None:
    """Nobody cancelled the worker: outcome cancelled, reason handler, and the worker goes on."""

    async def handler(item: int) -> None:
        if item == 0:
            raise asyncio.CancelledError
        if item == 1:
            gone = asyncio.ensure_future(asyncio.sleep(100))
            gone.cancel()
            await gone

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)
        async with WorkerPool(queue, handler, workers=1) as pool:
            for item in range(3):
                await queue.put(item)
            await pool.join()
            assert pool.stats().replaced == 0
        assert observer.told == [(0, "cancelled", "handler"), (1, "cancelled", "handler"), (2, "ok", None)]

    run(main())


def test_a_handler_may_call_task_done(arun: ARun, caplog: pytest.LogCaptureFixture) -> None:
    """What was a worker's loop still says task_done(): each job counts once, and join() waits for all of them."""
    for observer in (SILENT, Follower()):
        for kind in (Queue, PriorityQueue):
            queue: Any = kind(name="orders", observer=observer)
            finished: list[int] = []

            async def handler(item: int, queue: Any = queue, finished: list[int] = finished) -> None:
                try:
                    await asyncio.sleep(0)
                finally:
                    queue.task_done()
                await asyncio.sleep(0)
                finished.append(item)

            async def main(queue: Any = queue, handler: Any = handler, observer: Any = observer) -> None:
                async with WorkerPool(queue, handler, workers=2):
                    for item in range(10):
                        await queue.put(item)
                    await queue.join()

            arun(main())
            assert sorted(finished) == list(range(10))
            assert assert_even(queue).outcomes == {"ok": 10}
    assert said(caplog, "ERROR") == []


def test_a_handler_may_take_more_from_the_same_queue(arun: ARun) -> None:
    """A batch: the pool's job, and others by get_nowait() and task_done() in its handler."""
    for observer in (SILENT, Follower()):
        queue: Queue[int] = Queue(name="orders", observer=observer)
        batches: list[list[int]] = []

        async def handler(item: int, queue: Queue[int] = queue, batches: list[list[int]] = batches) -> None:
            batch = [item]
            while not queue.empty() and len(batch) < 3:
                batch.append(queue.get_nowait())
                queue.task_done()
            batches.append(batch)
            await asyncio.sleep(0)

        async def main(queue: Queue[int] = queue, handler: Any = handler) -> None:
            for item in range(7):
                queue.put_nowait(item)
            async with WorkerPool(queue, handler, workers=1) as pool:
                await pool.join()

        arun(main())
        assert batches == [[0, 1, 2], [3, 4, 5], [6]]
        assert assert_even(queue).finished == 7


def test_two_pools_may_share_a_queue(arun: ARun) -> None:
    """Each handles a part, under its own handler's name; all is handled once."""
    seen: list[int] = []

    async def fast(item: int) -> None:
        seen.append(item)
        await asyncio.sleep(0)

    async def slow(item: int) -> None:
        seen.append(item)
        for _ in range(3):
            await asyncio.sleep(0)

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=Follower())
        async with WorkerPool(queue, fast, workers=2, name="fast"), WorkerPool(queue, slow, workers=2, name="slow"):
            for item in range(100):
                await queue.put(item)
        names = series(queue)
        assert names["fast"] + names["slow"] == 100
        assert names["fast"] > names["slow"] > 0
        assert queue.ledger.limits == {}

    arun(main())
    assert sorted(seen) == list(range(100))


def series(queue: Queue[Any]) -> dict[str, int]:
    """Return how many jobs were taken under each name."""
    return {name: each.taken for name, each in queue.ledger.all_series.items()}


# Handlers


class Service:
    """Handlers of several kinds."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def method(self, item: Any) -> None:
        self.seen.append(item)

    async def __call__(self, item: Any) -> None:
        self.seen.append(item)

    @staticmethod
    async def static(item: Any) -> None:
        SEEN.append(item)

    @classmethod
    async def classy(cls, item: Any) -> None:
        SEEN.append(item)


SEEN: list[Any] = []


async def with_more(first: list[Any], item: Any, *, last: Any) -> None:
    """Take arguments that a partial gives."""
    first.append((item, last))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda seen: functools.partial(with_more, seen, last=1), "with_more"),
        (lambda seen: functools.partial(functools.partial(with_more, last=1), seen), "with_more"),
        (lambda seen: Service().method, "Service.method"),
        (lambda seen: Service(), "Service"),
        (lambda seen: functools.partial(Service()), "Service"),
        (lambda seen: functools.partial(Service().method), "Service.method"),
        (lambda seen: Service.static, "Service.static"),
        (lambda seen: Service.classy, "Service.classy"),
        (lambda seen: nothing, "nothing"),
    ],
)
def test_handlers_of_every_kind_give_the_job_its_name(make: Callable[[list[Any]], Any], name: str) -> None:
    """Function, method, static and class method, callable object, partial, partial of a partial, of an object."""

    async def main() -> None:
        for carry in (None, "context"):
            queue = virtual_queue(carry=carry)
            async with WorkerPool(queue, make([])):
                await queue.put("a")
            assert assert_even(queue).outcomes == {"ok": 1}
            assert [each for each, taken in series(queue).items() if taken] == [name]

    run(main())


def test_an_async_mock_is_a_handler() -> None:
    """unittest.mock.AsyncMock, which tests of applications pass in."""
    from unittest.mock import AsyncMock

    mock = AsyncMock()

    async def main() -> None:
        queue = virtual_queue()
        async with WorkerPool(queue, mock):
            await queue.put("a")

    run(main())
    mock.assert_awaited_once_with("a")


def plain(item: Any) -> None:
    """No coroutine function."""


class PlainCall:
    def __call__(self, item: Any) -> None: ...


async def generator(item: Any) -> Any:
    """An async generator function."""
    yield item


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (plain, r"is a plain function, which would stop the event loop.*asyncio.to_thread"),
        (lambda item: None, r"is a plain function"),
        (functools.partial(plain), r"is a plain function"),
        (PlainCall(), r"is a plain function"),
        (Service, r"is a plain function"),
        (print, r"is a plain function"),
        (generator, r"is an async generator function: it must not yield"),
        (functools.partial(generator), r"is an async generator function"),
        (None, r"must be a coroutine function that takes the item, got None"),
        ("charge", r"must be a coroutine function that takes the item, got 'charge'"),
    ],
)
def test_handlers_that_are_not_async_are_refused(handler: Any, message: str) -> None:
    """TypeError that says what to do, and no trace of it in the queue's books."""
    queue: Queue[Any] = Queue(name="orders", observer=SILENT)
    before = set(queue.ledger.all_series)
    with pytest.raises(TypeError, match=message):
        WorkerPool(queue, handler)
    assert set(queue.ledger.all_series) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"workers": 0}, ValueError, "a pool needs at least one worker, got 0"),
        ({"workers": -3}, ValueError, "a pool needs at least one worker, got -3"),
        ({"workers": 2.0}, TypeError, "workers must be an int, got 2.0"),
        ({"workers": True}, TypeError, "workers must be an int, got True"),
        ({"workers": "8"}, TypeError, "workers must be an int, got '8'"),
        ({"workers": None}, TypeError, "workers must be an int, got None"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 5}, TypeError, "name must be a string, got 5"),
        ({"grace": -1}, ValueError, "grace must be 0 s or more, got -1"),
        ({"grace": float("nan")}, ValueError, "grace must be 0 s or more, got nan"),
        ({"grace": "10"}, TypeError, "grace must be seconds or None, got '10'"),
        ({"grace": True}, TypeError, "grace must be seconds or None, got True"),
    ],
)
def test_bad_arguments_of_a_pool(arguments: dict[str, Any], error: Any, message: str) -> None:
    """Each says what is wrong and what was given; the queue's books know of no job name."""
    queue: Queue[Any] = Queue(name="orders", observer=SILENT)
    with pytest.raises(error, match=message):
        WorkerPool(queue, nothing, **arguments)
    assert queue.ledger.limits == {}
    assert "nothing" not in queue.ledger.all_series


@pytest.mark.parametrize("thing", [None, [], asyncio.Queue, "orders"])
def test_a_pool_over_what_is_no_observed_queue_is_refused(thing: Any) -> None:
    """The TypeError names the way out: watch()."""
    with pytest.raises(TypeError, match=r"a pool needs an otel_sched queue, got .*watch\(queue, name="):
        WorkerPool(thing, nothing)
    with pytest.raises(TypeError, match=r"watch\(queue, name="):
        WorkerPool(asyncio.Queue(), nothing)  # type: ignore[arg-type]


# Size


def test_it_grows_at_once_and_shrinks_when_jobs_end() -> None:
    """resize() while busy: more workers start at once, surplus ones finish what they have begun."""

    async def main() -> None:
        queue = virtual_queue()
        running = 0
        most = 0

        async def handler(item: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        async with WorkerPool(queue, handler, workers=2, grace=None) as pool:
            for item in range(30):
                await queue.put(item)
            await asyncio.sleep(0.5)
            assert (running, pool.stats().busy) == (2, 2)
            pool.resize(6)
            await asyncio.sleep(0.1)
            assert (running, pool.stats().workers, pool.stats().limit) == (6, 6, 6)
            pool.resize(1)
            assert (pool.stats().workers, pool.stats().limit) == (6, 1)
            await asyncio.sleep(1.5)
            assert (running, pool.stats().workers) == (1, 1)
            assert queue.ledger.snapshot().limits == {"handler": 1}
            pool.resize(3)
            await pool.join()
        assert most == 6
        assert assert_even(queue).outcomes == {"ok": 30}

    run(main())


def test_idle_workers_go_at_once_and_none_loses_an_item() -> None:
    """resize() while idle, in the moment in which an item has woken one of those that go."""

    async def main() -> None:
        for size in range(1, 4):
            queue = virtual_queue()
            handled: list[int] = []

            async def handler(item: int, handled: list[int] = handled) -> None:
                handled.append(item)

            async with WorkerPool(queue, handler, workers=4) as pool:
                await asyncio.sleep(0)
                for item in range(3):
                    queue.put_nowait(item)
                pool.resize(size)
                await asyncio.sleep(0.001)
                assert pool.stats().workers == size
                await pool.join()
            assert sorted(handled) == [0, 1, 2]
            assert assert_even(queue).finished == 3

    run(main())


def test_workers_get_free_names_when_a_pool_grows_again() -> None:
    """Numbers are those of the workers there are: no two alive have one name."""

    async def main() -> None:
        queue = virtual_queue()
        gate = asyncio.Event()

        async def handler(item: int) -> None:
            await gate.wait()

        async with WorkerPool(queue, handler, workers=3) as pool:
            for item in range(2):
                await queue.put(item)
            await asyncio.sleep(0)
            pool.resize(1)
            pool.resize(3)
            await asyncio.sleep(0)
            names = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("orders-")]
            assert len(set(names)) == len(names) >= 3
            gate.set()

    run(main())


@pytest.mark.parametrize(("workers", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_size_that_is_none_is_refused(workers: Any, error: Any) -> None:
    """resize() checks as the constructor does, and changes nothing."""

    async def main() -> None:
        async with WorkerPool(virtual_queue(), nothing, workers=2) as pool:
            with pytest.raises(error, match="worker"):
                pool.resize(workers)
            assert pool.stats().limit == 2

    run(main())


def test_resize_before_the_start_and_while_it_drains() -> None:
    """Before: it starts with that many. While it drains: they help. At the end no limit is left in the books."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(10)

        pool = WorkerPool(queue, handler, workers=1, grace=None)
        pool.resize(2)
        pool.start()
        assert pool.stats().workers == 2
        for item in range(10):
            await queue.put(item)
        stopping = asyncio.create_task(pool.stop())
        await asyncio.sleep(0.1)
        pool.resize(10)
        await stopping
        assert asyncio.get_running_loop().time() == pytest.approx(10.1)
        assert queue.ledger.limits == {}
        assert queue.ledger.snapshot().limits == {}
        pool.resize(5)
        assert pool.stats().workers == 0
        assert queue.ledger.limits == {}
        assert_even(queue)

    run(main())


# The end


def test_leaving_the_block_drains(caplog: pytest.LogCaptureFixture) -> None:
    """All that was put is handled; nobody is cancelled and nothing is said."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)

        async def handler(item: int) -> None:
            await asyncio.sleep(1)

        async with WorkerPool(queue, handler, workers=2, grace=10):
            for item in range(6):
                await queue.put(item)
        assert asyncio.get_running_loop().time() == 3.0
        assert_even(queue)
        assert {outcome for _, outcome, _ in observer.told} == {"ok"}
        assert len(asyncio.all_tasks()) == 1

    run(main())
    assert caplog.records == []


def test_after_the_grace_what_runs_is_cancelled_and_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Outcome cancelled, reason shutdown; one warning with the numbers; what waits stays in the queue."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)

        async def handler(item: int) -> None:
            await asyncio.sleep(1000)

        async with WorkerPool(queue, handler, workers=2, grace=5):
            for item in range(5):
                await queue.put(item)
        assert asyncio.get_running_loop().time() == 5.0
        assert sorted(observer.told) == [(0, "cancelled", "shutdown"), (1, "cancelled", "shutdown")]
        stats = queue.stats()
        assert (stats.size, stats.active, queue.qsize()) == (3, 0, 3)

    run(main())
    assert said(caplog, "WARNING") == [
        "pool 'orders': the grace of 5 s is over; cancelling 2 running jobs; 3 stay in the queue"
    ]


def test_stop_may_be_given_another_grace() -> None:
    """stop(0) cancels at once, whatever the pool's grace is."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(1000)

        pool = WorkerPool(queue, handler, workers=1, grace=None)
        pool.start()
        await queue.put(1)
        await asyncio.sleep(1)
        await pool.stop(0)
        assert asyncio.get_running_loop().time() == 1.0
        assert queue.stats().outcomes == {"cancelled": 1}
        with pytest.raises(ValueError, match="grace"):
            await WorkerPool(queue, handler).stop(-1)

    run(main())


def test_a_handler_that_cleans_up_when_cancelled_ends_as_it_ends() -> None:
    """Time to clean up, then cancelled; one that makes good its work instead is ok."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)

        async def handler(item: str) -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await asyncio.sleep(2)
                if item == "passes it on":
                    raise

        async with WorkerPool(queue, handler, workers=2, grace=1):
            await queue.put("passes it on")
            await queue.put("swallows it")
        assert asyncio.get_running_loop().time() == 3.0
        assert sorted(observer.told) == [("passes it on", "cancelled", "shutdown"), ("swallows it", "ok", None)]
        assert_even(queue)

    run(main())


def test_a_handler_that_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """After CANCEL_WAIT the pool ends without it: abandoned, and said so; its later end changes nothing."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)
        stubborn: list[asyncio.Task[Any]] = []

        async def handler(item: int) -> None:
            task = asyncio.current_task()
            assert task is not None
            stubborn.append(task)
            for _ in range(100):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue

        async with WorkerPool(queue, handler, workers=1, grace=1):
            await queue.put(1)
        assert asyncio.get_running_loop().time() == 1 + pool_module.CANCEL_WAIT
        assert observer.told == [(1, "abandoned", None)]
        assert_even(queue)
        await asyncio.wait(stubborn)
        assert observer.told == [(1, "abandoned", None)]
        assert_even(queue)

    run(main())
    (line,) = said(caplog, "ERROR")
    assert "goes on 5 s after it was cancelled; it is left behind as abandoned" in line


def test_a_cancellation_while_it_drains_ends_the_draining() -> None:
    """Whoever leaves the block is cancelled: what runs is cancelled at once, and the cancellation comes through."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)

        async def handler(item: int) -> None:
            await asyncio.sleep(1000)

        async def program() -> None:
            async with WorkerPool(queue, handler, workers=1, grace=None):
                await queue.put(1)

        task = asyncio.create_task(program())
        await asyncio.sleep(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() == 3.0
        assert observer.told == [(1, "cancelled", "shutdown")]
        assert queue.ledger.limits == {}

    run(main())


@pytest.mark.parametrize("error", [Boom, asyncio.CancelledError])
def test_a_block_that_is_left_by_an_exception_drains_all_the_same(error: type[BaseException]) -> None:
    """What was put is handled, then the exception comes through."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(1)

        async def program() -> None:
            async with WorkerPool(queue, handler, workers=1):
                await queue.put(1)
                raise error

        with pytest.raises(error):
            await program()
        assert assert_even(queue).outcomes == {"ok": 1}

    run(main())


def test_stop_may_be_called_twice_and_before_the_start() -> None:
    """A pool that was never started, or has ended, has nothing to stop; start() after that is refused."""

    async def main() -> None:
        pool = WorkerPool(virtual_queue(), nothing)
        await pool.stop()
        with pytest.raises(RuntimeError, match=r"pool 'orders' was started before; make a new one"):
            pool.start()
        async with WorkerPool(virtual_queue(), nothing) as pool:
            await pool.stop()
            await pool.stop()
        with pytest.raises(RuntimeError, match="make a new one"):
            async with pool:
                pass

    run(main())


def test_whoever_stops_it_second_waits_for_the_first() -> None:
    """Two stop() at once return together, when the pool has ended."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(4)

        pool = WorkerPool(queue, handler, workers=1)
        pool.start()
        await queue.put(1)
        first = asyncio.create_task(pool.stop())
        await asyncio.sleep(1)
        await pool.stop()
        assert asyncio.get_running_loop().time() == 4.0
        await first
        assert_even(queue)

    run(main())


def test_a_handler_cannot_stop_its_own_pool() -> None:
    """It would wait for itself: RuntimeError, and the pool goes on."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)
        pool: WorkerPool[int]

        async def handler(item: int) -> None:
            await pool.stop()

        pool = WorkerPool(queue, handler, workers=1)
        async with pool:
            await queue.put(1)
            await pool.join()
            assert pool.stats().workers == 1
        assert observer.told == [(1, "error", None)]

    run(main())


def test_starting_needs_a_loop_and_happens_once() -> None:
    """RuntimeError both ways; without a loop nothing has been started."""
    pool = WorkerPool(Queue[int](name="orders", observer=SILENT), nothing)
    with pytest.raises(RuntimeError, match="no running event loop"):
        pool.start()

    async def main() -> None:
        async with WorkerPool(virtual_queue(), nothing) as pool:
            with pytest.raises(RuntimeError, match="was started before"):
                pool.start()
            assert pool.stats().workers == 8

    run(main())


def test_shutdown_of_the_queue_ends_the_workers(arun: ARun) -> None:
    """They finish what is queued and go; leaving the block then takes no time."""

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=SILENT)
        async with WorkerPool(queue, nothing, workers=3, grace=None) as pool:
            for item in range(10):
                await queue.put(item)
            queue.shutdown()
            await pool.join()
            while pool.stats().workers:
                await asyncio.sleep(0)
            assert pool.stats().replaced == 0
            with pytest.raises(QueueShutDown):
                await queue.put(1)
        assert assert_even(queue).outcomes == {"ok": 10}

    arun(main())


def test_shutdown_at_once_cancels_what_waits_while_workers_finish() -> None:
    """Running jobs end as they end; waiting ones are cancelled in the queue."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(5)

        async with WorkerPool(queue, handler, workers=2):
            for item in range(6):
                await queue.put(item)
            await asyncio.sleep(1)
            queue.shutdown(immediate=True)
        assert asyncio.get_running_loop().time() == 5.0
        assert assert_even(queue).outcomes == {"ok": 2, "cancelled": 4}

    run(main())


# Death of a worker


class Flaky(Queue[Any]):
    """A queue with a bug: its first settle() raises."""

    broken = True

    def settle(self, *arguments: Any) -> None:
        if self.broken:
            self.broken = False
            raise LookupError("a bug of ours")
        super().settle(*arguments)


def test_a_worker_that_dies_of_a_bug_is_replaced_and_its_job_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Logged as CRITICAL with its stack; the job is abandoned, so that join() returns; the others go on."""

    async def main() -> None:
        queue = Flaky(name="orders", observer=Follower())
        async with WorkerPool(queue, nothing, workers=1, grace=None) as pool:
            for item in range(3):
                await queue.put(item)
            await pool.join()
            assert (pool.stats().workers, pool.stats().replaced) == (1, 1)
        assert assert_even(queue).outcomes == {"ok": 2, "abandoned": 1}
        assert asyncio.get_running_loop().time() == 0.0

    run(main())
    (record,) = [each for each in caplog.records if each.levelname == "CRITICAL"]
    assert record.getMessage() == "pool 'orders': worker orders-0 died; it is replaced"
    assert record.exc_info


def test_workers_that_die_again_and_again_are_replaced_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """The first at once, then one a second: a broken queue does not spin the loop."""

    class Broken(Queue[Any]):
        async def take(self, *arguments: Any) -> Any:
            raise LookupError("always")

    async def main() -> None:
        queue = Broken(name="orders", observer=SILENT)
        async with WorkerPool(queue, nothing, workers=1, grace=0) as pool:
            await asyncio.sleep(10.5)
            assert pool.stats().replaced == 12
            assert pool.stats().limit == 1

    run(main())
    assert len(said(caplog, "CRITICAL")) == 12


def test_a_worker_that_somebody_cancels_is_replaced() -> None:
    """Its job is cancelled, reason consumer; after a moment there are as many workers as before."""

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(observer=observer)

        async def handler(item: int) -> None:
            await asyncio.sleep(100)

        async with WorkerPool(queue, handler, workers=1, grace=None) as pool:
            await queue.put(1)
            await asyncio.sleep(1)
            (worker,) = [task for task in asyncio.all_tasks() if task.get_name() == "orders-0"]
            worker.cancel()
            await asyncio.sleep(5)
            assert observer.told == [(1, "cancelled", "consumer")]
            assert (pool.stats().workers, pool.stats().replaced) == (1, 1)
            await queue.put(2)
        assert observer.told[1:] == [(2, "ok", None)]

    run(main())


def test_when_every_worker_is_gone_stop_says_what_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is left to drain the queue: it ends at once, and a warning counts what waits."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: int) -> None:
            await asyncio.sleep(100)

        pool = WorkerPool(queue, handler, workers=2, grace=None)
        pool.start()
        for item in range(5):
            await queue.put(item)
        await asyncio.sleep(1)
        stopping = asyncio.create_task(pool.stop())
        await asyncio.sleep(1)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("orders-"):
                task.cancel()
        await stopping
        assert asyncio.get_running_loop().time() == 2.0

    run(main())
    assert said(caplog, "WARNING") == ["pool 'orders': no worker is left; 3 jobs stay in the queue"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_ends_it(
    error: type[BaseException], arun: ARun, caplog: pytest.LogCaptureFixture
) -> None:
    """KeyboardInterrupt and SystemExit in a handler come out of run(); the job is an error, nobody is replaced."""
    observer = Follower()

    async def handler(item: int) -> None:
        raise error

    async def main() -> None:
        async with WorkerPool(Queue[int](name="orders", observer=observer), handler, workers=2) as pool:
            await pool._queue.put(1)
            await asyncio.Event().wait()

    with pytest.raises(error):
        arun(main())
    assert observer.told == [(1, "error", None)]
    assert said(caplog, "CRITICAL") == []


def test_a_program_that_ends_without_stopping_its_pool_leaves_nothing(
    arun: ARun, caplog: pytest.LogCaptureFixture
) -> None:
    """start() and no stop(): run() cancels the workers, none is replaced, no task is destroyed pending."""
    queue: Queue[int] = Queue(name="orders", observer=SILENT)

    async def main() -> None:
        WorkerPool(queue, nothing, workers=3).start()
        await queue.put(1)
        await queue.join()

    arun(main())
    gc.collect()
    assert caplog.records == []


# Contexts


def test_the_current_job_is_seen_in_the_handler_and_by_its_children() -> None:
    """Inside: the job. In an asyncio task started there: the same. After it, and in the next job: not this one."""
    seen: list[Any] = []

    async def main() -> None:
        queue = virtual_queue()

        async def child() -> Any:
            await asyncio.sleep(0)
            job = current_job()
            return job and job.item

        async def handler(item: int) -> None:
            job = current_job()
            assert job is not None
            seen.append((item, job.item, await asyncio.create_task(child()), job.queue))

        async with WorkerPool(queue, handler, workers=1):
            for item in range(3):
                await queue.put(item)
        assert current_job() is None

    run(main())
    assert seen == [(item, item, item, "orders") for item in range(3)]


def test_a_pool_made_inside_a_job_is_not_part_of_it() -> None:
    """Its workers start without the current job; its own jobs are theirs."""
    seen: list[Any] = []

    async def main() -> None:
        outer, inner = virtual_queue(), virtual_queue()

        async def handler(item: int) -> None:
            job = current_job()
            seen.append(job and (job.item, job.ledger is inner.ledger))

        async def starts_another(item: int) -> None:
            async with WorkerPool(inner, handler, workers=1):
                await inner.put(7)
            job = current_job()
            assert job is not None
            assert job.item == item

        async with WorkerPool(outer, starts_another, workers=1):
            await outer.put(1)

    run(main())
    assert seen == [(7, True)]


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def test_carry_context_gives_the_handler_its_producers_variables() -> None:
    """Each handler runs in a copy of its producer's context; what it sets there touches nobody else."""
    seen: list[Any] = []

    async def main() -> None:
        for observer in (SILENT, Follower()):
            queue = virtual_queue(carry="context", observer=observer)

            async def handler(item: int) -> None:
                seen.append((item, tenant.get()))
                tenant.set("changed")

            async with WorkerPool(queue, handler, workers=2):
                for item, name in enumerate(("a", "b", "c")):
                    token = tenant.set(name)
                    await queue.put(item)
                    tenant.reset(token)
            assert tenant.get() == "nobody"

    run(main())
    assert sorted(seen) == sorted([(0, "a"), (1, "b"), (2, "c")] * 2)


def test_a_cancellation_reaches_a_handler_in_its_producers_context() -> None:
    """The grace is over: the handler is cancelled through its own asyncio task, reason shutdown."""
    cancelled: list[int] = []

    async def main() -> None:
        observer = Follower()
        queue = virtual_queue(carry="context", observer=observer)

        async def handler(item: int) -> None:
            if item == 0:
                raise asyncio.CancelledError
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise

        async with WorkerPool(queue, handler, workers=1, grace=1):
            await queue.put(0)
            await queue.put(1)
        assert observer.told == [(0, "cancelled", "handler"), (1, "cancelled", "shutdown")]

    run(main())
    assert cancelled == [1]


def test_nothing_holds_a_job_after_the_pool_is_done_with_it(telemetry: InMemoryTelemetry) -> None:
    """Items go when they are handled, also those whose handler failed, while the worker waits for the next."""

    class Item:
        pass

    class Forgets(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            return Listener()

    async def main() -> None:
        for observer in (SILENT, Forgets(), OtelObserver(**telemetry.providers)):
            for carry in (None, "context"):
                queue: Queue[Item] = Queue(name="orders", observer=observer, carry=carry)
                gone: list[weakref.ref[Any]] = []

                async def handler(item: Item, gone: list[weakref.ref[Any]] = gone) -> None:
                    gone.append(weakref.ref(item))
                    job = current_job()
                    if job is not None:
                        gone.append(weakref.ref(job))
                    await asyncio.sleep(0)
                    if len(gone) > 2:
                        raise Boom

                logging.getLogger("otel_sched").disabled = True  # a log record holds its exception, and so the frames
                try:
                    async with WorkerPool(queue, handler, workers=1) as pool:
                        for _ in range(3):
                            await queue.put(Item())
                        await pool.join()
                        await asyncio.sleep(0)
                        gc.collect()
                        assert [each() for each in gone if each() is not None] == []
                finally:
                    logging.getLogger("otel_sched").disabled = False

    run(main())


def test_a_pool_that_has_ended_holds_nothing() -> None:
    """Pool, queue and handler go with their last references."""

    async def main() -> "list[weakref.ref[Any]]":
        queue = virtual_queue()
        service = Service()
        async with WorkerPool(queue, service) as pool:
            await queue.put(1)
        return [weakref.ref(each) for each in (queue, service, pool)]

    gone = run(main())
    gc.collect()
    assert [each() for each in gone] == [None] * 3


# Telemetry


@pytest.fixture
def chain(telemetry: InMemoryTelemetry) -> Iterator[Chain]:
    """Give a queue with telemetry in memory; the library's own log lines go out there too, as configure() has it."""
    made = Chain(telemetry)
    ours = logging.getLogger("otel_sched")
    sender = OtlpHandler(logger_provider=telemetry.logger_provider)
    ours.addHandler(sender)
    yield made
    ours.removeHandler(sender)


async def pooled(chain: Chain, handler: Callable[[Any], Awaitable[None]], *items: Any, **arguments: Any) -> None:
    """Put items inside a request and have a pool handle them."""
    async with WorkerPool(chain.queue, handler, **arguments):
        await chain.put(*items)


def test_a_pools_job_is_tied_from_request_to_log_line(chain: Chain, arun: ARun) -> None:
    """Span, link, parent, log line and metrics as with get() and task_done(); the job's name is the handler's."""

    async def handler(item: Any) -> None:
        await chain.work(item)

    arun(pooled(chain, handler, "a"))
    chain.assert_tied("a")
    attributes = chain.processed()[0].attributes or {}
    assert attributes["otel_sched.job.name"] == "handler"
    assert str(attributes["code.function.name"]).endswith("<locals>.handler")
    assert attributes["otel_sched.correlation"] == "parent"
    assert chain.outcomes() == ["ok"]
    assert chain.total("otel_sched.job.run.duration", job__name="handler", job__outcome="ok") == 1
    assert chain.total("otel_sched.job.wait.duration") == 1
    assert chain.total("otel_sched.workers.limit") == 0
    chain.assert_books_balance()


def test_workers_limit_and_busy_while_a_pool_runs(chain: Chain) -> None:
    """Two of three workers have a job; when the pool is gone, the series are."""

    async def main() -> None:
        gate = asyncio.Event()

        async def handler(item: Any) -> None:
            await gate.wait()

        async with WorkerPool(chain.queue, handler, workers=3):
            await chain.put("a", "b")
            await asyncio.sleep(0)
            assert chain.total("otel_sched.workers.limit", job__name="handler") == 3
            assert chain.total("otel_sched.workers.busy", job__name="handler") == 2
            gate.set()
        assert "otel_sched.workers.limit" not in chain.telemetry.metrics()

    run(main())


def test_a_failure_is_one_record_over_otlp_and_one_line_in_the_log(
    chain: Chain, arun: ARun, caplog: pytest.LogCaptureFixture
) -> None:
    """The record is on the job's span, with the stack; the line goes to whoever reads logs, not out a second time."""

    async def handler(item: Any) -> None:
        raise Boom("no money")

    arun(pooled(chain, handler, "a"))
    (span,) = chain.processed()
    assert chain.outcomes() == ["error"]
    assert not span.status.is_ok
    assert span.events == ()
    (record,) = [each.log_record for each in chain.telemetry.logs]
    assert record.event_name == "otel_sched.job.exception"
    assert (record.trace_id, record.span_id) == ids(span.context)
    assert (record.attributes or {})["exception.message"] == "no money"
    (line,) = said(caplog, "ERROR")
    assert line.endswith("of queue 'orders': failed in handler")
    chain.assert_books_balance()


@pytest.mark.parametrize(
    ("error", "outcome", "records"),
    [(TimeoutError, "timeout", "ERROR"), (asyncio.CancelledError, "cancelled", "DEBUG")],
)
def test_timeouts_and_cancellations_of_a_pool(
    error: type[BaseException], outcome: str, records: str, chain: Chain, arun: ARun
) -> None:
    """Each has its outcome on span, metric and record."""

    async def handler(item: Any) -> None:
        raise error

    arun(pooled(chain, handler, "a"))
    assert chain.outcomes() == [outcome]
    assert chain.total("otel_sched.jobs.finished", job__outcome=outcome) == 1
    (record,) = [each.log_record for each in chain.telemetry.logs]
    assert record.severity_text == records
    chain.assert_books_balance()


def test_many_failures_of_a_kind_are_summed_up(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    """Five lines and five records, then a summary of each with the number; every job still counts."""

    async def handler(item: Any) -> None:
        raise Boom

    run(pooled(chain, handler, *range(12), workers=3))
    assert len(said(caplog, "ERROR")) == 5
    (summary,) = said(caplog, "WARNING")
    assert summary.startswith("pool 'orders': 7 more jobs failed with ")
    assert chain.total("otel_sched.telemetry.dropped") == 7
    assert chain.total("otel_sched.jobs.finished", job__outcome="error") == 12
    exceptions = [each for each in chain.telemetry.logs if each.log_record.event_name == "otel_sched.job.exception"]
    (repeated,) = chain.lines("7 more jobs of queue 'orders' ended with error")
    assert len(exceptions) == 5
    assert (repeated.attributes or {})["otel_sched.repeats"] == 7


def test_after_the_period_the_next_line_says_how_many_were_held(caplog: pytest.LogCaptureFixture) -> None:
    """Ten seconds later the first line of the kind carries the number of those held back."""

    async def main() -> None:
        queue = virtual_queue()

        async def handler(item: Any) -> None:
            raise Boom

        async with WorkerPool(queue, handler, workers=1) as pool:
            for item in range(8):
                await queue.put(item)
            await pool.join()
            await asyncio.sleep(10)
            await queue.put(8)

    run(main())
    lines = said(caplog, "ERROR")
    assert len(lines) == 6
    assert lines[-1].endswith("(3 more like it were not logged)")
    assert said(caplog, "WARNING") == []


def test_a_pool_started_inside_a_span_does_not_draw_its_jobs_into_it(chain: Chain, arun: ARun) -> None:
    """The span in which a program starts up is not the parent of what its workers do, not even of unparented jobs."""
    inside: list[Any] = []

    async def handler(item: Any) -> None:
        inside.append(trace.get_current_span())
        await chain.work(item)

    async def main() -> None:
        with chain.tracer.start_as_current_span("startup"):
            pool = WorkerPool(chain.queue, handler, workers=1)
            pool.start()
        await chain.put("a")
        await pool.join()
        await asyncio.create_task(chain.queue.put("b"))
        await pool.stop()

    arun(main())
    startup = chain.one("startup")
    first, second = chain.processed()
    assert ids(first.parent) == ids(chain.one("put orders").context)
    assert second.parent is None
    assert startup.context is not None
    assert all(span.context and span.context.trace_id != startup.context.trace_id for span in (first, second))
    assert [ids(each.get_span_context()) for each in inside] == [ids(first.context), ids(second.context)]


def test_a_pool_inside_a_running_span_gives_each_job_its_own(chain: Chain, arun: ARun) -> None:
    """A pool's jobs run also where a span of somebody else is current, and that one is current again after."""

    async def handler(item: Any) -> None:
        await chain.work(item)

    async def main() -> None:
        with chain.tracer.start_as_current_span("main") as span:
            async with WorkerPool(chain.queue, handler, workers=1):
                await chain.queue.put("a")
            assert trace.get_current_span() is span

    arun(main())
    assert chain.outcomes() == ["ok"]
    assert ids(chain.one("charge a").parent) == ids(chain.processed()[0].context)


def test_a_pool_without_process_spans_still_knows_runs_and_outcomes(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """process_spans="never": no span, but wait, run time and outcome, and the user's own span is a root."""
    chain = Chain(telemetry, process_spans="never")

    async def handler(item: Any) -> None:
        assert current_job() is not None
        await chain.work(item)
        if item == "b":
            raise Boom

    arun(pooled(chain, handler, "a", "b"))
    assert chain.processed() == []
    assert chain.total("otel_sched.job.run.duration", job__outcome="ok") == 1
    assert chain.total("otel_sched.job.run.duration", job__outcome="error") == 1
    assert chain.total("otel_sched.job.wait.duration") == 2
    assert len(chain.lines("failed")) == 1
    chain.assert_books_balance()


def test_an_old_job_of_a_pool_gets_a_trace_of_its_own(telemetry: InMemoryTelemetry) -> None:
    """After more than ten seconds in the queue: correlation link, a root span, and the link to its producer."""

    async def main() -> Chain:
        chain = Chain(telemetry, clock=asyncio.get_running_loop().time)
        await chain.put("a")
        await asyncio.sleep(11)
        async with WorkerPool(chain.queue, nothing):
            pass
        return chain

    chain = run(main())
    (span,) = chain.processed()
    assert span.parent is None
    assert [ids(link.context) for link in span.links] == [ids(chain.one("put orders").context)]
    assert (span.attributes or {})["otel_sched.correlation"] == "link"
    assert (span.attributes or {})["otel_sched.job.wait"] == 11.0


def test_an_exception_that_a_handler_swallowed_and_recorded_counts(chain: Chain, arun: ARun) -> None:
    """record_exception() on the job's span: a bare queue's rule holds in a pool too, or the outcome is ok by return."""

    async def handler(item: Any) -> None:
        try:
            raise Boom
        except Boom as error:
            trace.get_current_span().record_exception(error)

    arun(pooled(chain, handler, "a"))
    assert chain.outcomes() == ["ok"]


def test_outcome_is_an_enum_that_reads_as_its_word() -> None:
    """What the pool settles with is what dashboards say."""
    assert [str(each) for each in Outcome] == [
        "ok",
        "error",
        "timeout",
        "cancelled",
        "expired",
        "abandoned",
        "unobserved",
    ]
