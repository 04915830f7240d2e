"""What every broker does, whoever keeps its jobs: one suite for all that `WorkerPool` can work on.

To have another broker pass it, add its kind to `BROKERS`: a function that makes a bounded or unbounded one, on a clock.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_sched import (
    CancelReason,
    Job,
    LifoQueue,
    Listener,
    Observer,
    Outcome,
    PriorityQueue,
    Queue,
    QueueShutDown,
    WorkerPool,
    watch,
)
from otel_sched._core.broker import Broker
from otel_sched._core.clock import Clock
from otel_sched._core.ledger import Ledger
from otel_sched.testing import run

SILENT = Observer()


class Follows(Observer):
    """An observer whose jobs are followed; it remembers how each ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Any, str]] = []

    def watch(self, ledger: Ledger) -> Listener:
        ended = self.ended

        class Told(Listener):
            def settled(self, job: Job[Any]) -> None:
                ended.append((job.item, str(job.outcome)))

        return Told()


Maker = Callable[[int, Observer, Clock], Any]

BROKERS: dict[str, Maker] = {
    "Queue": lambda size, observer, clock: Queue(size, name="jobs", observer=observer, clock=clock),
    "PriorityQueue": lambda size, observer, clock: PriorityQueue(size, name="jobs", observer=observer, clock=clock),
    "LifoQueue": lambda size, observer, clock: LifoQueue(size, name="jobs", observer=observer, clock=clock),
    "watched Queue": lambda size, observer, clock: watch(
        asyncio.Queue(size), name="jobs", observer=observer, clock=clock
    ),
    "watched PriorityQueue": lambda size, observer, clock: watch(
        asyncio.PriorityQueue(size), name="jobs", observer=observer, clock=clock
    ),
}


@pytest.fixture(params=sorted(BROKERS))
def make(request: pytest.FixtureRequest) -> Maker:
    """Give the maker of each broker in turn."""
    return BROKERS[request.param]


@pytest.fixture(params=["followed", "silent"])
def observer(request: pytest.FixtureRequest) -> Observer:
    """Give an observer that follows jobs, and one that does not."""
    return Follows() if request.param == "followed" else SILENT


def made(make: Maker, observer: Observer, size: int = 0) -> Any:
    """Return a broker on the running loop's clock."""
    return make(size, observer, asyncio.get_running_loop().time)


def books(broker: Broker[Any]) -> Any:
    """Return a snapshot whose identity holds."""
    now = broker.ledger.snapshot()
    assert now.put == now.size + now.active + now.finished + sum(now.dropped.values())
    assert min(now.put, now.taken, now.size, now.active, now.finished) >= 0
    return now


# put and take


def test_what_is_put_is_taken_once(make: Maker, observer: Observer) -> None:
    """Every item comes out as one job with its item, counted under the series that it was taken for."""

    async def main() -> None:
        broker = made(make, observer)
        series = broker.ledger.series("handler", "tests.handler")
        for item in range(5):
            await broker.put(item)
        assert (books(broker).size, books(broker).taken) == (5, 0)
        jobs = [await broker.take(series) for _ in range(5)]
        assert sorted(job.item for job in jobs) == list(range(5))
        assert {(job.outcome, job.attempt, job.queue, job.name) for job in jobs} == {(None, 1, "jobs", "handler")}
        assert len({job.id for job in jobs}) == 5
        assert (books(broker).size, books(broker).active, series.taken) == (0, 5, 5)
        for job in jobs:
            broker.settle(job, Outcome.OK)

    run(main())


def test_a_job_knows_how_long_it_waited(make: Maker) -> None:
    """From put to take, on the broker's clock."""

    async def main() -> None:
        broker = made(make, Follows())
        series = broker.ledger.series("handler", "")
        await broker.put(1)
        await asyncio.sleep(12)
        assert books(broker).oldest_age == 12.0
        job = await broker.take(series)
        assert job.wait == 12.0
        await asyncio.sleep(3)
        assert books(broker).series["handler"].oldest_active_age == 3.0
        broker.settle(job, Outcome.OK)
        assert (job.settled_at, books(broker).oldest_age) == (15.0, 0.0)

    run(main())


def test_take_waits_for_a_job_and_put_for_room(make: Maker, observer: Observer) -> None:
    """Both block and wake; who waits is counted where it can be."""

    async def main() -> None:
        broker = made(make, observer, 1)
        series = broker.ledger.series("handler", "")
        taker = asyncio.create_task(broker.take(series))
        await asyncio.sleep(1)
        assert not taker.done()
        await broker.put(1)
        first = await taker
        await broker.put(2)
        putter = asyncio.create_task(broker.put(3))
        await asyncio.sleep(1)
        assert not putter.done()
        second = await broker.take(series)
        await putter
        third = await broker.take(series)
        assert [job.item for job in (first, second, third)] == [1, 2, 3]
        for job in (first, second, third):
            broker.settle(job, Outcome.OK)
        await broker.join()

    run(main())


