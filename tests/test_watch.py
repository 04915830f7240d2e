"""watch() and unwatch(): a queue that exists becomes observed, and is given back exactly as it was."""

import asyncio
import gc
import sys
import weakref
from collections import deque
from typing import Any

import pytest

from otel_sched import (
    Job,
    LifoQueue,
    Listener,
    Observer,
    OtelObserver,
    PriorityQueue,
    Queue,
    WorkerPool,
    current_job,
    unwatch,
    watch,
)
from otel_sched._core.ledger import Ledger
from otel_sched.testing import InMemoryTelemetry, run
from tests.chains import Chain
from tests.conftest import ARun

SILENT = Observer()
ASYNCIO_KINDS = [asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue]


class Follower(Observer):
    """An observer that follows every job and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def watch(self, ledger: Ledger) -> Listener:
        told = self.told

        class Told(Listener):
            def blocked(self, seconds: float) -> None:
                told.append("blocked")

            def started(self, job: Job[Any], own_worker: bool) -> bool:
                told.append(f"started {job.item}")
                return True

            def settled(self, job: Job[Any]) -> None:
                told.append(f"{job.outcome} {job.item}")

        return Told()


@pytest.fixture(params=ASYNCIO_KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    """Give each of asyncio's three classes in turn."""
    return request.param


def assert_balanced(queue: Any) -> Any:
    """Assert the accounting identity, and that the size is the real one; return the numbers."""
    stats = queue.stats()
    assert stats.put == stats.size + stats.active + stats.finished + stats.dropped
    assert stats.size == queue.qsize()
    return stats


# watch()


def test_a_watched_queue_is_the_same_object_and_its_jobs_are_followed(kind: Any, arun: ARun) -> None:
    """The same identity, class name, container and maxsize; jobs start at get() and end at task_done()."""
    follower = Follower()

    async def main() -> None:
        queue = kind(2)
        container = queue._queue
        watched = watch(queue, name="orders", observer=follower)
        assert watched is queue
        assert isinstance(queue, kind)
        assert (type(queue).__name__, type(queue).__module__) == (kind.__name__, kind.__module__)
        assert queue._queue is container
        assert (queue.maxsize, watched.ledger.name, watched.stats().name) == (2, "orders", "orders")
        await queue.put(1)
        assert await queue.get() == 1
        job = current_job()
        assert job is not None
        assert (job.item, job.queue) == (1, "orders")
        queue.task_done()
        await queue.join()
        assert assert_balanced(queue).outcomes == {"ok": 1}

    arun(main())
    assert follower.told == ["started 1", "ok 1"]


def test_without_a_name_a_watched_queue_is_called_after_the_place_of_watch() -> None:
    """The caller of watch(), and what it is assigned to there."""
    jobs = watch(asyncio.Queue[Any](), observer=SILENT)
    assert jobs.ledger.name.startswith(f"{__name__}.test_without_a_name_a_watched_queue")


def test_items_that_are_inside_already_count_as_put_now(kind: Any) -> None:
    """They become jobs, in the order in which the queue gives them out, with an age from now on."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue = kind()
        for item in (2, 1, 3):
            queue.put_nowait(item)
        await asyncio.sleep(100)
        watch(queue, name="orders", observer=Follower(), clock=clock)
        stats = assert_balanced(queue)
        assert (stats.put, stats.size, stats.oldest_age) == (3, 3, 0.0)
        await asyncio.sleep(7)
        assert queue.stats().oldest_age == 7.0
        for _ in range(3):
            await queue.get()
            job = current_job()
            assert job is not None
            assert job.wait == 7.0
            queue.task_done()
        await queue.join()
        assert assert_balanced(queue).outcomes == {"ok": 3}

    run(main())


def test_getters_and_putters_that_wait_are_not_disturbed(kind: Any, arun: ARun) -> None:
    """A consumer in get() gets the next item; a producer in put() gets its place; both are counted."""

    async def main() -> None:
        empty, full = kind(1), kind(1)
        getter = asyncio.create_task(empty.get())
        full.put_nowait(1)
        putter = asyncio.create_task(full.put(2))
        await asyncio.sleep(0)
        watch(empty, name="empty", observer=Follower())
        watch(full, name="full", observer=Follower())
        assert empty.stats().gets_waiting == 1
        assert full.stats().puts_waiting == 1
        await empty.put("x")
        assert await getter == "x"
        assert await full.get() == 1
        await putter
        assert await full.get() == 2
        assert (assert_balanced(empty).put, assert_balanced(full).put) == (1, 2)

    arun(main())


def test_a_blocked_put_of_a_watched_queue_tells_how_long(arun: ARun) -> None:
    """The listener hears of the wait once, and the put is made by the queue's own class."""
    follower, made = Follower(), []

    class Noting(asyncio.Queue[Any]):
        async def put(self, item: Any) -> None:
            made.append(item)
            await super().put(item)

    async def main() -> None:
        queue = watch(Noting(1), name="orders", observer=follower, process_spans="never")
        await queue.put(1)
        putter = asyncio.create_task(queue.put(2))
        await asyncio.sleep(0)
        queue.get_nowait()
        await putter

    arun(main())
    assert follower.told == ["blocked"]
    assert made == [1, 2]


