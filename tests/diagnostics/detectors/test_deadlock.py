"""A deadlock is found when nobody who takes from a full queue can go on, and never while one of them can."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics.detectors.deadlock import deadlocked
from otel_sched.diagnostics.detectors.following import Follower
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue

QUEUES = range(5)
GRAPHS = st.dictionaries(
    st.sampled_from(QUEUES),
    st.lists(st.none() | st.frozensets(st.sampled_from(QUEUES), max_size=2), max_size=3),
)


def closed(graph: dict[int, list[frozenset[int] | None]], queues: frozenset[int]) -> bool:
    """Say whether all consumers of *queues* wait for room in *queues*."""
    return all(graph[each] and all(one and one <= queues for one in graph[each]) for each in queues)


@given(GRAPHS)
def test_what_is_deadlocked_is_the_largest_set_that_waits_for_itself(
    graph: dict[int, list[frozenset[int] | None]],
) -> None:
    """Tried against all subsets: each closed one lies within, and it is closed itself, in parts that do not touch."""
    parts = deadlocked(graph)
    stuck = frozenset().union(*parts)
    subsets = (frozenset(each) for n in range(6) for each in itertools.combinations(graph, n))
    assert stuck == frozenset().union(*(each for each in subsets if closed(graph, each)))
    assert sum(map(len, parts)) == len(stuck)
    assert all(closed(graph, part) for part in parts)


async def resubmit(queue: Any, into: Any) -> None:
    """Take items and put two for each into a queue, which may be the same."""
    while True:
        item = await queue.get()
        await into.put(item)
        await into.put(item)
        queue.task_done()


@pytest.mark.parametrize("kind", KINDS)
def test_consumers_that_fill_their_own_queue(arun: ARun, kind: str) -> None:
    """Two consumers put back what they took while a producer fills the queue up: one finding, which says so."""

    async def main() -> None:
        queue = make_queue(kind, 2)
        async with detecting() as watch:
            consumers = [asyncio.create_task(resubmit(queue, queue)) for _ in range(2)]
            producer = asyncio.create_task(produce(queue, 10))
            finding = await watch.one(FindingKind.DEADLOCK)
            assert finding.queue == "orders"
            assert "'orders' is full (2), and all of its 2 consumers wait to put into it" in finding.sentence
            assert "resubmit() at" in finding.sentence
            assert "await into.put(item)" in finding.stack
            await ended(producer, *consumers)

    arun(main())


async def produce(queue: Any, count: int) -> None:
    """Put *count* items."""
    for number in range(count):
        await queue.put(number)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ring_of_queues(arun: ARun, kind: str) -> None:
    """Consumers of two queues put into each other's: one finding for both, through gather() and a child task too."""

    async def main() -> None:
        first, second = make_queue(kind, 1, name="first"), make_queue(kind, 1, name="second")

        async def hand_on() -> None:
            while True:
                item = await first.get()
                await asyncio.gather(asyncio.create_task(second.put(item)), second.put(item))

        async def hand_back() -> None:
            while True:
                item = await second.get()
                async with asyncio.TaskGroup() as group:
                    group.create_task(first.put(item))
                    group.create_task(first.put(item))

        async with detecting() as watch:
            tasks = [asyncio.create_task(each) for each in (hand_on(), hand_back(), produce(first, 10))]
            finding = await watch.one(FindingKind.DEADLOCK)
            assert "Queues 'first', 'second' are full, and all of their 2 consumers" in finding.sentence
            assert finding.facts["queues"] == "first, second"
            await ended(*tasks)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_whose_handler_puts_into_its_own_queue(arun: ARun, kind: str) -> None:
    """The workers of a pool are consumers like others."""

    async def main() -> None:
        queue = make_queue(kind, 1)

        async def twice(item: int) -> None:
            await queue.put(item)
            await queue.put(item)

        async with detecting() as watch:
            pool = WorkerPool(queue, twice, workers=2)
            pool.start()
            producer = asyncio.create_task(produce(queue, 10))
            finding = await watch.one(FindingKind.DEADLOCK)
            assert finding.facts["consumers"] == 2
            await ended(producer)
            await pool.stop(0)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_free_consumer_may_still_make_room(arun: ARun, kind: str) -> None:
    """Near miss: one consumer of three waits for something else, and will then take from the queue."""

    async def main() -> None:
        queue, gate = make_queue(kind, 1), asyncio.Event()

        async def slow() -> None:
            await queue.get()
            await gate.wait()

        async with detecting() as watch:
            free = asyncio.create_task(slow())
            queue.put_nowait(0)
            await asyncio.sleep(0)
            consumers = [asyncio.create_task(resubmit(queue, queue)) for _ in range(2)]
            producer = asyncio.create_task(produce(queue, 10))
            await watch.none()
            assert queue.full()
            await ended(producer, free, *consumers)

    arun(main())