def test_takers_are_served_in_turn(make: Maker, observer: Observer) -> None:
    """Of those that wait, the first to come is the first to get one."""

    async def main() -> None:
        broker = made(make, observer)
        series = broker.ledger.series("handler", "")
        order: list[int] = []

        async def taker(number: int) -> None:
            job = await broker.take(series)
            order.append(number)
            broker.settle(job, Outcome.OK)

        tasks = [asyncio.create_task(taker(number)) for number in range(4)]
        await asyncio.sleep(0)
        for item in range(4):
            await broker.put(item)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]

    run(main())


def test_a_taker_that_is_cancelled_loses_nothing(make: Maker, observer: Observer) -> None:
    """Cancelled while it waits, or in the moment in which a job woke it: the next taker gets that job."""

    async def main() -> None:
        broker = made(make, observer)
        series = broker.ledger.series("handler", "")
        for woken in (False, True):
            first, second = (asyncio.create_task(broker.take(series)) for _ in range(2))
            await asyncio.sleep(0)
            if woken:
                await broker.put(7)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert first.cancelled()
            if not woken:
                await broker.put(7)
            job = await asyncio.wait_for(second, 1)
            assert job.item == 7
            broker.settle(job, Outcome.OK)
        assert books(broker).finished == 2

    run(main())


def test_a_put_that_is_cancelled_puts_nothing(make: Maker, observer: Observer) -> None:
    """A producer that gives up leaves no job, and the next one gets its place."""

    async def main() -> None:
        broker = made(make, observer, 1)
        series = broker.ledger.series("handler", "")
        await broker.put(1)
        gives_up, waits = asyncio.create_task(broker.put(2)), asyncio.create_task(broker.put(3))
        await asyncio.sleep(0)
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        items = []
        for _ in range(2):
            job = await asyncio.wait_for(broker.take(series), 1)
            items.append(job.item)
            broker.settle(job, Outcome.OK)
            await asyncio.sleep(0)
        await waits
        assert items == [1, 3]
        assert books(broker).put == 2

    run(main())


# settle and join


@pytest.mark.parametrize("outcome", list(Outcome))
def test_settle_ends_a_job_once(outcome: Outcome, make: Maker) -> None:
    """The first call says how; a second, whatever it says, does nothing: no count, no hook, no error."""

    async def main() -> None:
        observer = Follows()
        broker = made(make, observer)
        series = broker.ledger.series("handler", "")
        await broker.put(1)
        await broker.put(2)
        job = await broker.take(series)
        error = LookupError("why") if outcome is Outcome.ERROR else None
        broker.settle(job, outcome, error, CancelReason.SHUTDOWN if outcome is Outcome.CANCELLED else None)
        for again in (outcome, Outcome.OK, Outcome.ERROR):
            broker.settle(job, again)
        assert observer.ended == [(job.item, outcome.value)]
        assert books(broker).series["handler"].outcomes == {outcome.value: 1}
        assert (job.outcome, job.error) == (outcome, error)
        joined = asyncio.create_task(broker.join())
        await asyncio.sleep(1)
        assert not joined.done(), "settling one job twice must not end the other"
        other = await broker.take(series)
        broker.settle(other, Outcome.OK)
        await joined

    run(main())


def test_a_cancelled_job_is_counted_with_its_reason(make: Maker, observer: Observer) -> None:
    """state running, and the reason that was given."""

    async def main() -> None:
        broker = made(make, observer)
        await broker.put(1)
        job = await broker.take(broker.ledger.series("handler", ""))
        broker.settle(job, Outcome.CANCELLED, None, CancelReason.SHUTDOWN)
        assert books(broker).series["handler"].cancels == {("running", "shutdown"): 1}

    run(main())


def test_join_waits_for_what_waits_and_for_what_runs(make: Maker, observer: Observer) -> None:
    """At once when there is nothing; else when the last job is settled, in whatever order they end."""

    async def main() -> None:
        broker = made(make, observer)
        series = broker.ledger.series("handler", "")
        await broker.join()
        for item in range(3):
            await broker.put(item)
        joined = asyncio.create_task(broker.join())
        jobs = [await broker.take(series) for _ in range(3)]
        for job in reversed(jobs):
            await asyncio.sleep(1)
            assert not joined.done()
            broker.settle(job, Outcome.ERROR)
        await joined
        await broker.put(9)
        joined = asyncio.create_task(broker.join())
        await asyncio.sleep(1)
        assert not joined.done()
        broker.settle(await broker.take(series), Outcome.OK)
        await joined

    run(main())


def test_nothing_holds_a_settled_job(make: Maker, observer: Observer) -> None:
    """The broker's books keep counts, not jobs."""

    async def main() -> None:
        broker = made(make, observer)
        await broker.put(1)
        job = await broker.take(broker.ledger.series("handler", ""))
        broker.settle(job, Outcome.OK)
        assert broker.ledger.open == {}

    run(main())


