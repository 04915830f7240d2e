"""A consumer that was cancelled and goes on is found; one that cleans up, or was not meant, is left alone."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics.detectors import swallowed_cancellation
from otel_sched.diagnostics.detectors.swallowed_cancellation import goes_on
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue


@given(st.booleans(), st.none() | st.integers(0, 2), st.none() | st.integers(0, 2))
def test_it_has_gone_on_when_it_waits_for_more_or_has_another_job(
    idle: bool, before: int | None, now: int | None
) -> None:
    """At the job in which it was cancelled, or at none, it may be cleaning up."""
    assert goes_on(idle, before, now) is (idle or (now is not None and now != before))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_except_round_the_work(arun: ARun, kind: str) -> None:
    """Cancelled at work, it goes back to get(): the finding names it and where it is; again when cancelled again."""

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            while True:
                item = await queue.get()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
                if item == "last":
                    return
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume(), name="worker-1")
            queue.put_nowait(1)
            await watch.looks(2)
            consumer.cancel()
            finding = await watch.one(FindingKind.SWALLOWED_CANCELLATION)
            assert "Asyncio task 'worker-1' (" in finding.sentence
            assert "consume) was cancelled and goes on waiting for jobs of queue 'orders'" in finding.sentence
            assert "s. An `except` or `finally` in it swallows CancelledError: let it pass" in finding.sentence
            assert "await queue.get()" in finding.stack
            queue.put_nowait(2)
            await watch.looks(2)
            consumer.cancel()
            await watch.looks(12)
            assert len(watch.recorder.findings) == 2
            queue.put_nowait("last")
            await watch.looks(2)
            consumer.cancel()
            await consumer

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_of_a_pool_that_is_busy_again(arun: ARun, kind: str) -> None:
    """Its handler swallowed the cancellation, and it goes from job to job."""

    async def main() -> None:
        queue, gates = make_queue(kind), [asyncio.Event() for _ in range(3)]

        async def handle(number: int) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await gates[number].wait()

        async with detecting() as watch:
            pool = WorkerPool(queue, handle, workers=1)
            pool.start()
            for number in range(3):
                queue.put_nowait(number)
            await watch.looks(2)
            worker: Any = pool._workers[0].task
            worker.cancel()
            await watch.none()  # it may be cleaning up, for all that can be seen
            gates[1].set()
            finding = await watch.one(FindingKind.SWALLOWED_CANCELLATION)
            assert "Asyncio task 'orders-0' (handle) was cancelled and goes on with other jobs" in finding.sentence
            assert "Unless it finishes on purpose what is left in the queue, an `except`" in finding.sentence
            assert watch.recorder.jobs != [None]
            gates[2].set()
            await pool.stop()

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_cleaning_up_takes_its_time(arun: ARun, kind: str) -> None:
    """Near miss: the consumer waits in its `finally`, at the job in which it was cancelled."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()

        async def consume() -> None:
            while True:
                await queue.get()
                try:
                    await asyncio.sleep(60)
                finally:
                    await gate.wait()
                    queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            await watch.looks(2)
            consumer.cancel()
            await watch.none()
            assert not consumer.done()
            gate.set()
            await asyncio.wait([consumer])

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancellation_that_was_taken_back_or_meant_for_a_block(arun: ARun, kind: str) -> None:
    """Near miss: uncancel(), and a time-out, which cancels the task it runs in."""

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            while True:
                item = await queue.get()
                try:
                    async with asyncio.timeout(0.001 if item == "timeout" else None):
                        await asyncio.sleep(60)
                except TimeoutError:
                    pass
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait("timeout")
            queue.put_nowait("work")
            await watch.looks(4)
            consumer.cancel()
            await watch.none()
            assert queue._unfinished_tasks == 0
            await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("followed", [True, False])
def test_a_consumer_that_never_had_a_job(arun: ARun, kind: str, followed: bool) -> None:
    """It waits in get(), also from before the detectors began: that makes it a consumer."""

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await queue.get()
            await queue.get()

        consumer = asyncio.create_task(consume(), name="worker-1")
        if not followed:
            await asyncio.sleep(0)
        async with detecting() as watch:
            await watch.looks(2)
            consumer.cancel()
            finding = await watch.one(FindingKind.SWALLOWED_CANCELLATION)
            assert "Asyncio task 'worker-1' (" in finding.sentence
            assert "was cancelled and goes on waiting for jobs of queue 'orders'" in finding.sentence
            await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_drains_its_queue(arun: ARun, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near miss: it gets through what is left without waiting, for longer than patience, and ends."""
    monkeypatch.setattr(swallowed_cancellation, "DRAINING", 10_000)  # a busy machine may take its time

    async def main() -> None:
        queue = make_queue(kind)

        async def consume() -> None:
            try:
                while True:
                    await queue.get()
                    queue.task_done()
            except asyncio.CancelledError:
                while not queue.empty():
                    await queue.get()
                    await watch.looks(3)
                    queue.task_done()
                raise

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(0)
            await queue.join()
            await watch.looks(2)
            consumer.cancel()
            for number in range(6):
                queue.put_nowait(number)
            await asyncio.wait([consumer])
            assert not queue._unfinished_tasks
            assert watch.recorder.findings == []

    arun(main())