@pytest.mark.parametrize("wait", ["timeout", "wait_for"])
def test_a_put_with_a_time_out_ends_by_itself(arun: ARun, wait: str) -> None:
    """Near miss: the consumers gave their put() a time-out."""

    async def main() -> None:
        queue = make_queue("drop-in", 1)

        async def patient() -> None:
            item = await queue.get()
            queue.put_nowait(item)
            if wait == "wait_for":
                await asyncio.wait_for(queue.put(item), 60)
            async with asyncio.timeout(60):
                await queue.put(item)

        async with detecting() as watch:
            consumer = asyncio.create_task(patient())
            producer = asyncio.create_task(produce(queue, 10))
            await watch.none()
            assert queue.full()
            await ended(producer, consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_queue_behind_one_that_somebody_empties(arun: ARun, kind: str) -> None:
    """Near miss: both queues are full, and the consumer of the second is slow, not blocked."""

    async def main() -> None:
        first, second, gate = make_queue(kind, 1, name="first"), make_queue(kind, 1, name="second"), asyncio.Event()

        async def slow() -> None:
            while True:
                await second.get()
                await gate.wait()

        async with detecting() as watch:
            tasks = [asyncio.create_task(each) for each in (resubmit(first, second), slow(), produce(first, 10))]
            await watch.none()
            assert first.full()
            assert second.full()
            await ended(*tasks)

    arun(main())


def test_it_is_told_again_when_it_comes_again(arun: ARun) -> None:
    """Room made from outside ends one deadlock; the next one is another."""

    async def main() -> None:
        queue = make_queue("drop-in", 1)

        async def help_out() -> None:
            await queue.get()

        async with detecting() as watch:
            consumer = asyncio.create_task(resubmit(queue, queue))
            producer = asyncio.create_task(produce(queue, 10))
            await watch.one(FindingKind.DEADLOCK)
            await asyncio.create_task(help_out())
            await watch.looks()
            assert len(watch.recorder.of(FindingKind.DEADLOCK)) == 2
            await ended(producer, consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_silent_where_somebody_of_whom_nothing_is_known_has_taken(
    arun: ARun, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took before the detectors began may take again, and end what looks like a deadlock."""
    monkeypatch.setattr(Follower, "unclear", lambda self, ledger: 1)

    async def main() -> None:
        queue = make_queue(kind, 2)
        async with detecting() as watch:
            consumers = [asyncio.create_task(resubmit(queue, queue)) for _ in range(2)]
            producer = asyncio.create_task(produce(queue, 10))
            await wait_until(lambda: len(queue._putters) == 3, description="all of them to wait for room")
            await watch.none()
            await ended(producer, *consumers)

    arun(main())


def test_a_long_pipeline_that_is_behind_is_looked_at_in_no_time() -> None:
    """Each queue waits for the next, and the last can go on: a queue and a step for each, not for each pair."""
    steps = 0

    class Counted(frozenset[int]):
        def __le__(self, other: Any) -> bool:
            nonlocal steps
            steps += 1
            return super().__le__(other)

    stages = 1000
    pipeline: dict[int, list[frozenset[int] | None]] = {n: [Counted({n + 1})] for n in range(stages)}
    assert deadlocked({**pipeline, stages: [None]}) == []
    assert steps <= 2 * stages
    assert deadlocked({**pipeline, stages: [frozenset({0})]}) == [frozenset(range(stages + 1))]
