"""An exception that nobody asked for is tied to its job, and goes on to whoever was told of it before."""

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics.detectors.lost_exception import lost_task
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.support.detecting import KINDS, Watch, detecting, ended, make_queue

NOTHING = st.none() | st.integers() | st.text() | st.builds(ValueError)


@given(st.dictionaries(st.sampled_from(["message", "future", "task", "exception"]), NOTHING) | NOTHING)
def test_what_is_no_lost_task_is_none(context: Any) -> None:
    """Whatever a program gives to call_exception_handler()."""
    assert lost_task(context) is None


async def fail() -> None:
    """Raise."""
    raise ValueError("no such order")


def quiet(seen: list[Any]) -> None:
    """Give the running loop an exception handler that keeps messages."""

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.append(context["message"])

    asyncio.get_running_loop().set_exception_handler(handler)


async def found(watch: Watch) -> Any:
    """Collect garbage until there is a finding."""

    def collected() -> bool:
        gc.collect()
        return bool(watch.recorder.findings)

    await wait_until(collected, description="a finding")
    return await watch.one(FindingKind.LOST_EXCEPTION)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_child_of_a_job(arun: ARun, kind: str) -> None:
    """The child, the job's queue and function, and the traceback; the program's own handler is called as before."""

    async def main() -> None:
        seen: list[str] = []
        quiet(seen)
        queue = make_queue(kind)

        async def consume() -> None:
            while True:
                await queue.get()
                asyncio.create_task(fail(), name="child")  # noqa: RUF006
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            finding = await found(watch)
            assert finding.queue == "orders"
            assert "Asyncio task 'child' (fail) was started in a job of queue 'orders' (" in finding.sentence
            assert "failed with ValueError: no such order" in finding.sentence
            assert "raise ValueError" in finding.stack
            assert seen == ["Task exception was never retrieved"]
            await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_of_a_pools_job(arun: ARun, kind: str) -> None:
    """While the job runs on, its id is known."""

    async def main() -> None:
        quiet([])
        queue, gate = make_queue(kind), asyncio.Event()

        async def handle(_: int) -> None:
            asyncio.create_task(fail())  # noqa: RUF006
            await gate.wait()

        async with detecting() as watch, WorkerPool(queue, handle, workers=1):
            queue.put_nowait(1)
            finding = await found(watch)
            assert finding.facts["job"].endswith("handle")
            assert f"was started in job {finding.facts['id']} of queue 'orders'" in finding.sentence
            gate.set()

    arun(main())


def test_a_consumer_that_died(arun: ARun) -> None:
    """The one that took the job is told from those that were started in it."""

    async def main() -> None:
        quiet([])
        queue = make_queue("drop-in")

        async def consume() -> None:
            await queue.get()
            await fail()

        async with detecting() as watch:
            asyncio.create_task(consume(), name="worker-1")  # noqa: RUF006
            queue.put_nowait(1)
            finding = await found(watch)
            assert "consume) took a job of queue 'orders' and failed with ValueError" in finding.sentence

    arun(main())


def test_exceptions_that_somebody_asked_for_or_that_no_job_started(arun: ARun) -> None:
    """Near misses: awaited later, cancelled, and a task that has nothing to do with jobs."""

    async def main() -> None:
        seen: list[str] = []
        quiet(seen)
        queue = make_queue("drop-in")
        children: list[asyncio.Task[None]] = []

        async def consume() -> None:
            while True:
                await queue.get()
                children.append(asyncio.create_task(fail()))
                children.append(asyncio.create_task(asyncio.sleep(60)))
                children[-1].cancel()
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            asyncio.create_task(fail())  # noqa: RUF006
            queue.put_nowait(1)
            await watch.none()
            await asyncio.gather(*children, return_exceptions=True)
            children.clear()
            gc.collect()
            await watch.none()
            assert seen == ["Task exception was never retrieved"]
            await ended(consumer)

    arun(main())


def test_the_handler_that_was_there_comes_back(arun: ARun) -> None:
    """After stop() the loop is as it was; a handler that was set meanwhile stays, is called once, and reports once."""

    async def main() -> None:
        loop, seen, outer = asyncio.get_running_loop(), [], []
        async with detecting():
            assert loop.get_exception_handler() is not None
        assert loop.get_exception_handler() is None
        quiet(seen)
        before = loop.get_exception_handler()
        queue = make_queue("drop-in")

        async def consume() -> None:
            await queue.get()
            asyncio.create_task(fail())  # noqa: RUF006
            await asyncio.sleep(60)

        async with detecting() as watch:
            ours: Any = loop.get_exception_handler()

            def theirs(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
                outer.append(context["message"])
                ours(loop, context)

            loop.set_exception_handler(theirs)
            await watch.looks(3)
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            await found(watch)
            assert seen == outer == ["Task exception was never retrieved"]
            await ended(consumer)
        assert loop.get_exception_handler() is theirs
        loop.set_exception_handler(before)

    arun(main())
