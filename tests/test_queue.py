"""The drop-in queues beyond asyncio's own suite: arguments, subclasses, books, shutdown, life and death."""

import asyncio
import gc
import logging
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any, Generic, TypeVar

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider

from otel_sched import (
    CancelReason,
    Job,
    LifoQueue,
    Listener,
    Observer,
    OtelObserver,
    Outcome,
    PriorityQueue,
    Queue,
    QueueShutDown,
    Stats,
    current_job,
)
from otel_sched._core.ledger import Ledger
from otel_sched.telemetry import hub, interest
from otel_sched.testing import InMemoryTelemetry, run
from tests.chains import Chain
from tests.conftest import ARun
from tests.support.otel_globals import as_new

T = TypeVar("T")
KINDS = [Queue, PriorityQueue, LifoQueue]
SILENT = Observer()


class Follower(Observer):
    """An observer that follows every job and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def watch(self, ledger: Ledger) -> Listener:
        told = self.told

        class Told(Listener):
            def started(self, job: Job[Any], own_worker: bool) -> bool:
                told.append(f"started {job.item}")
                return True

            def settled(self, job: Job[Any]) -> None:
                told.append(f"{job.outcome} {job.item}")

        return Told()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    """Give each of the three classes in turn."""
    return request.param


@pytest.fixture
def own_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let observers of the global providers begin anew: what other tests made is kept apart."""
    monkeypatch.setattr(hub, "_hubs", weakref.WeakValueDictionary())
    monkeypatch.setattr(interest, "correlating", False)


@contextmanager
def no_collector() -> Iterator[None]:
    """Run a block while only reference counts free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def assert_balanced(queue: Any) -> Stats:
    """Assert the accounting identity, and that the size is the real one; return the numbers."""
    stats: Stats = queue.stats()
    assert stats.put == stats.size + stats.active + stats.finished + stats.dropped
    assert stats.size == queue.qsize()
    return stats


# Arguments


def test_a_drop_in_is_an_asyncio_queue(kind: Any) -> None:
    """isinstance holds, for the asyncio class of the same name too; the repr is asyncio's."""
    queue = kind(3)
    assert isinstance(queue, asyncio.Queue)
    assert isinstance(queue, getattr(asyncio, kind.__name__))
    assert (queue.maxsize, queue.qsize(), queue.empty(), queue.full()) == (3, 0, True, False)
    assert repr(queue).startswith(f"<{kind.__name__} at 0x")
    assert "maxsize=3" in repr(queue)


