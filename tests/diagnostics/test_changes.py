"""Two snapshots compared: what is new, gone, and has not moved."""

import asyncio
import contextlib
import gc
import json
from dataclasses import replace
from typing import Any

import pytest

from otel_sched import Queue, WorkerPool
from otel_sched.diagnostics import Diff, Dump, diff, dump, snapshot, start
from otel_sched.testing import run
from tests.diagnostics.test_dumps import cancelled, followed


def changed() -> Diff:
    """Return what changes where one worker hangs in a job and others work, come, go and idle."""

    async def main() -> Diff:
        orders, stuck = followed("busy"), followed("stuck")
        stuck.put_nowait(1)
        stuck.put_nowait(2)

        async def works() -> None:
            while True:
                await orders.get()
                orders.task_done()

        async def hangs() -> None:
            await stuck.get()
            await asyncio.Event().wait()

        tasks = [
            asyncio.create_task(works(), name="worker"),
            asyncio.create_task(hangs(), name="hangs"),
            asyncio.create_task(Queue[int](name="idle").get(), name="waits for work"),
        ]
        ends = asyncio.create_task(asyncio.sleep(1), name="ends")
        await asyncio.sleep(0)
        before = snapshot()
        await ends
        for each in range(5):
            orders.put_nowait(each)
        tasks.append(asyncio.create_task(asyncio.sleep(3600), name="new"))
        await asyncio.sleep(1)
        after = snapshot()
        await cancelled(*tasks)
        return diff(before, after)

    gc.collect()  # the queues of other tests
    return run(main())


def test_tasks_are_new_gone_or_unmoved() -> None:
    """A worker that waits in the same line for something else has moved."""
    found = changed()
    assert [task.name for task in found.new] == ["new"]
    assert [task.name for task in found.gone] == ["ends"]
    assert {task.name for task in found.unmoved} == {"hangs", "waits for work"}
    assert found.totals == {"new": 1, "gone": 1, "unmoved": 2, "jobs": 1}


def test_jobs_open_in_both_are_listed() -> None:
    """With how long they run by now."""
    (job,) = changed().jobs
    assert job.queue == "stuck"
    assert job.seconds == pytest.approx(2)


def test_queues_show_what_passed_through() -> None:
    """And which of them stands still though jobs wait."""
    queues = {queue.name: queue for queue in changed().queues}
    assert (queues["busy"].put, queues["busy"].taken, queues["busy"].finished) == (5, 5, 5)
    assert not queues["busy"].stalled
    assert queues["stuck"].stalled


def test_the_text_leads_to_what_hangs() -> None:
    """Consumers that wait for a job are counted, not shown."""
    text = changed().text()
    assert "queue 'stuck': 0 put, 0 taken, 0 finished, 0 dropped; 1 wait (+0); it stands still" in text
    assert "unmoved, but for 1 that wait for a queue to have something" in text
    assert "'hangs'" in text
    assert "waits for work" not in text


def test_json_has_the_documented_shape() -> None:
    """For programs."""
    found: Any = json.loads(changed().json())
    assert set(found) == {
        *("shape", "seconds", "totals", "coroutines", "grown", "new", "gone", "unmoved", "jobs", "queues"),
    }
    assert set(found["queues"][0]) == {
        *("name", "size", "grown", "put", "taken", "finished", "dropped", "stalled"),
    }


def test_growth_is_counted_by_coroutine() -> None:
    """What a leak of tasks looks like."""

    async def main() -> Diff:
        before = snapshot()
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(30)]
        after = snapshot()
        await asyncio.gather(*tasks)
        return diff(before, after)

    found = run(main())
    assert found.coroutines == {"sleep": 30}
    assert "+30 sleep" in found.text()


async def poll_status() -> None:
    """Poll for ever."""
    await asyncio.sleep(3600)


def leaks(*, detectors: bool) -> Diff:
    """Return what changes where each job of a pool, or of a bare consumer, leaves a task behind."""

    async def main() -> Diff:
        orders, mails = followed("orders"), followed("mails")
        left: list[asyncio.Task[None]] = []

        async def charge(_: int) -> None:
            left.append(asyncio.create_task(poll_status()))

        async def send() -> None:
            while True:
                await mails.get()
                left.append(asyncio.create_task(poll_status()))
                mails.task_done()

        with start() if detectors else contextlib.nullcontext():
            before = snapshot()
            mailer = asyncio.create_task(send())
            async with WorkerPool(orders, charge, workers=1):
                for each in range(30):
                    orders.put_nowait(each)
                for each in range(3):
                    mails.put_nowait(each)
                await asyncio.sleep(3)
                after = snapshot()
        await cancelled(mailer, *left)
        return diff(before, after)

    return run(main())


@pytest.mark.parametrize("detectors", [False, True])
def test_a_leak_shows_where_its_tasks_stand_and_whose_jobs_started_them(detectors: bool) -> None:
    """File, line and a stack; the job is over: detectors have to remember it, or its consumer has to be there."""
    found = leaks(detectors=detectors)
    (growth,) = [each for each in found.grown if each.coroutine == "poll_status"]
    assert (growth.grown, growth.new) == (33, 33)
    line = poll_status.__code__.co_firstlineno + 2
    ((place, count),) = growth.places.items()
    assert (place.file, place.line, place.function, count) == (__file__, line, "poll_status", 33)
    pool = "jobs of queue 'orders' (charge)" if detectors else "jobs that have ended"
    assert growth.started_in == {pool: 30, "jobs of queue 'mails' (send)": 3}
    text = found.text()
    assert f"+33 poll_status\n      33 new at {__file__}:{line}, in poll_status\n      30 started in {pool}\n" in text
    assert "await asyncio.sleep(3600)" in text
    told = json.loads(found.json())
    (grown,) = [each for each in told["grown"] if each["coroutine"] == "poll_status"]
    assert grown["places"] == [{"file": __file__, "line": line, "function": "poll_status", "tasks": 33}]
    assert {"job": pool, "tasks": 30} in grown["started_in"]
    (sample,) = [each for each in told["new"] if each["number"] == grown["sample"]]
    assert sample["jobs"] == []
    assert sample["origin"]["queue"] == "mails"


def test_tasks_of_a_job_that_goes_on_are_named_by_it() -> None:
    """It is among their jobs."""

    async def main() -> Diff:
        orders = followed("open")

        async def charge(_: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(poll_status())

        before = snapshot()
        async with WorkerPool(orders, charge, workers=1, grace=0):
            orders.put_nowait(1)
            await asyncio.sleep(1)
            return diff(before, snapshot())

    (growth,) = [each for each in run(main()).grown if each.coroutine == "poll_status"]
    assert growth.started_in == {"jobs of queue 'open' (charge)": 5}
    assert growth.sample.origin is None


def test_what_cannot_be_compared_is_refused() -> None:
    """Each with what is wrong and what to do."""
    before, after = dump(), dump()
    wrong: Any = "a dump"
    with pytest.raises(TypeError, match="'a dump'"):
        diff(before, wrong)
    with pytest.raises(ValueError, match="swap the two"):
        diff(after, before)
    other: Dump = replace(after, pid=1)
    with pytest.raises(ValueError, match="two processes"):
        diff(before, other)
