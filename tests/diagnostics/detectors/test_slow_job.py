"""A job is slow when it runs far longer than its kind does: where, by whom, and against which measure."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import Queue, WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics.detectors.slow_job import DOUBT, limit
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """A queue, a clock, and a handler whose jobs take what their item says; None waits for ever."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.clock = Hand()
        self.queue = make_queue(kind, clock=self.clock, **options)
        self.gate = asyncio.Event()

    async def charge(self, seconds: float | None) -> None:
        if seconds is None:
            await self.gate.wait()
        else:
            self.clock.now += seconds

    async def consume(self) -> None:
        while True:
            await self.charge(await self.queue.get())
            self.queue.task_done()

    async def history(self, count: int = 100, seconds: float = 1.0) -> None:
        for _ in range(count):
            self.queue.put_nowait(seconds)
        await self.queue.join()


@given(st.none() | st.floats(0.0, 1e6), st.floats(1.0, 100.0), st.floats(0.0, 10.0))
def test_the_limit_is_a_multiple_of_the_p99_and_never_too_short(p99: float | None, factor: float, least: float) -> None:
    """Without a p99 there is none."""
    found = limit(p99, factor, least)
    assert found == (None if p99 is None else max(least, factor * p99))


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_far_beyond_its_p99(arun: ARun, kind: str) -> None:
    """It is told of once, while it runs, with its stack, its task and the place where it waits."""

    async def main() -> None:
        shop = Shop(kind)
        async with detecting() as watch:
            consumer = asyncio.create_task(shop.consume(), name="worker-1")
            await shop.history()
            shop.queue.put_nowait(None)
            await watch.looks(2)
            shop.clock.now += 5.6
            finding = await watch.one(FindingKind.SLOW_JOB)
            assert "has been running for 5.6 s in asyncio task 'worker-1' (Shop.consume)" in finding.sentence
            assert "of the last 100 such jobs that have ended, 99 of 100 took 1 s at most" in finding.sentence
            assert f"It waits in Shop.charge() at {__file__}:" in finding.sentence
            assert "await self.gate.wait()" in finding.stack
            assert finding.facts["job"] == "Shop.consume"
            assert watch.recorder.jobs == [finding.facts["job_id"]]
            await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("carry", [None, "context"])
def test_a_job_of_a_pool(arun: ARun, kind: str, carry: Any) -> None:
    """The pool's worker is found, also where the handler runs in the producer's context."""

    async def main() -> None:
        shop = Shop(kind)
        if carry:
            shop.queue = Queue[Any](name="orders", clock=shop.clock, carry=carry)
        async with detecting() as watch:
            pool = WorkerPool(shop.queue, shop.charge, workers=1)
            pool.start()
            await shop.history()
            shop.queue.put_nowait(None)
            await watch.looks(2)
            shop.clock.now += 5.6
            finding = await watch.one(FindingKind.SLOW_JOB)
            assert (
                "(Shop.charge) has been running for 5.6 s in asyncio task 'orders-0' (Shop.charge)" in finding.sentence
            )
            assert "await self.gate.wait()" in finding.stack
            await pool.stop(0)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_within_its_limit(arun: ARun, kind: str) -> None:
    """Near miss: 4.9 times the p99 is long, but not five times."""

    async def main() -> None:
        shop = Shop(kind)
        async with detecting() as watch:
            consumer = asyncio.create_task(shop.consume())
            await shop.history()
            shop.queue.put_nowait(None)
            await watch.looks(2)
            shop.clock.now += 4.9
            await watch.none()
            await ended(consumer)

    arun(main())


def test_too_little_history(arun: ARun) -> None:
    """Near miss: of 99 jobs nobody knows how long the hundredth may take."""

    async def main() -> None:
        shop = Shop("drop-in")
        async with detecting() as watch:
            consumer = asyncio.create_task(shop.consume())
            await shop.history(99)
            shop.queue.put_nowait(None)
            await watch.looks(2)
            shop.clock.now += 1000.0
            await watch.none()
            await ended(consumer)

    arun(main())


def test_quick_jobs_may_take_a_second(arun: ARun) -> None:
    """Near miss: nine hundred times the p99, and still nothing that anybody would look at."""

    async def main() -> None:
        shop = Shop("drop-in")
        async with detecting() as watch:
            consumer = asyncio.create_task(shop.consume())
            await shop.history(seconds=0.001)
            shop.queue.put_nowait(None)
            await watch.looks(2)
            shop.clock.now += 0.9
            await watch.none()
            await ended(consumer)

    arun(main())