def test_a_queue_without_a_name_is_called_after_its_place(kind: Any) -> None:
    """module.function.variable, for attributes as well, through a subclass's own constructor."""

    class Mail(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(5)

    class Shop:
        def __init__(self) -> None:
            self.orders = kind()

    letters = Mail()
    here = f"{__name__}.test_a_queue_without_a_name_is_called_after_its_place"
    assert (letters.name, letters.stats().name) == (f"{here}.letters",) * 2
    assert Shop().orders.name == f"{here}.Shop.orders"


def test_what_a_queue_is_called_is_its_name_everywhere(kind: Any) -> None:
    """name, stats().name, ledger.name, job.queue."""
    queue = kind(name="orders", observer=SILENT)
    assert (queue.name, queue.stats().name, queue.ledger.name) == ("orders",) * 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"maxsize": "10"}, TypeError, r"maxsize must be a number .*'10'"),
        ({"maxsize": None}, TypeError, r"maxsize must be a number .*None"),
        ({"maxsize": [1]}, TypeError, r"maxsize must be a number"),
        ({"maxsize": 1j}, TypeError, r"maxsize must be a number"),
        ({"maxsize": -1}, ValueError, r"maxsize must be 0 or more, got -1; for an unbounded queue say 0"),
        ({"maxsize": float("nan")}, ValueError, r"maxsize must be 0 or more, got nan"),
        ({"name": ""}, ValueError, r"name must not be empty"),
        ({"name": " \t"}, ValueError, r"name must not be empty"),
        ({"name": 7}, TypeError, r"name must be a string, got 7 \(int\)"),
        ({"name": b"orders"}, TypeError, r"name must be a string, got b'orders'"),
        ({"settle": "ack"}, ValueError, r"settle must be one of 'auto', 'task_done', 'next_get'; got 'ack'"),
        ({"settle": None}, ValueError, r"settle must be one of .*got None"),
        ({"process_spans": True}, ValueError, r"process_spans must be one of 'auto', 'always', 'never'; got True"),
        ({"correlation": "child"}, ValueError, r"correlation must be one of 'auto', 'parent', 'link'; got 'child'"),
        ({"correlation": ["link"]}, ValueError, r"correlation must be one of .*got \['link'\]"),
        ({"producer_spans": "no"}, TypeError, r"producer_spans must be True or False, got 'no'"),
        ({"producer_spans": None}, TypeError, r"producer_spans must be True or False, got None"),
        ({"carry": "all"}, ValueError, r"carry must be one of None, 'baggage', 'context'; got 'all'"),
        ({"buckets": 5}, TypeError, r"buckets must be a sequence of numbers \(seconds\), got 5"),
        ({"buckets": ["fast"]}, TypeError, r"buckets must be a sequence of numbers"),
        ({"buckets": []}, ValueError, r"buckets must be finite upper bounds in rising order.*got \[\]"),
        ({"buckets": [1, 1]}, ValueError, r"rising order"),
        ({"buckets": [2, 1]}, ValueError, r"rising order"),
        ({"buckets": [0.1, float("nan")]}, ValueError, r"rising order"),
        ({"buckets": [float("nan")]}, ValueError, r"rising order"),
        ({"buckets": [1, float("inf")]}, ValueError, r"finite"),
        ({"observer": "otel"}, TypeError, r"observer must be an otel_sched Observer, got 'otel'"),
        ({"observer": Observer}, TypeError, r"observer must be an otel_sched Observer"),
        ({"observer": Listener()}, TypeError, r"observer must be an otel_sched Observer"),
        ({"clock": 12.5}, TypeError, r"clock must be a function that returns seconds, got 12.5"),
        ({"nmae": "orders"}, TypeError, r"nmae"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(
    kind: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each says which argument and what was given; no observer ever hears of such a queue."""
    heard: list[Ledger] = []

    class Hears(Observer):
        def watch(self, ledger: Ledger) -> None:
            heard.append(ledger)

    with pytest.raises(error, match=message):
        kind(**{"observer": Hears()} | arguments)
    assert heard == []


def test_telemetry_arguments_are_keywords(kind: Any) -> None:
    """asyncio's one positional argument stays the only one."""
    with pytest.raises(TypeError):
        kind(0, "orders")


def test_sizes_that_are_numbers_are_taken_as_asyncio_takes_them(kind: Any) -> None:
    """True, 2.5 and infinity work in asyncio, and do here; the capacity is what fits in."""
    assert kind(True).stats().capacity == 1
    queue = kind(2.5, observer=SILENT)
    for _ in range(3):
        queue.put_nowait(1)
    assert queue.full()
    assert queue.stats().capacity == 3
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(1)
    assert kind().stats().capacity is None
    with pytest.raises(TypeError, match="maxsize"):
        kind(Decimal(2))


def test_an_endless_size_is_unbounded(kind: Any) -> None:
    """math.inf, which asyncio takes: never full, and no capacity to tell of."""
    queue = kind(float("inf"), observer=SILENT)
    queue.put_nowait(1)
    assert not queue.full()
    assert queue.stats().capacity is None


def test_buckets_may_be_any_numbers_in_any_sequence(kind: Any) -> None:
    """They are kept as a tuple of floats; the list that was given may change."""
    given = [1, 2.5]
    queue = kind(buckets=given, observer=SILENT)
    given.append(0)
    assert queue.ledger.options.buckets == (1.0, 2.5)


def test_generics_at_run_time(kind: Any) -> None:
    """`Queue[int]()`, subclasses of `Queue[int]`, and generic subclasses of one's own."""
    numbers = kind[int](2, name="numbers")
    assert type(numbers) is kind
    assert (numbers.maxsize, numbers.name) == (2, "numbers")

    class Numbers(kind[int]):  # type: ignore[misc]
        pass

    class Mine(kind[T], Generic[T]):  # type: ignore[misc]
        pass

    for made in (Numbers(), Mine[int]()):
        made.put_nowait(1)
        assert made.get_nowait() == 1


# Subclasses


class Distinct(Queue[Any]):
    """A subclass that brings its own container, as asyncio's documentation suggests."""

    def _init(self, maxsize: int) -> None:
        self._queue = dict[Any, None]()

    def _put(self, item: Any) -> None:
        self._queue[item] = None

    def _get(self) -> Any:
        item = next(iter(self._queue))
        del self._queue[item]
        return item


def test_a_subclass_with_a_container_of_its_own(arun: ARun) -> None:
    """_init, _put and _get: it works as over asyncio.Queue, its jobs are followed, isinstance holds."""
    follower = Follower()

    async def main() -> None:
        queue = Distinct(2, name="distinct", observer=follower)
        assert isinstance(queue, Distinct)
        assert (type(queue).__name__, type(queue).__module__) == ("Distinct", __name__)
        for item in ("a", "b"):
            await queue.put(item)
        blocked = asyncio.create_task(queue.put("c"))
        await asyncio.sleep(0)
        assert queue.stats().puts_waiting == 1
        for expected in ("a", "b", "c"):
            assert await queue.get() == expected
            queue.task_done()
        await blocked
        await queue.join()
        assert_balanced(queue)
        queue.put_nowait("d")
        queue.shutdown(immediate=True)
        with pytest.raises(QueueShutDown):
            await queue.get()

    arun(main())
    assert follower.told == ["started a", "ok a", "started b", "ok b", "started c", "ok c", "cancelled d"]


def test_a_subclass_that_extends_put_and_get_sees_plain_items() -> None:
    """super()._put(item) and super()._get() take and give items, whatever stands beside them."""
    seen: list[Any] = []

    class Loud(Queue[Any]):
        def _put(self, item: Any) -> None:
            seen.append(("put", item))
            super()._put(item)

        def _get(self) -> Any:
            item = super()._get()
            seen.append(("get", item))
            return item

    queue = Loud(name="loud", observer=Follower())

    async def main() -> None:
        await queue.put("a")
        assert await queue.get() == "a"
        assert current_job() is not None
        queue.task_done()

    run(main())
    assert seen == [("put", "a"), ("get", "a")]
    assert assert_balanced(queue).outcomes == {"ok": 1}


def test_a_subclass_may_call_its_base_by_name() -> None:
    """`Queue._put(self, item)` instead of `super()._put(item)`: the older way, for every method that is ours."""
    calls: list[str] = []

    class Named(Queue[Any]):
        def _init(self, maxsize: int) -> None:
            Queue._init(self, maxsize)

        def _put(self, item: Any) -> None:
            calls.append("_put")
            Queue._put(self, item)

        def _get(self) -> Any:
            calls.append("_get")
            return Queue._get(self)

        def qsize(self) -> int:
            return Queue.qsize(self)

        def empty(self) -> bool:
            return Queue.empty(self)

        def put_nowait(self, item: Any) -> None:
            calls.append("put")
            Queue.put_nowait(self, item)

        def get_nowait(self) -> Any:
            calls.append("get")
            return Queue.get_nowait(self)

        async def put(self, item: Any) -> None:
            await Queue.put(self, item)

        async def get(self) -> Any:
            return await Queue.get(self)

    async def main() -> None:
        queue = Named(1, name="named", observer=Follower())
        await queue.put("a")
        producer = asyncio.create_task(queue.put("b"))
        await asyncio.sleep(0)
        for expected in ("a", "b"):
            assert await queue.get() == expected
            queue.task_done()
        await producer
        await queue.join()
        stats = assert_balanced(queue)
        assert (stats.put, stats.outcomes) == (2, {"ok": 2})
        queue.put_nowait("c")
        queue.shutdown(immediate=True)
        assert assert_balanced(queue).outcomes == {"ok": 2, "cancelled": 1}

    run(main())
    assert calls == ["put", "_put", "get", "_get", "put", "_put", "get", "_get", "put", "_put", "_get"]


def test_a_subclass_that_changes_items_on_their_way_keeps_the_books_even() -> None:
    """_put that wraps and _get that unwraps, as priority wrappers do: every item is one job."""

    class Wrapped(PriorityQueue[Any]):
        def _put(self, item: Any) -> None:
            super()._put((-len(item), item))

        def _get(self) -> Any:
            return super()._get()[1]

    async def main() -> None:
        queue = Wrapped(name="wrapped", observer=Follower())
        for item in ("a", "ccc", "bb"):
            queue.put_nowait(item)
        assert [await queue.get() for _ in range(3)] == ["ccc", "bb", "a"]
        for _ in range(3):
            queue.task_done()
        assert assert_balanced(queue).finished == 3

    run(main())


@pytest.mark.parametrize("method", ["qsize", "full", "empty"])
def test_a_subclass_that_overrides_how_full_it_is(method: str) -> None:
    """qsize, full and empty decide about blocking and waiting, as in asyncio."""

    def qsize(self: Any) -> int:
        return sum(self._queue)

    def full(self: Any) -> bool:
        return sum(self._queue) >= 10

    def empty(self: Any) -> bool:
        return not self._queue or getattr(self, "paused", False)

    body = {"qsize": qsize, "full": full, "empty": empty}[method]
    kinds = [type("Weighed", (base,), {method: body}) for base in (asyncio.Queue, Queue)]

    async def program(queue: Any) -> list[Any]:
        log: list[Any] = []
        for item in (4, 6, 1):
            try:
                queue.put_nowait(item)
                log.append((queue.qsize(), queue.full(), queue.empty()))
            except asyncio.QueueFull:
                log.append("full")
        for queue.paused in (True, False, False):
            try:
                log.append(queue.get_nowait())
            except asyncio.QueueEmpty:
                log.append("empty")
        queue.put_nowait(2)
        log.append(await queue.get())
        return log

    plain, ours = (run(program(each(3))) for each in kinds)
    assert plain == ours


def test_a_subclass_may_have_attributes_of_our_names(kind: Any) -> None:
    """`name`, `stats`, `ledger`, `take`, `settle`: properties, methods or instance attributes of a program's own."""

    class Own(kind):  # type: ignore[misc]
        def __init__(self, title: str) -> None:
            self.title = title
            self.ledger = "a book of its own"
            self.stats = {"n": 0}
            super().__init__(observer=Follower())
            self.settle = "later"

        @property
        def name(self) -> str:
            return f"my {self.title}"

        def take(self) -> str:
            return "taken"

    async def main() -> None:
        queue = Own("orders")
        await queue.put(1)
        assert await queue.get() == 1
        queue.task_done()
        assert (queue.name, queue.ledger, queue.stats, queue.settle) == (
            "my orders",
            "a book of its own",
            {"n": 0},
            "later",
        )
        assert queue.take() == "taken"
        assert queue._otel_ledger.snapshot().finished == 1

    run(main())


def test_a_name_that_a_subclass_sets_before_its_base_is_made_stays(kind: Any) -> None:
    """`self.name = ...; super().__init__()` is common: the attribute is the program's, the series has its own."""

    class Own(kind):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__(name="series")

    queue = Own("mine")
    assert (queue.name, queue.ledger.name) == ("mine", "series")
    queue.name = "other"
    assert (queue.name, queue.ledger.name) == ("other", "series")


def test_multiple_inheritance_reaches_every_base(kind: Any) -> None:
    """Mix-ins before and after, with cooperative methods."""
    calls: list[str] = []

    class Before:
        async def put(self, item: Any) -> None:
            calls.append("put")
            await super().put(item)  # type: ignore[misc]

        def task_done(self) -> None:
            calls.append("done")
            super().task_done()  # type: ignore[misc]

    class After:
        def extra(self) -> str:
            return "extra"

    class Both(Before, kind, After):  # type: ignore[misc]
        pass

    async def main() -> None:
        queue = Both(name="both", observer=Follower())
        await queue.put(1)
        assert await queue.get() == 1
        queue.task_done()
        await queue.join()
        assert queue.extra() == "extra"
        assert assert_balanced(queue).outcomes == {"ok": 1}

    run(main())
    assert calls == ["put", "done"]


def test_a_subclass_whose_constructor_fails_leaves_nothing_behind(kind: Any) -> None:
    """Half made and collected: no error from anybody, whether it failed before or after ours."""

    class Early(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            raise LookupError("early")

    class Late(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            raise LookupError("late")

    for broken in (Early, Late):
        with pytest.raises(LookupError):
            broken()
    gc.collect()


# Books


def test_stats_are_a_frozen_snapshot(kind: Any) -> None:
    """Equal numbers are equal, nothing can be set, and a later put does not change it."""
    queue = kind(5, name="orders", observer=SILENT)
    queue.put_nowait(1)
    before = queue.stats()
    queue.put_nowait(2)
    assert (before.put, before.size, before.capacity) == (1, 1, 5)
    assert before == before
    assert queue.stats() != before
    with pytest.raises(FrozenInstanceError):
        before.size = 3


def test_every_number_of_stats_in_virtual_time(kind: Any) -> None:
    """put, taken, active, finished, outcomes, ages, and who waits: each as the program made it."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue = kind(2, name="orders", observer=Follower(), clock=clock)
        await queue.put(1)
        await asyncio.sleep(10)
        await queue.put(2)
        producer = asyncio.create_task(queue.put(3))
        await asyncio.sleep(5)
        stats = assert_balanced(queue)
        assert (stats.put, stats.size, stats.active, stats.puts_waiting) == (2, 2, 0, 1)
        assert stats.oldest_age == 15.0
        item = await queue.get()
        await asyncio.sleep(7)
        stats = assert_balanced(queue)
        assert (stats.put, stats.size, stats.taken, stats.active, stats.puts_waiting) == (3, 2, 1, 1, 0)
        assert stats.oldest_age == (12.0 if item == 1 else 22.0)
        assert stats.oldest_active_age == 7.0
        queue.task_done()
        await producer
        stats = assert_balanced(queue)
        assert (stats.active, stats.finished, stats.outcomes, stats.oldest_active_age) == (0, 1, {"ok": 1}, 0.0)
        for _ in range(2):
            await queue.get()
            queue.task_done()
        consumers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        stats = assert_balanced(queue)
        assert (stats.gets_waiting, stats.oldest_age, stats.size) == (3, 0.0, 0)
        for consumer in consumers:
            consumer.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)
        assert queue.stats().gets_waiting == 0

    run(main())


def test_oldest_age_is_that_of_the_oldest_whatever_comes_out_first() -> None:
    """A LIFO and a heap leave old jobs lying: the age shows it."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        for queue in (LifoQueue[int](clock=clock, observer=SILENT), PriorityQueue[int](clock=clock, observer=SILENT)):
            queue.put_nowait(9)
            await asyncio.sleep(4)
            queue.put_nowait(10 if isinstance(queue, LifoQueue) else 1)
            await asyncio.sleep(1)
            assert queue.stats().oldest_age == 5.0
            queue.get_nowait()
            assert queue.stats().oldest_age == 5.0
            queue.get_nowait()
            assert queue.stats().oldest_age == 0.0

    run(main())


def test_a_job_tells_its_story(kind: Any) -> None:
    """The running job has item, name, queue, times and wait; when it has ended, it is nobody's current job."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue = kind(name="orders", observer=Follower(), clock=clock)
        await asyncio.sleep(1)
        await queue.put(5)
        await asyncio.sleep(2)

        async def handle() -> Job[Any]:
            item = await queue.get()
            job = current_job()
            assert job is not None
            assert (job.item, job.queue, job.name, job.attempt) == (item, "orders", "handle", 1)
            assert (job.put_at, job.taken_at, job.wait) == (1.0, 3.0, 2.0)
            assert (job.outcome, job.error, job.reason, job.settled_at) == (None, None, None, None)
            assert "running" in repr(job)
            await asyncio.sleep(4)
            queue.task_done()
            assert current_job() is None
            return job

        job = await asyncio.create_task(handle())
        assert (job.outcome, job.settled_at) == (Outcome.OK, 7.0)
        assert job.id == job.id
        assert "ok" in repr(job)
        with pytest.raises(AttributeError, match="no attribute 'colour'"):
            job.colour  # noqa: B018

    run(main())


def test_silent_queues_count(kind: Any, arun: ARun) -> None:
    """Nobody listens: active from get() to task_done(), all ok, and no current job."""

    async def main() -> None:
        queue = kind(name="orders", observer=SILENT)
        for item in range(3):
            await queue.put(item)
        await queue.get()
        assert current_job() is None
        queue.get_nowait()
        queue.task_done()
        stats = assert_balanced(queue)
        assert (stats.put, stats.taken, stats.active, stats.finished, stats.size) == (3, 2, 1, 1, 1)
        assert stats.outcomes == {"ok": 1}

    arun(main())


@pytest.mark.usefixtures("own_hub")
def test_task_done_for_items_that_nobody_got_ends_no_job(kind: Any) -> None:
    """`queue._queue.clear()`, and task_done() for each, so that join() returns: nothing is active below zero."""
    with as_new():

        async def main() -> None:
            queue = kind(name="orders", observer=OtelObserver())
            for item in range(3):
                await queue.put(item)
            await queue.get()
            queue._queue.clear()
            for _ in range(3):
                queue.task_done()
            await queue.join()
            stats = queue.stats()
            assert (stats.active, stats.outcomes) == (0, {"ok": 1})
            trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
            await queue.put(3)
            assert await queue.get() == 3
            queue.task_done()
            stats = assert_balanced(queue)
            assert (stats.active, stats.outcomes, stats.dropped) == (0, {"ok": 2}, 2)

        run(main())


def test_task_done_called_too_often_counts_nothing(kind: Any) -> None:
    """ValueError as in asyncio, and the books stay as they are, silent or not."""
    for observer in (SILENT, Follower()):
        queue = kind(name="orders", observer=observer)
        with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
            queue.task_done()
        stats = assert_balanced(queue)
        assert (stats.finished, stats.active) == (0, 0)


# take() and settle()


def test_take_leases_a_job_until_settle(kind: Any, arun: ARun) -> None:
    """The two verbs of a pool, by hand: join() waits for settle(), and a second settle() does nothing."""

    async def main() -> None:
        for observer in (SILENT, Follower()):
            queue = kind(1, name="orders", observer=observer)
            await queue.put(1)
            producer = asyncio.create_task(queue.put(2))
            job = await queue.take()
            assert (job.item, job.queue, job.outcome) == (1, "orders", None)
            await producer
            assert assert_balanced(queue).active == 1
            joined = asyncio.create_task(queue.join())
            queue.settle(job, Outcome.ERROR, ValueError("no"))
            queue.settle(job, Outcome.OK)
            second = await queue.take()
            assert not joined.done()
            queue.settle(second, Outcome.CANCELLED, None, CancelReason.SHUTDOWN)
            queue.settle(second, Outcome.OK)
            await joined
            stats = assert_balanced(queue)
            assert stats.outcomes == {"error": 1, "cancelled": 1}
            assert (job.outcome, job.error_type) == (Outcome.ERROR, "ValueError")
            assert queue.ledger.open == {}

    arun(main())


def test_take_waits_and_is_woken_and_can_be_cancelled(kind: Any, arun: ARun) -> None:
    """As get(): a taker that is cancelled after it was woken wakes the next one."""

    async def main() -> None:
        queue = kind(name="orders", observer=Follower())
        takers = [asyncio.create_task(queue.take()) for _ in range(2)]
        await asyncio.sleep(0)
        assert queue.stats().gets_waiting == 2
        queue.put_nowait("a")
        takers[0].cancel()
        job = await takers[1]
        assert job.item == "a"
        queue.settle(job, Outcome.OK)
        assert assert_balanced(queue).finished == 1
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        queue.shutdown()
        with pytest.raises(QueueShutDown):
            await waiting
        with pytest.raises(QueueShutDown):
            await queue.take()

    arun(main())


def test_a_taken_job_is_counted_under_the_series_it_was_taken_for(kind: Any) -> None:
    """`take(series)`: job.name is the series', and so are taken and outcome."""

    async def main() -> None:
        queue = kind(name="orders", observer=Follower())
        series = queue.ledger.series("charge", "shop.charge")
        await queue.put(1)
        job = await queue.take(series)
        assert job.name == "charge"
        queue.settle(job, Outcome.OK)
        assert (series.taken, series.ok) == (1, 1)

    run(main())


def test_task_done_never_ends_a_leased_job(kind: Any) -> None:
    """A consumer's task_done() finds its own job, not the one that a pool has taken."""

    async def main() -> None:
        queue = kind(name="orders", observer=Follower())
        for item in range(2):
            await queue.put(item)
        leased = await queue.take()
        await queue.get()
        queue.task_done()
        assert leased.outcome is None
        assert assert_balanced(queue).active == 1
        queue.settle(leased, Outcome.OK)
        await queue.join()

    run(main())


# shutdown()


def test_shutdown_drains_first(kind: Any, arun: ARun) -> None:
    """Puts are refused at once, gets when it is empty; who waits in put() or get() is told."""

    async def main() -> None:
        queue = kind(1, name="orders", observer=Follower())
        await queue.put(1)
        producer = asyncio.create_task(queue.put(2))
        await asyncio.sleep(0)
        queue.shutdown()
        with pytest.raises(QueueShutDown):
            await producer
        with pytest.raises(QueueShutDown):
            queue.put_nowait(3)
        with pytest.raises(QueueShutDown):
            await queue.put(3)
        assert await queue.get() == 1
        queue.task_done()
        with pytest.raises(QueueShutDown):
            queue.get_nowait()
        with pytest.raises(QueueShutDown):
            await queue.get()
        queue.shutdown()
        queue.shutdown(True)
        await queue.join()
        assert assert_balanced(queue).put == 1

    arun(main())


def test_shutdown_at_once_cancels_what_waits_and_nothing_else(kind: Any, arun: ARun) -> None:
    """The running job goes on; waiting ones are cancelled, never taken; join() returns when the running one is done."""

    async def main() -> None:
        for observer in (SILENT, Follower()):
            queue = kind(name="orders", observer=observer)
            for item in range(3):
                await queue.put(item)
            await queue.get()
            getter = asyncio.create_task(queue.join())
            queue.shutdown(immediate=True)
            await asyncio.sleep(0)
            stats = assert_balanced(queue)
            assert (stats.taken, stats.active, stats.size, stats.outcomes) == (1, 1, 0, {"cancelled": 2})
            assert not getter.done()
            queue.task_done()
            await getter
            assert queue.ledger.unstarted == {"shutdown": 2}

    arun(main())


def test_shutdown_shows_in_the_telemetry(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """Drained jobs: counted as cancelled while queued, by reason, one DEBUG record each, no span."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a", "b")
        chain.queue.shutdown(immediate=True)

    arun(main())
    assert chain.processed() == []
    assert chain.total("otel_sched.jobs.cancelled", cancel__state="queued", cancel__reason="shutdown") == 2
    assert chain.total("otel_sched.jobs.finished", job__outcome="cancelled") == 2
    assert chain.total("otel_sched.jobs.taken") == 0
    assert chain.total("otel_sched.job.wait.duration") == 0
    assert [record.severity_text for record in chain.lines("was cancelled")] == ["DEBUG", "DEBUG"]
    chain.assert_books_balance()


def test_asyncios_exception_is_ours_where_there_is_one() -> None:
    """`except asyncio.QueueShutDown` works on 3.13; before that there is only ours."""
    if sys.version_info >= (3, 13):
        assert QueueShutDown is asyncio.QueueShutDown
    else:
        assert not hasattr(asyncio, "QueueShutDown")


# Observers and SDKs


@pytest.mark.usefixtures("own_hub")
def test_a_queue_made_before_the_sdk_is_observed_once_there_is_one(kind: Any, arun: ARun) -> None:
    """From the first put after the provider was set, through the global providers."""
    with as_new():
        telemetry = InMemoryTelemetry()
        observer = OtelObserver()

        async def main() -> None:
            queue = kind(name="orders", observer=observer)
            await queue.put(0)
            await queue.get()
            assert current_job() is None
            queue.task_done()
            trace.set_tracer_provider(telemetry.tracer_provider)
            metrics.set_meter_provider(telemetry.meter_provider)
            await queue.put(1)
            await queue.get()
            job = current_job()
            assert job is not None
            assert job.item == 1
            queue.task_done()
            assert queue.stats().outcomes == {"ok": 2}
            assert_balanced(queue)

        arun(main())
        assert [span.name for span in telemetry.spans] == ["process orders"]
        put = telemetry.metrics()["otel_sched.jobs.put"]
        assert sum(point.value for point in put if point.attributes["otel_sched.queue.name"] == "orders") == 2
        telemetry.close()


@pytest.mark.usefixtures("own_hub")
def test_jobs_taken_before_the_sdk_came_end_when_they_are_done(kind: Any) -> None:
    """Nobody followed them, but their task_done() and settle() still count: nothing stays active for ever."""
    with as_new():
        provider = TracerProvider(shutdown_on_exit=False)

        async def main() -> None:
            queue = kind(name="orders", observer=OtelObserver())
            for item in range(3):
                await queue.put(item)
            await queue.get()
            leased = await queue.take()
            trace.set_tracer_provider(provider)
            await queue.put(3)
            assert assert_balanced(queue).active == 2
            queue.task_done()
            queue.settle(leased, Outcome.OK)
            stats = assert_balanced(queue)
            assert (stats.active, stats.outcomes) == (0, {"ok": 2})
            for _ in range(2):
                await queue.get()
                queue.task_done()
            await queue.join()
            assert queue.stats().outcomes == {"ok": 4}

        run(main())


@pytest.mark.usefixtures("own_hub")
def test_jobs_taken_before_the_sdk_came_by_who_never_calls_task_done_are_over(kind: Any) -> None:
    """Many were taken and none was ever done: they are counted as unobserved, not as active for ever."""
    with as_new():
        provider = TracerProvider(shutdown_on_exit=False)

        async def main() -> None:
            queue = kind(name="orders", observer=OtelObserver())
            for item in range(200):
                await queue.put(item)
                await queue.get()
            assert assert_balanced(queue).active == 200
            trace.set_tracer_provider(provider)
            await queue.put(1)
            stats = assert_balanced(queue)
            assert (stats.active, stats.outcomes) == (0, {"unobserved": 200})

        run(main())


@pytest.mark.parametrize("hook", ["queued", "started", "waited", "settled", "settling", "blocked"])
def test_a_hook_that_raises_is_taken_out_and_counted(
    kind: Any, hook: str, arun: ARun, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever hook it is: logged once, one error counted, no item lost, and the counts go on."""

    def broken(self: Any, *_: Any) -> Any:
        raise LookupError("telemetry")

    class Breaks(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            listener: Listener = type("Broken", (Listener,), {hook: broken})()
            return listener

    async def main() -> None:
        queue = kind(1, name="orders", observer=Breaks(), process_spans="never" if hook == "waited" else "auto")

        async def produce() -> None:
            for item in range(4):
                await queue.put(item)

        producer = asyncio.create_task(produce())
        for _ in range(4):
            await queue.get()
            queue.task_done()
        await producer
        await queue.join()
        stats = assert_balanced(queue)
        assert (stats.finished, stats.active) == (4, 0)
        assert queue.ledger.errors == 1

    arun(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"failed in {hook}()" in caplog.text


def test_an_observer_that_cannot_watch_costs_no_queue(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """watch() raises: it is logged and counted, and the queue is made and works."""

    class Breaks(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            raise LookupError("telemetry")

    queue = kind(name="orders", observer=Breaks())
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    assert queue.ledger.errors == 1
    assert "LookupError: telemetry" in caplog.text


# Threads and loops


def test_a_queue_made_outside_a_loop_works_in_one(kind: Any, arun: ARun) -> None:
    """As asyncio's, from 3.10 on: it belongs to the loop that first waits in it."""
    queue = kind(1, name="orders", observer=Follower())
    queue.put_nowait(1)

    async def main() -> None:
        producer = asyncio.create_task(queue.put(2))
        assert {await queue.get(), await queue.get()} == {1, 2}
        await producer

    arun(main())


def test_outside_of_any_loop_items_go_through_and_are_counted(kind: Any) -> None:
    """put_nowait, get_nowait and task_done in plain code: wait-only, for there is nobody to run the job."""
    queue = kind(name="orders", observer=Follower())
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    queue.task_done()
    assert assert_balanced(queue).outcomes == {"unobserved": 1}


def test_two_threads_with_a_loop_each_do_not_disturb_each_other(loop_kind: str, arun: ARun) -> None:
    """A queue per thread, one observer and one name: every job is counted and has the right current job."""
    follower = Follower()
    queues: list[Queue[int]] = []
    wrong: list[Any] = []

    async def main() -> None:
        queue: Queue[int] = Queue(5, name="orders", observer=follower)
        queues.append(queue)

        async def produce() -> None:
            for item in range(300):
                await queue.put(item)

        producer = asyncio.create_task(produce())
        for expected in range(300):
            item = await queue.get()
            job = current_job()
            if job is None or job.item != expected or item != expected or job.ledger is not queue.ledger:
                wrong.append((expected, item, job))
            if expected % 7 == 0:
                await asyncio.sleep(0)
            queue.task_done()
        await producer

    threads = [threading.Thread(target=lambda: arun(main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [queue.stats().outcomes for queue in queues] == [{"ok": 300}] * 2


# Life and death


def test_a_queue_dies_with_its_last_reference(kind: Any, telemetry: InMemoryTelemetry) -> None:
    """No cycle keeps it or its items: with the garbage collector off, `del` is the end of both."""

    class Item:
        def __lt__(self, other: object) -> bool:
            return False

    observers: list[Observer] = [SILENT, Follower(), OtelObserver(**telemetry.providers), OtelObserver()]
    with no_collector():
        for observer in observers:
            for carry in (None, "context"):
                queue = kind(2, observer=observer, carry=carry)
                item = Item()
                queue.put_nowait(item)
                queue.put_nowait(Item())
                queue.get_nowait()
                queue.stats()
                gone = weakref.ref(queue), weakref.ref(item)
                del queue, item
                assert [each() for each in gone] == [None, None]


def test_a_used_queue_dies_with_its_last_reference(kind: Any, telemetry: InMemoryTelemetry) -> None:
    """After real work by waiting producers and consumers too, and after shutdown()."""
    observer = OtelObserver(**telemetry.providers)

    async def main() -> "weakref.ref[Any]":
        queue = kind(1, name="orders", observer=observer)

        async def consume() -> None:
            while True:
                try:
                    await queue.get()
                except QueueShutDown:
                    return
                queue.task_done()

        consumer = asyncio.create_task(consume())
        for item in range(5):
            await queue.put(item)
        queue.shutdown()
        await consumer
        del consumer
        return weakref.ref(queue)

    with no_collector():
        gone = run(main())
        assert gone() is None


def test_what_waits_in_a_queue_that_dies_is_dropped(kind: Any) -> None:
    """The ledger outlives the queue: what waited counts as dropped, by reason, and holds no item."""
    queue = kind(name="orders", observer=SILENT)
    ledger = queue.ledger
    for item in range(3):
        queue.put_nowait(item)
    queue.get_nowait()
    del queue
    gc.collect()
    now = ledger.snapshot()
    assert (now.put, now.size, now.active, now.dropped) == (3, 0, 1, {"collected": 2})
    assert (now.oldest_age, now.puts_waiting, ledger.waiting) == (0.0, 0, None)


@pytest.mark.usefixtures("own_hub")
@pytest.mark.parametrize("provided", ["everything", "traces", "nothing"])
@pytest.mark.parametrize("buckets", [None, (1.0, 2.0)])
def test_queues_without_number_do_not_fill_the_memory(
    kind: Any, provided: str, buckets: Any, telemetry: InMemoryTelemetry
) -> None:
    """Short-lived queues of one name, as a request or a connection makes them: memory stays where it was."""
    providers = {"everything": telemetry.providers, "traces": {"tracer_provider": telemetry.tracer_provider}}
    observer = OtelObserver(**providers.get(provided, {}))

    def some(number: int) -> None:
        for _ in range(number):
            queue = kind(name="per request", observer=observer, buckets=buckets)
            queue.put_nowait(1)
            queue.get_nowait()

    some(600)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        some(1200)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 300_000, f"{grown / 1200:.0f} bytes for each queue"


def test_subclasses_without_number_do_not_fill_the_memory() -> None:
    """A program that makes classes without end: those of ours that stand beside them go again."""
    alive: list[weakref.ref[Any]] = []

    def make() -> None:
        body: dict[str, Callable[..., Any]] = {"_put": lambda self, item: Queue._put(self, item)}
        subclass: Any = type("Sub", (Queue,), body)
        queue = subclass(name="sub", observer=SILENT)
        queue.put_nowait(1)
        assert queue.get_nowait() == 1
        alive.append(weakref.ref(subclass))

    for _ in range(400):
        make()
    gc.collect()
    assert sum(each() is not None for each in alive) < 300


def test_errors_that_the_library_logs_go_to_its_logger() -> None:
    """One logger, `otel_sched`, that a program can silence."""
    logger = logging.getLogger("otel_sched")
    assert logger.propagate
    assert logger.handlers == []
