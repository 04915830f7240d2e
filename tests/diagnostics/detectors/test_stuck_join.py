"""A join() is stuck when what is unfinished can never be settled, and not while somebody may settle it."""

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics.detectors.stuck_join import Join, why_stuck
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue

COUNTS = st.integers(0, 4)


@given(st.builds(Join, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
def test_a_join_that_the_known_consumers_can_finish_is_never_stuck(join: Join) -> None:
    """If those at work, and those who may be, settle all they hold, and takers take the rest, nothing is left."""
    left = join.unfinished
    if join.takers or join.active or join.unclear:
        left -= join.waiting
    if join.active or (join.takers and join.waiting):
        left -= join.open
    left -= join.unclear
    if left <= 0:
        assert why_stuck(join) == ""


@given(st.builds(Join, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
def test_more_unfinished_than_can_be_accounted_for_is_always_stuck(join: Join) -> None:
    """However busy the consumers are, they cannot settle what nobody has."""
    missing = join.unfinished > join.waiting + join.open + join.unclear
    assert (why_stuck(join) == "lost") is missing


async def joined(queue: Any) -> asyncio.Task[None]:
    """Start somebody who awaits join()."""

    async def drain() -> None:
        await queue.join()

    task = asyncio.create_task(drain(), name="drainer")
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_forgets_task_done_after_an_error(arun: ARun, kind: str) -> None:
    """It logs and goes on to the next get(): the finding names it, how many it has, and who waits."""

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            while True:
                item = await queue.get()
                if item % 2:
                    continue
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume(), name="worker-1")
            for number in range(4):
                queue.put_nowait(number)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.WARNING, "somebody else may have them"
            assert "join() of queue 'orders' does not return (awaited by 'drainer' (" in finding.sentence
            assert "drain() at" in finding.sentence
            assert "2 items were taken and have had no task_done() so far" in finding.sentence
            assert "'worker-1' (" in finding.sentence
            assert "consume) has 2" in finding.sentence
            assert "await queue.join()" in finding.stack
            await ended(joiner, consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_died_with_an_item(arun: ARun, kind: str) -> None:
    """Another one works on, but the item of the first is lost: its task, job and exception are named."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()

        async def dies() -> None:
            await queue.get()
            raise ValueError("bad item")

        async def busy() -> None:
            while True:
                await queue.get()
                await gate.wait()
                queue.task_done()

        async with detecting() as watch:
            dead = asyncio.create_task(dies(), name="worker-1")
            alive = asyncio.create_task(busy(), name="worker-2")
            queue.put_nowait(1)
            await asyncio.wait([dead])
            queue.put_nowait(2)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.ERROR
            assert "join() of queue 'orders' cannot finish" in finding.sentence
            assert "1 of 2 unfinished items has left the queue and never had a task_done()" in finding.sentence
            assert "taken by asyncio task 'worker-1' (" in finding.sentence
            assert "which ended with ValueError" in finding.sentence
            assert isinstance(dead.exception(), ValueError)
            await ended(joiner, alive)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_consumer_died_with_an_item(arun: ARun, kind: str) -> None:
    """What it took is lost, and what waits will wait for ever: both are said."""

    async def main() -> None:
        queue = make_queue(kind)

        async def dies() -> None:
            await queue.get()
            raise ValueError("bad item")

        async with detecting() as watch:
            dead = asyncio.create_task(dies(), name="worker-1")
            for number in range(3):
                queue.put_nowait(number)
            await asyncio.wait([dead])
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert "1 of 3 unfinished items has left the queue and never had a task_done()" in finding.sentence
            assert "; 2 more wait, and no consumer is left: catch what one item raises. Call task" in finding.sentence
            assert isinstance(dead.exception(), ValueError)
            await ended(joiner)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_wait_when_no_consumer_is_left(arun: ARun, kind: str) -> None:
    """The only consumer ended properly after one item, and two wait."""

    async def main() -> None:
        queue = make_queue(kind)

        async def once() -> None:
            await queue.get()
            queue.task_done()

        async with detecting() as watch:
            for number in range(3):
                queue.put_nowait(number)
            await asyncio.create_task(once())
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert "2 items wait in it, and nobody takes from it now" in finding.sentence
            assert finding.level == logging.WARNING, "a supervisor may start another one"
            await ended(joiner)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_how_the_last_consumer_ended_is_told_though_it_had_settled_its_job(arun: ARun, kind: str) -> None:
    """It raised with a task_done() in its `finally:`, and is long gone; a supervisor may start another one."""

    async def main() -> None:
        queue = make_queue(kind)

        async def fails() -> None:
            await queue.get()
            try:
                raise OSError("database away")
            finally:
                queue.task_done()

        async with detecting() as watch:
            queue.put_nowait(1)
            queue.put_nowait(2)
            await asyncio.gather(asyncio.create_task(fails(), name="worker-1"), return_exceptions=True)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.WARNING
            assert (
                "1 item waits in it, and nobody takes from it now. Of its consumers, 'worker-1' (" in finding.sentence
            )
            assert "fails) ended with OSError. Unless another one is about to come" in finding.sentence
            await ended(joiner)

    arun(main())


def test_consumers_that_were_cancelled_are_told(arun: ARun) -> None:
    """Looks saw them while they were alive; of many only some are named, and nothing of them is kept."""

    async def main() -> None:
        queue = make_queue("drop-in")

        async def consume() -> None:
            while True:
                await queue.get()
                queue.task_done()

        async with detecting() as watch:
            consumers = [asyncio.create_task(consume(), name=f"worker-{number}") for number in range(50)]
            queue.put_nowait(1)
            await watch.looks(2)
            gone = [weakref.ref(each) for each in consumers]
            await ended(*consumers)
            del consumers
            queue.put_nowait(1)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.sentence.count("was cancelled") == 3
            gc.collect()
            assert [each() for each in gone] == [None] * 50
            await ended(joiner)

    arun(main())


def test_nobody_waits_for_the_end_of_consumers_after_stop(arun: ARun) -> None:
    """Their callbacks are as they were."""

    async def main() -> None:
        queue = make_queue("drop-in")
        consumer = asyncio.create_task(queue.get())
        async with detecting() as watch:
            await watch.looks(2)
            during = len(consumer._callbacks)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        after = len(consumer._callbacks or ())  # type: ignore[attr-defined]
        assert during - after == 1
        await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_nobody_has_ever_taken(arun: ARun, kind: str) -> None:
    """The commonest error of all: the consumers were never started."""

    async def main() -> None:
        queue = make_queue(kind)
        async with detecting() as watch:
            queue.put_nowait(1)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.WARNING
            assert "does not return" in finding.sentence
            assert "1 item waits in it, and nobody has taken any so far" in finding.sentence
            await ended(joiner)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_may_have_handed_its_item_on(arun: ARun, kind: str) -> None:
    """It returned: who has the item now may settle it, and does."""

    async def main() -> None:
        queue = make_queue(kind)

        async def hands_on() -> None:
            await queue.get()

        async with detecting() as watch:
            queue.put_nowait(1)
            await asyncio.create_task(hands_on(), name="worker-1")
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.WARNING
            assert "does not return" in finding.sentence
            assert "1 of 1 unfinished item has left the queue and had no task_done() so far" in finding.sentence
            assert "taken by asyncio task 'worker-1' (" in finding.sentence
            assert "which has returned" in finding.sentence
            queue.task_done()
            await joiner

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_was_cancelled_with_an_item(arun: ARun, kind: str) -> None:
    """The next one takes what comes, but not what the first had."""

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            while True:
                await queue.get()
                await asyncio.sleep(60)

        async with detecting() as watch:
            consumer = asyncio.create_task(consume(), name="worker-1")
            queue.put_nowait(1)
            await watch.looks(2)
            await ended(consumer)
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert finding.level == logging.WARNING
            assert "1 of 1 unfinished item has left the queue" in finding.sentence
            assert "which was cancelled. Call task_done()" in finding.sentence
            await ended(joiner)

    arun(main())


def test_items_removed_behind_its_back(arun: ARun) -> None:
    """clear() of the container leaves them unfinished."""

    async def main() -> None:
        queue = make_queue("drop-in")
        async with detecting() as watch:
            queue.put_nowait(1)
            queue._queue.clear()
            joiner = await joined(queue)
            finding = await watch.one(FindingKind.STUCK_JOIN)
            assert "1 of 1 unfinished item has left the queue" in finding.sentence
            assert "1 item was removed through queue._queue" in finding.sentence
            await ended(joiner)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_at_work_may_still_settle(arun: ARun, kind: str) -> None:
    """Near miss: it takes long, and then calls task_done()."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()

        async def consume() -> None:
            while True:
                await queue.get()
                await gate.wait()
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            queue.put_nowait(2)
            joiner = await joined(queue)
            await watch.none()
            gate.set()
            await joiner
            await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_children_of_a_dispatcher_may_still_settle(arun: ARun, kind: str) -> None:
    """Near miss: the dispatcher waits in get(), and each item has a task of its own."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()
        children: set[asyncio.Task[None]] = set()

        async def handle() -> None:
            await gate.wait()
            queue.task_done()

        async def dispatch() -> None:
            while True:
                await queue.get()
                children.add(asyncio.create_task(handle()))

        async with detecting() as watch:
            dispatcher = asyncio.create_task(dispatch())
            queue.put_nowait(1)
            queue.put_nowait(2)
            joiner = await joined(queue)
            await watch.none()
            gate.set()
            await joiner
            await ended(dispatcher, *children)

    arun(main())


def test_a_batch_that_is_flushed_after_a_time_out(arun: ARun) -> None:
    """Near miss: the consumer waits for more with a time-out, and settles what it has when that is over."""

    async def main() -> None:
        queue = make_queue("drop-in", 0)

        async def batches() -> None:
            await queue.get()
            async with asyncio.timeout(60):
                await queue.get()

        async with detecting() as watch:
            consumer = asyncio.create_task(batches())
            queue.put_nowait(1)
            joiner = await joined(queue)
            await watch.none()
            await ended(joiner, consumer)

    arun(main())


def test_takes_of_another_task_may_be_settled_by_whoever_asked_it(arun: ARun) -> None:
    """Near miss: create_task(get()) takes, and its parent calls task_done() when it has done the work."""

    async def main() -> None:
        queue, gate = make_queue("drop-in"), asyncio.Event()

        async def consume() -> None:
            await asyncio.create_task(queue.get())
            await gate.wait()
            queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            joiner = await joined(queue)
            await watch.none()
            gate.set()
            await asyncio.gather(joiner, consumer)

    arun(main())


def test_a_pools_jobs_from_before_the_detectors_are_settled_by_it(arun: ARun) -> None:
    """Near miss: its workers took them while nobody followed."""

    async def main() -> None:
        queue, gate = make_queue("drop-in"), asyncio.Event()

        async def handle(_: int) -> None:
            await gate.wait()

        async with WorkerPool(queue, handle, workers=2):
            for number in range(4):
                queue.put_nowait(number)
            await asyncio.sleep(0)
            async with detecting() as watch:
                joiner = await joined(queue)
                await watch.none()
                gate.set()
                await joiner

    arun(main())


def test_jobs_from_before_the_detectors_may_be_settled(arun: ARun) -> None:
    """Near miss: what was taken while nobody followed is known as a number only."""

    async def main() -> None:
        queue, gate = make_queue("drop-in"), asyncio.Event()

        async def consume() -> None:
            await queue.get()
            await gate.wait()
            queue.task_done()

        consumer = asyncio.create_task(consume())
        queue.put_nowait(1)
        await asyncio.sleep(0)
        async with detecting() as watch:
            joiner = await joined(queue)
            await watch.none()
            gate.set()
            await asyncio.gather(joiner, consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_at_work(arun: ARun, kind: str) -> None:
    """Near miss: handlers that take long."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()

        async def handle(_: int) -> None:
            await gate.wait()

        async with detecting() as watch, WorkerPool(queue, handle, workers=2):
            for number in range(4):
                queue.put_nowait(number)
            joiner = await joined(queue)
            await watch.none()
            gate.set()
            await joiner

    arun(main())


def test_a_second_join_is_another_occurrence(arun: ARun) -> None:
    """Once per join(), not once per queue."""

    async def main() -> None:
        queue = make_queue("drop-in")
        async with detecting() as watch:
            queue.put_nowait(1)
            queue._queue.clear()
            await ended_after(await joined(queue), watch, 1)
            await watch.looks(2)
            await ended_after(await joined(queue), watch, 2)

    async def ended_after(joiner: asyncio.Task[None], watch: Any, findings: int) -> None:
        await watch.looks(10)
        assert len(watch.recorder.of(FindingKind.STUCK_JOIN)) == findings
        await ended(joiner)

    arun(main())