def test_watching_again_changes_nothing_and_under_another_name_is_refused(kind: Any) -> None:
    """The same name or none: the same books. Another name: ValueError that says both names."""
    queue = watch(kind(), name="orders", observer=SILENT)
    queue.put_nowait(1)
    ledger = queue.ledger
    assert watch(queue, name="orders") is queue
    assert watch(queue) is queue
    assert queue.ledger is ledger
    assert queue.stats().put == 1
    with pytest.raises(ValueError, match=r"observed already, as 'orders'; it cannot be 'mails'"):
        watch(queue, name="mails")


@pytest.mark.parametrize("ours", [Queue, PriorityQueue, LifoQueue])
def test_our_own_queues_are_watched_already(ours: Any) -> None:
    """watch() of one of ours gives it back; unwatch() leaves it alone."""
    queue = ours(name="orders", observer=SILENT)
    before = type(queue)
    assert watch(queue, name="orders") is queue
    with pytest.raises(ValueError, match="observed already"):
        watch(queue, name="other")
    assert unwatch(queue) is queue
    assert type(queue) is before
    queue.put_nowait(1)
    assert queue.stats().put == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 3}, TypeError, "name must be a string, got 3"),
        ({"settle": "no"}, ValueError, "settle must be one of"),
        ({"process_spans": "no"}, ValueError, "process_spans must be one of"),
        ({"correlation": "no"}, ValueError, "correlation must be one of"),
        ({"producer_spans": 2}, TypeError, "producer_spans must be True or False"),
        ({"carry": "no"}, ValueError, "carry must be one of"),
        ({"buckets": "no"}, TypeError, "buckets must be a sequence of numbers"),
        ({"observer": object()}, TypeError, "observer must be an otel_sched Observer"),
        ({"clock": 1}, TypeError, "clock must be a function"),
        ({"maxsize": 1}, TypeError, "maxsize"),
    ],
)
def test_bad_arguments_leave_the_queue_as_it_was(arguments: dict[str, Any], error: Any, message: str) -> None:
    """Type and attributes are untouched by a watch() that is refused."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    before = dict(vars(queue))
    with pytest.raises(error, match=message):
        watch(queue, **arguments)
    assert type(queue) is asyncio.Queue
    assert vars(queue) == before


@pytest.mark.parametrize("thing", [None, "orders", [], asyncio.Queue, deque([1])])
def test_what_is_no_asyncio_queue_is_refused(thing: Any) -> None:
    """TypeError that shows what was given."""
    with pytest.raises(TypeError, match=r"watch\(\) takes an asyncio.Queue, got"):
        watch(thing)


def test_unwatch_of_what_is_not_watched_gives_it_back() -> None:
    """A plain queue is left alone."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    before = dict(vars(queue))
    assert unwatch(queue) is queue
    assert type(queue) is asyncio.Queue
    assert vars(queue) == before


# Classes of a program's own


class Slotted(asyncio.Queue[Any]):
    """A subclass with slots."""

    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.extra = "here"


