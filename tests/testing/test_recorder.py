"""RecordingObserver: each thing that queues tell, as a small value, without any SDK."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from otel_sched import Listener, Observer, Queue, WorkerPool, set_default_observer
from otel_sched._core.ledger import Ledger
from otel_sched._core.observer import default_observer
from otel_sched.testing import InMemoryTelemetry, RecordingObserver, run
from tests.conftest import ARun


async def handle(item: int) -> None:
    """Fail for 2, hang for 3."""
    if item == 2:
        raise ValueError("no money")
    await asyncio.sleep(1e9 if item == 3 else 0)


async def work(queue: Queue[Any], *items: Any, grace: float = 0.0) -> None:
    """Have a pool work on items."""
    async with WorkerPool(queue, handle, workers=1, grace=grace) as pool:
        for item in items:
            await queue.put(item)
        if 3 not in items:
            await pool.join()


def test_what_becomes_of_a_job_is_told_in_order() -> None:
    """With times of the queue's own clock, outcome and type of the error."""
    recorder = RecordingObserver()

    async def slow(item: int) -> None:
        await asyncio.sleep(3)
        raise ValueError

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        orders: Queue[int] = Queue(name="orders", observer=recorder, clock=clock)
        orders.put_nowait(1)
        await asyncio.sleep(2)
        async with WorkerPool(orders, slow) as pool:
            await pool.join()

    run(main())
    put, taken, settled = recorder.events
    assert [put.what, taken.what, settled.what] == ["put", "taken", "settled"]
    assert {put.job, taken.job, settled.job} == {recorder.jobs().one().id}
    assert (put.at, taken.at, settled.at) == (0.0, 2.0, 5.0)
    assert (taken.wait, settled.wait, settled.run) == (2.0, 2.0, 3.0)
    assert (settled.outcome, settled.error_type, settled.name) == ("error", "ValueError", slow.__name__)
    job = recorder.jobs("orders").one()
    assert (job.state, job.outcome, job.error_type, job.wait, job.run) == ("ended", "error", "ValueError", 2.0, 3.0)


def test_jobs_and_outcomes_of_one_queue_or_of_all(arun: ARun) -> None:
    """Those that are not over are there as well."""
    recorder = RecordingObserver()

    async def main() -> None:
        await work(Queue(name="orders", observer=recorder), 1, 2, 3, grace=0.0)
        Queue[int](name="mails", observer=recorder).put_nowait(1)

    arun(main())
    assert recorder.queues() == ["orders", "mails"]
    assert recorder.outcomes("orders") == {"ok": 1, "error": 1, "cancelled": 1}
    assert recorder.outcomes() == {"ok": 1, "error": 1, "cancelled": 1}
    assert recorder.outcomes("mails") == {}
    assert recorder.jobs("orders").with_outcome("cancelled").one().reason == "shutdown"
    assert recorder.jobs("mails").one().state == "waiting"
    recorder.jobs().in_state("running").none()
    recorder.clear()
    assert recorder.events == ()


def test_a_put_that_was_blocked_says_for_how_long() -> None:
    """And the next one does not."""
    recorder = RecordingObserver()

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        orders: Queue[int] = Queue(1, name="orders", observer=recorder, clock=clock)
        orders.put_nowait(1)
        put = asyncio.create_task(orders.put(2))
        await asyncio.sleep(4)
        orders.get_nowait()
        await put
        orders.get_nowait()
        orders.put_nowait(3)

    run(main())
    assert [job.blocked for job in recorder.jobs()] == [0.0, 4.0, 0.0]


def test_a_job_whose_run_cannot_be_seen_is_unobserved(arun: ARun) -> None:
    """As it was taken by an asyncio task that is nothing but a get()."""
    recorder = RecordingObserver()

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders", observer=recorder)
        orders.put_nowait(1)
        await asyncio.create_task(orders.get())

    arun(main())
    assert recorder.jobs().in_state("unobserved").one().outcome == "unobserved"
    with pytest.raises(ValueError, match="state must be one of"):
        recorder.jobs().in_state("lost")


def test_no_item_and_no_job_is_kept(arun: ARun) -> None:
    """Both can go when the queue is done with them."""

    class Item:
        pass

    recorder, item = RecordingObserver(), Item()
    gone = weakref.ref(item)

    async def main(item: Any) -> None:
        orders: Queue[Any] = Queue(name="orders", observer=recorder)
        orders.put_nowait(item)
        await orders.get()
        orders.task_done()

    arun(main(item))
    del item
    gc.collect()
    assert gone() is None
    assert recorder.outcomes() == {"ok": 1}


def test_as_default_it_hears_of_all_queues_and_leaves_no_trace(arun: ARun) -> None:
    """Those made inside, those that there are, and those with listeners of their own, which are told all the same."""
    heard: list[str] = []

    class Hears(Listener):
        def settled(self, job: Any) -> None:
            heard.append(job.queue)

    class Other(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            return Hears()

    before, idle, own = default_observer(), Queue[int](name="idle"), Queue[int](name="own", observer=Other())
    silent = Queue[int](name="silent", observer=Observer())
    listeners = [each._otel_tracker.listener for each in (idle, own, silent)]

    async def main() -> None:
        for queue in (idle, own, silent, Queue(name="new")):
            await work(queue, 1)

    with RecordingObserver().as_default() as recorder:
        arun(main())
    assert recorder.outcomes() == {"ok": 4}
    assert sorted(recorder.queues()) == ["idle", "new", "own", "silent"]
    assert heard == ["own"]
    assert default_observer() is before
    assert [each._otel_tracker.listener for each in (idle, own, silent)] == listeners
    assert [each._otel_deliver is None for each in (idle, own, silent)] == [True, False, True]


def test_a_queue_with_open_jobs_is_followed_to_their_end(arun: ARun) -> None:
    """Their ends would be counted wrongly if the queue only counted again."""
    orders: Queue[int] = Queue(name="orders")

    async def main() -> None:
        with RecordingObserver().as_default():
            orders.put_nowait(1)
            await orders.get()
        orders.task_done()

    arun(main())
    assert (orders.stats().outcomes, orders.stats().active) == ({"ok": 1}, 0)


def test_another_default_that_the_test_sets_stays(arun: ARun) -> None:
    """Whoever sets one meant it."""
    before, mine = default_observer(), Observer()
    try:
        with RecordingObserver().as_default():
            set_default_observer(mine)
        assert default_observer() is mine
    finally:
        set_default_observer(before)


@pytest.mark.parametrize("first", ["recorder", "telemetry"])
def test_recorder_and_telemetry_go_together(arun: ARun, telemetry: InMemoryTelemetry, first: str) -> None:
    """In either order, for queues of before and new ones; and the trace of the application is whole."""
    recorder, orders = RecordingObserver(), Queue[int](name="before")
    observers: list[Any] = [recorder, telemetry] if first == "recorder" else [telemetry, recorder]

    async def main() -> None:
        with (
            observers[0].as_default(),
            observers[1].as_default(),
            telemetry.tracer.start_as_current_span("request"),
        ):
            await work(orders, 1, 2)
            await work(Queue(name="after"), 1, 2)

    arun(main())
    for queue in ("before", "after"):
        assert recorder.outcomes(queue) == {"ok": 1, "error": 1}
        failed = telemetry.spans.named(f"process {queue}").with_outcome("error").one()
        telemetry.spans.named(f"put {queue}").where(
            lambda span, failed=failed: span.context.span_id == failed.parent.span_id
        ).one()
