"""Two snapshots compared: what is new, gone, and has not moved."""

import asyncio
import gc
import json
from dataclasses import replace
from typing import Any

import pytest

from otel_sched import Queue
from otel_sched.diagnostics import Diff, Dump, diff, dump, snapshot
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
        *("shape", "seconds", "totals", "coroutines", "new", "gone", "unmoved", "jobs", "queues"),
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