# Pools over it


def test_a_pool_handles_everything_and_leaves_the_books_even(make: Maker, observer: Observer) -> None:
    """Producers that block, handlers that fail, hang over, cancel themselves: each item once, join() returns."""

    async def main() -> None:
        broker = made(make, observer, 3)
        handled: Counter[int] = Counter()

        async def handler(item: int) -> None:
            handled[item] += 1
            await asyncio.sleep(item % 3)
            if item % 5 == 1:
                raise LookupError(item)
            if item % 5 == 2:
                raise TimeoutError
            if item % 5 == 3:
                raise asyncio.CancelledError

        async with WorkerPool(broker, handler, workers=3) as pool:
            await asyncio.gather(*(broker.put(item) for item in range(20)))
            await pool.join()
        assert handled == Counter(range(20))
        now = books(broker)
        assert (now.size, now.active, now.finished) == (0, 0, 20)
        (outcomes,) = [each.outcomes for each in now.series.values() if each.outcomes]
        assert outcomes == {"ok": 8, "error": 4, "timeout": 4, "cancelled": 4}

    run(main())


Step = tuple[str, int]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 4)),
    st.tuples(st.just("sleep"), st.integers(0, 3)),
    st.tuples(st.just("resize"), st.integers(1, 4)),
    st.tuples(st.just("cancel worker"), st.integers(0, 3)),
    st.tuples(st.just("cancel producer"), st.integers(0, 3)),
)
ENDS = st.one_of(
    st.tuples(st.just("drain"), st.just(0)),
    st.tuples(st.just("grace"), st.integers(0, 4)),
    st.tuples(st.just("shutdown"), st.integers(0, 1)),
)


@pytest.mark.parametrize("kind", sorted(BROKERS))
@given(size=st.integers(0, 3), workers=st.integers(1, 4), program=st.lists(STEPS, max_size=25), end=ENDS)
@settings(max_examples=40, deadline=None)
def test_no_program_loses_or_doubles_a_job(kind: str, size: int, workers: int, program: list[Step], end: Step) -> None:
    """Puts, cancelled workers and producers, resizes, grace and shutdown in any order: every job ends, once."""
    for observer in (Follows(), SILENT):
        run(play(BROKERS[kind], observer, size, workers, program, end))


async def play(make: Maker, observer: Observer, size: int, workers: int, program: list[Step], end: Step) -> None:
    """Run one program and hold what became of its items against what was put."""
    broker = made(make, observer, size)
    begun: Counter[Any] = Counter()
    producers: list[tuple[Any, asyncio.Task[None]]] = []

    async def handler(item: tuple[int, int]) -> None:
        begun[item] += 1
        await asyncio.sleep(item[1])
        if item[1] == 3:
            raise LookupError(item)

    pool = WorkerPool(broker, handler, workers=workers, grace=None)
    pool.start()
    for number, (verb, argument) in enumerate(program):
        if verb == "put":
            item = (number, argument)
            producers.append((item, asyncio.create_task(broker.put(item))))
        elif verb == "sleep":
            await asyncio.sleep(argument)
        elif verb == "resize":
            pool.resize(argument)
        elif verb == "cancel worker":
            for task in asyncio.all_tasks():
                if task.get_name() == f"jobs-{argument}":
                    task.cancel()
        elif producers:
            producers[argument % len(producers)][1].cancel()
        books(broker)
    await end_it(broker, pool, producers, end)
    put = [item for item, task in producers if not task.cancelled() and task.exception() is None]
    now = books(broker)
    assert now.put == len(put)
    assert (now.active, broker.ledger.open, broker.ledger.limits) == (0, {}, {})
    assert max(begun.values(), default=0) <= 1
    assert set(begun) <= set(put)
    assert now.taken >= len(begun)  # a job whose worker was cancelled before its handler began was taken all the same
    assert now.finished == now.put - now.size
    if isinstance(observer, Follows):
        assert max(Counter(item for item, _ in observer.ended).values(), default=0) <= 1
        assert len(observer.ended) == now.finished
    if end[0] != "grace":
        assert now.size == 0
        await asyncio.wait_for(broker.join(), 1)


async def end_it(broker: Any, pool: WorkerPool[Any], producers: list[tuple[Any, Any]], end: Step) -> None:
    """End a program's pool in one of the ways there are."""
    how, argument = end
    tasks = [task for _, task in producers]
    if how == "shutdown" and hasattr(broker, "shutdown"):
        await asyncio.sleep(0)
        broker.shutdown(immediate=bool(argument))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, (QueueShutDown, asyncio.CancelledError)) for each in results)
        await broker.join()
        await pool.stop()
    elif how == "grace":
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.stop(argument)
    else:
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.join()
        await pool.stop()