def test_a_consumer_that_waits_for_its_next_job_runs_none(arun: ARun) -> None:
    """Near miss: nobody has called task_done() so far, so its last job is open; but it has gone on to get()."""

    async def main() -> None:
        known, shop = Shop("drop-in"), Shop("drop-in")  # of one name, and so of one history

        async def consume(shop: Shop) -> None:
            while True:
                await shop.charge(await shop.queue.get())
                if shop is known:
                    shop.queue.task_done()

        async with detecting() as watch:
            consumers = [asyncio.create_task(consume(each)) for each in (known, shop)]
            await known.history()
            shop.queue.put_nowait(1.0)
            await watch.looks(3)
            assert len(shop.queue._otel_ledger.open) == 1
            shop.clock.now += 1000.0
            await watch.none()
            await ended(*consumers)

    arun(main())


class Crowd:
    """Jobs of one kind by several consumers: every so many takes until its gate opens, the others a moment."""

    def __init__(self, consumers: int) -> None:
        self.clock = Hand()
        self.queue = make_queue("drop-in", clock=self.clock)
        self.gate = asyncio.Event()
        self.consumers = [asyncio.create_task(self.consume()) for _ in range(consumers)]

    async def consume(self) -> None:
        while True:
            if await self.queue.get():
                await self.gate.wait()
            self.clock.now += 0.001
            self.queue.task_done()

    async def take(self, items: list[bool]) -> None:
        """Have all of *items* taken, the quick ones done too."""
        for item in items:
            self.queue.put_nowait(item)
            await wait_until(lambda: not self.queue.qsize(), description="the item to be taken")
            await asyncio.sleep(0)


ONE_OF_FORTY = ([False] * 39 + [True]) * 6


def test_those_that_run_are_part_of_their_kind_before_the_first_slow_one_has_ended(arun: ARun) -> None:
    """Near miss: one job of forty is slow by nature, and of those that have ended so far not one was."""

    async def main() -> None:
        async with detecting() as watch:
            crowd = Crowd(8)
            await crowd.take(ONE_OF_FORTY)
            await watch.looks(2)
            crowd.clock.now += 2.0
            await watch.none()
            assert len(crowd.queue._otel_ledger.open) == 6
            await ended(*crowd.consumers)

    arun(main())


def test_two_of_some_hundreds_say_nothing(arun: ARun) -> None:
    """Near miss: less than one of a hundred, as far as has been seen; but what was seen is little."""

    async def main() -> None:
        async with detecting() as watch:
            crowd = Crowd(3)
            await crowd.take([False] * 110 + [True] + [False] * 90 + [True])
            await watch.looks(2)
            crowd.clock.now += 2.0
            await watch.none()
            await crowd.take([False] * 100)
            await watch.none()
            await crowd.take([False] * 400)
            await wait_until(lambda: watch.recorder.findings, description="a finding, now that there are many")
            await ended(*crowd.consumers)

    arun(main())


def test_one_that_is_slow_by_nature_is_slow_after_a_minute(arun: ARun) -> None:
    """There is an end to the doubt: nobody waits for a hundred of them to end."""

    async def main() -> None:
        async with detecting() as watch:
            crowd = Crowd(8)
            await crowd.take(ONE_OF_FORTY)
            await watch.looks(2)
            crowd.clock.now += DOUBT + 1.0
            await wait_until(lambda: watch.recorder.findings, description="a finding")
            assert "99 of 100 took" in watch.recorder.findings[0].sentence
            await ended(*crowd.consumers)

    arun(main())


def test_consumers_that_all_hang_at_once(arun: ARun) -> None:
    """They are more than one of a hundred too; but nothing that was taken since the first of them has ended."""

    async def main() -> None:
        async with detecting() as watch:
            crowd = Crowd(4)
            await crowd.take([False] * 150 + [True] * 4)
            await watch.looks(2)
            crowd.clock.now += 2.0
            await wait_until(lambda: len(watch.recorder.findings) == 4, description="a finding for each")
            await watch.looks()
            assert {each.kind for each in watch.recorder.findings} == {FindingKind.SLOW_JOB}
            assert len(watch.recorder.findings) == 4
            await ended(*crowd.consumers)

    arun(main())
