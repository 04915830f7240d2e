"""A task that a job started and left behind is found, with the job; one that the job waits for is not."""

import asyncio
import contextvars
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_sched import WorkerPool
from otel_sched._core.finding import FindingKind
from otel_sched._core.job import Job, Outcome
from otel_sched.diagnostics.detectors.outlived import level_of, outlives
from tests.conftest import ARun
from tests.support.detecting import KINDS, detecting, ended, make_queue


@given(st.booleans(), st.booleans(), st.none() | st.sampled_from([None, *Outcome]))
def test_only_an_inherited_job_that_is_over_is_outlived(takes: bool, inherited: bool, outcome: Outcome | None) -> None:
    """A consumer's own job is not: it goes on to the next."""
    job: Job[Any] = Job()
    job.outcome = outcome
    assert outlives(takes, inherited, job) is (inherited and not takes and outcome is not None)
    assert outlives(takes, inherited, None) is (inherited and not takes)


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_many_that_many_jobs_have_left_are_a_leak(tasks: int, jobs: int) -> None:
    """One client with many connections is none, and nor are a few clients."""
    leak = tasks >= 5 and jobs > 1
    assert level_of(tasks, jobs) == (logging.WARNING if leak else logging.INFO)


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
            assert finding.level == logging.INFO, "one that stays is rarely a problem"
            assert "create_task(..., context=contextvars.Context())" in finding.sentence
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_leak_is_told_when_it_has_doubled(arun: ARun, kind: str) -> None:
    """One line for all tasks of a kind, with their number; not one for each."""

    async def main() -> None:
        queue = make_queue(kind)
        left: list[asyncio.Task[None]] = []

        async def leaks(_: int) -> None:
            left.append(asyncio.create_task(forever(), name=f"left-{len(left)}"))

        async def leak(number: int) -> None:
            for _ in range(number):
                queue.put_nowait(0)
            await queue.join()
            await watch.looks(12)

        async with detecting(patience=0.0) as watch, WorkerPool(queue, leaks, workers=1):
            await leak(6)
            await watch.one(FindingKind.OUTLIVED)
            await leak(5)
            finding = await watch.one(FindingKind.OUTLIVED)
            assert "6 asyncio tasks (forever) were started in 6 jobs of queue 'orders' (" in finding.sentence
            assert "leaks) and still run" in finding.sentence
            assert f"; '{finding.facts['task']}' waits in forever() at {__file__}:" in finding.sentence
            assert finding.level == logging.WARNING
            await leak(1)
            first, second = watch.recorder.of(FindingKind.OUTLIVED)
            assert (first.facts["tasks"], second.facts["tasks"], second.facts["jobs"]) == (6, 12, 12)
            assert "when this was last told there were 6" in second.sentence
            await ended(*left)

    arun(main())


def test_the_tasks_of_one_client(arun: ARun) -> None:
    """All are of the job that opened it: one line, and no alarm; again and again new connections are none either."""

    async def main() -> None:
        queue = make_queue("drop-in")
        opened, wanted = list[asyncio.Task[None]](), asyncio.Queue[int]()

        async def serve() -> None:
            while True:
                for _ in range(await wanted.get()):
                    opened.append(asyncio.create_task(forever()))

        async def opens(_: int) -> None:
            opened.append(asyncio.create_task(serve()))

        async with detecting(patience=0.0) as watch, WorkerPool(queue, opens, workers=1):
            queue.put_nowait(0)
            await watch.looks(12)
            for _ in range(3):
                wanted.put_nowait(7)
                await watch.looks(12)
                await ended(*opened[1:])
                del opened[1:]
                await watch.looks(2)
            server, connections = watch.recorder.of(FindingKind.OUTLIVED)
            assert (server.level, connections.level) == (logging.INFO, logging.INFO)
            assert "7 asyncio tasks (forever) were started in 1 job of queue 'orders'" in connections.sentence
            await ended(*opened)

    arun(main())
