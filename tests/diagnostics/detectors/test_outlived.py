"""A task that a job started and left behind is found, with the job; one that the job waits for is not."""

import asyncio
import contextvars
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched._core.job import Job, Outcome
from otel_sched.diagnostics.detectors.outlived import outlives
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue


@given(st.booleans(), st.booleans(), st.none() | st.sampled_from([None, *Outcome]))
def test_only_an_inherited_job_that_is_over_is_outlived(takes: bool, inherited: bool, outcome: Outcome | None) -> None:
    """A consumer's own job is not: it goes on to the next."""
    job: Job[Any] = Job()
    job.outcome = outcome
    assert outlives(takes, inherited, job) is (inherited and not takes and outcome is not None)
    assert outlives(takes, inherited, None) is (inherited and not takes)


async def forever() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_nobody_awaits(arun: ARun, kind: str) -> None:
    """Started in a job that was over at once: named with its queue, the job's function, and where it waits."""

    async def main() -> None:
        queue = make_queue(kind)
        left: list[asyncio.Task[None]] = []

        async def consume() -> None:
            while True:
                await queue.get()
                left.append(asyncio.create_task(forever(), name="background"))
                queue.task_done()

        async with detecting() as watch:
            consumer = asyncio.create_task(consume())
            queue.put_nowait(1)
            finding = await watch.one(FindingKind.OUTLIVED)
            assert finding.queue == "orders"
            assert "Asyncio task 'background' (forever) was started in a job of queue 'orders' (" in finding.sentence
            assert "consume) and still runs" in finding.sentence
            assert f"it waits in forever() at {__file__}:" in finding.sentence
            assert "create_future()" in finding.stack
            await ended(consumer, *left)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_left_by_a_handler_of_a_pool(arun: ARun, kind: str) -> None:
    """The job was seen while it ran: its id is told."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()
        left: list[asyncio.Task[None]] = []

        async def handle(_: int) -> None:
            left.append(asyncio.create_task(forever()))
            await gate.wait()

        async with detecting() as watch, WorkerPool(queue, handle, workers=1):
            queue.put_nowait(1)
            await watch.none()
            gate.set()
            finding = await watch.one(FindingKind.OUTLIVED)
            assert finding.facts["job"].endswith("handle")  # type: ignore[union-attr]
            assert f"was started in job {finding.facts['id']} of queue 'orders'" in finding.sentence
            await ended(*left)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_that_end_with_their_job(arun: ARun, kind: str) -> None:
    """Near miss: a TaskGroup in the job, and children of a dispatcher that call task_done() themselves."""

    async def main() -> None:
        queue, gate = make_queue(kind), asyncio.Event()
        children: list[asyncio.Task[None]] = []

        async def child() -> None:
            await gate.wait()
            queue.task_done()
            await forever()  # after its own task_done() it is nobody's child any more

        async def dispatch() -> None:
            while True:
                if await queue.get() == "child":
                    children.append(asyncio.create_task(child()))
                else:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(gate.wait())
                    queue.task_done()

        async with detecting() as watch:
            dispatcher = asyncio.create_task(dispatch())
            queue.put_nowait("child")
            queue.put_nowait("group")
            await watch.none()
            gate.set()
            await watch.none()
            await ended(dispatcher, *children)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_that_were_not_started_in_the_job(arun: ARun, kind: str) -> None:
    """Near miss: between two jobs, in an empty context, and consumers and pools of their own."""

    async def main() -> None:
        queue = make_queue(kind)
        tasks: list[asyncio.Task[Any]] = []

        async def consume() -> None:
            await queue.get()
            tasks.append(asyncio.create_task(forever(), context=contextvars.Context()))
            tasks.append(asyncio.create_task(consume_another()))
            await asyncio.sleep(0)
            queue.task_done()
            tasks.append(asyncio.create_task(forever()))
            await forever()

        async def consume_another() -> None:
            await queue.get()

        async with detecting() as watch:
            tasks.append(asyncio.create_task(consume()))
            queue.put_nowait(1)
            await watch.looks(2)
            await watch.none()
            assert len(tasks) == 4
            await ended(*tasks)

    arun(main())