class Stack(asyncio.Queue[Any]):
    """A subclass with a container and an order of its own."""

    def _init(self, maxsize: int) -> None:
        self._queue: Any = []

    def _put(self, item: Any) -> None:
        self._queue.append(item)

    def _get(self) -> Any:
        return self._queue.pop()


class Named(asyncio.Queue[Any]):
    """A subclass whose own attributes are called as ours are."""

    ledger = "class ledger"

    def __init__(self) -> None:
        super().__init__()
        self.name = "its own"
        self.settle = "instance settle"

    def stats(self) -> str:
        return "its own stats"


class Books(asyncio.Queue[Any]):
    """One whose instances have an attribute of the name of a property of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = "instance ledger"


@pytest.mark.parametrize("own", [Slotted, Stack, Named, Books])
def test_subclasses_are_watched_and_given_back(own: Any) -> None:
    """Slots, containers and attributes of a program's own stay what they are, before, during and after."""
    follower = Follower()

    async def main() -> None:
        queue = own()
        before = dict(vars(queue))
        watch(queue, name="orders", observer=follower)
        assert isinstance(queue, own)
        for item in (1, 2):
            await queue.put(item)
        assert await queue.get() == (2 if own is Stack else 1)
        queue.task_done()
        await queue.get()
        queue.task_done()
        await queue.join()
        assert queue._otel_ledger.snapshot().finished == 2
        if own is Slotted:
            assert queue.extra == "here"
        if own is Named:
            assert (queue.name, queue.stats(), queue.ledger, queue.settle) == (
                "its own",
                "its own stats",
                "class ledger",
                "instance settle",
            )
            assert watch(queue, name="orders") is queue
        if own is Books:
            assert queue.ledger == "instance ledger"
        unwatch(queue)
        assert type(queue) is own
        assert vars(queue) == before

    run(main())
    assert len(follower.told) == 4


def test_a_class_that_cannot_be_subclassed_is_refused_whole() -> None:
    """Its own TypeError comes through, and the queue stays as it was."""

    class Final(asyncio.Queue[Any]):
        def __init_subclass__(cls) -> None:
            raise TypeError("Final has no subclasses")

    queue = Final()
    before = dict(vars(queue))
    with pytest.raises(TypeError, match="no subclasses"):
        watch(queue, name="orders")
    assert type(queue) is Final
    assert vars(queue) == before


def test_a_shutdown_of_a_programs_own_keeps_its_signature() -> None:
    """Subclasses had a shutdown() long before asyncio did: theirs is called as it always was."""
    calls: list[Any] = []

    class Closing(asyncio.Queue[Any]):
        def shutdown(self, *, reason: str) -> str:
            calls.append(reason)
            return "closed"

    queue: Any = watch(Closing(), name="closing", observer=SILENT)
    assert queue.shutdown(reason="tired") == "closed"
    assert calls == ["tired"]


def test_a_watched_queue_has_the_shutdown_that_its_python_has(kind: Any, arun: ARun) -> None:
    """From 3.13 on shutdown() of a watched queue cancels what waits, in the books too; before, there is none."""

    async def main() -> None:
        queue = watch(kind(), name="orders", observer=Follower())
        assert hasattr(queue, "shutdown") == hasattr(kind(), "shutdown")
        if sys.version_info < (3, 13):
            return
        await queue.put(1)
        queue.shutdown(immediate=True)
        stats = assert_balanced(queue)
        assert (stats.outcomes, stats.taken) == ({"cancelled": 1}, 0)

    arun(main())


class Ticket:
    """Items that are equal in rank, so that only the heap decides."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: "Ticket") -> bool:
        return self.rank < other.rank


def test_a_watched_heap_breaks_ties_as_an_unwatched_one_does() -> None:
    """Same puts, same order out, watched from the start, half way through, or not at all."""
    ranks = [3, 1, 2, 1, 3, 1, 2, 2, 1, 3]
    tickets = [Ticket(rank) for rank in ranks]
    queues: list[Any] = [asyncio.PriorityQueue() for _ in range(3)]
    watch(queues[1], name="one", observer=SILENT)
    for number, ticket in enumerate(tickets):
        if number == 5:
            watch(queues[2], name="two", observer=SILENT)
        for queue in queues:
            queue.put_nowait(ticket)
    orders = [[queue.get_nowait() for _ in tickets] for queue in queues]
    assert orders[0] == orders[1] == orders[2]


# unwatch()


def test_unwatch_gives_everything_back(kind: Any, arun: ARun) -> None:
    """Type, attributes and items are as they were; open jobs end as unobserved, waiting ones are dropped."""
    follower = Follower()

    async def main() -> None:
        queue = kind()
        before = set(vars(queue))
        watch(queue, name="orders", observer=follower)
        for item in range(3):
            await queue.put(item)
        await queue.get()
        ledger: Ledger = queue.ledger
        assert unwatch(queue) is queue
        assert type(queue) is kind
        assert set(vars(queue)) == before
        now = ledger.snapshot()
        assert (now.put, now.size, now.active, now.dropped) == (3, 0, 0, {"unwatched": 2})
        assert now.series["main"].outcomes == {"unobserved": 1}
        assert current_job() is None
        queue.task_done()
        for _ in range(2):
            await queue.get()
            queue.task_done()
        await queue.join()
        await queue.put(9)
        assert ledger.snapshot().put == 3

    arun(main())
    assert [line.split()[0] for line in follower.told] == ["started", "unobserved"]


def test_unwatch_while_others_wait_in_it(kind: Any, arun: ARun) -> None:
    """Consumers in get() and producers in put() go on with the plain queue."""

    async def main() -> None:
        empty, full = watch(kind(), name="empty", observer=Follower()), watch(kind(1), name="full", observer=Follower())
        full.put_nowait(1)
        getter = asyncio.create_task(empty.get())
        putter = asyncio.create_task(full.put(2))
        await asyncio.sleep(0)
        unwatch(empty)
        unwatch(full)
        empty.put_nowait("x")
        assert await getter == "x"
        assert await full.get() == 1
        await putter
        assert await full.get() == 2

    arun(main())


def test_a_queue_can_be_watched_again_after_unwatch_under_any_name(kind: Any) -> None:
    """New books each time; the old ones keep what they had."""
    queue: Any = kind()
    for number, name in enumerate(("first", "second", "first")):
        watch(queue, name=name, observer=SILENT)
        queue.put_nowait(number)
        stats = assert_balanced(queue)
        assert (stats.name, stats.put) == (name, number + 1)
        unwatch(queue)
    assert queue.qsize() == 3


def test_unwatch_is_refused_while_a_pool_works_on_it(kind: Any, arun: ARun) -> None:
    """RuntimeError that says what to do; afterwards it works."""

    async def handler(item: Any) -> None: ...

    async def main() -> None:
        queue = kind()
        async with WorkerPool(watch(queue, name="orders", observer=SILENT), handler):
            with pytest.raises(RuntimeError, match=r"a pool works on queue 'orders': stop it before"):
                unwatch(queue)
            await queue.put(1)
        unwatch(queue)
        assert type(queue) is kind

    arun(main())


def test_nothing_keeps_a_watched_queue_alive(kind: Any, telemetry: InMemoryTelemetry) -> None:
    """No cycle, no registry: it goes with its last reference, watched or unwatched, and so does its class."""
    observer = OtelObserver(**telemetry.providers)
    gc.collect()
    gc.disable()
    try:
        for back in (False, True):
            queue = watch(kind(), name="orders", observer=observer)
            queue.put_nowait(1)
            queue.put_nowait(2)
            queue.get_nowait()
            if back:
                unwatch(queue)
            gone = weakref.ref(queue)
            del queue
            assert gone() is None
    finally:
        gc.enable()


def test_a_watched_queue_tells_the_telemetry_of_the_drop(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """unwatch() shows in the metrics: outcome unobserved, dropped by reason, no span left open."""
    chain = Chain(telemetry, lambda observer: watch(asyncio.Queue(), name="orders", observer=observer))

    async def main() -> None:
        await chain.put("a", "b")
        await chain.queue.get()
        unwatch(chain.queue)

    arun(main())
    assert chain.total("otel_sched.jobs.dropped", drop__reason="unwatched") == 1
    assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 1
    assert chain.total("otel_sched.queue.size") == 0
    assert chain.outcomes() == ["unobserved"]
