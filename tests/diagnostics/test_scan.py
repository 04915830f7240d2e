"""Detectors look again and again, keep nothing alive, take little of the loop's time, and leave it as they found it."""

import asyncio
import contextvars
import gc
import logging
import time
import weakref
from typing import Any

import pytest

from otel_sched import Listener, Observer, OtelObserver, Queue, WorkerPool, current_job, unwatch, watch
from otel_sched._core import finding as finding_module
from otel_sched._core.finding import Finding, FindingKind, Reporter, set_default_reporter
from otel_sched._core.job import Job
from otel_sched._core.ledger import Ledger
from otel_sched.diagnostics import Detectors, scan
from otel_sched.diagnostics.detectors.origin import ENDED, Origins
from otel_sched.testing import InMemoryTelemetry, wait_until
from tests.conftest import LOOPS, ARun
from tests.support.detecting import KINDS, Recorder, detecting, ended, make_queue


class Item:
    """Something that can be referred to weakly."""


async def consume(queue: Any, seen: list[Any] | None = None) -> None:
    """Work on items for no time at all."""
    while True:
        await queue.get()
        if seen is not None:
            seen.append(current_job())
        queue.task_done()


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_are_followed_without_an_sdk_while_detectors_look(arun: ARun, kind: str) -> None:
    """Before and after, the queue only counts; the counts are right throughout."""

    async def main() -> None:
        queue, seen = make_queue(kind), list[Any]()
        consumer = asyncio.create_task(consume(queue, seen))
        for phase in range(3):
            if phase == 1:
                detectors = Detectors(reporter=Recorder())
                detectors.start()
            elif phase == 2:
                detectors.stop()
            for number in range(4):
                queue.put_nowait(number)
            await queue.join()
        assert [each is not None for each in seen] == [False] * 4 + [True] * 4 + [False] * 4
        stats = queue.stats()
        assert (stats.put, stats.taken, stats.active, stats.finished) == (12, 12, 0, 12)
        await ended(consumer)

    arun(main())


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_that_are_open_when_they_begin_or_end_are_counted_once(arun: ARun, kind: str) -> None:
    """Taken before and settled while they look; taken while they look and settled after; in a pool and without."""

    async def main() -> None:
        queue, pooled = make_queue(kind), make_queue(kind, name="pooled")
        gates, done = [asyncio.Event(), asyncio.Event()], asyncio.Event()

        async def work(number: int) -> None:
            await gates[number].wait()

        async def take() -> None:
            for _ in range(2):
                await work(await queue.get())
                queue.task_done()
            await done.wait()

        async with WorkerPool(pooled, work, workers=1):
            consumer = asyncio.create_task(take())
            for number in range(2):
                queue.put_nowait(number)
                pooled.put_nowait(number)
            await asyncio.sleep(0)
            async with detecting() as looking:
                gates[0].set()
                await looking.looks(2)
            gates[1].set()
            await asyncio.gather(queue.join(), pooled.join())
            for each in (queue, pooled):  # while the consumer is still there, whose end would end its jobs
                stats = each.stats()
                assert (stats.put, stats.taken, stats.active, stats.finished) == (2, 2, 0, 2)
                assert not each._otel_ledger.open
            done.set()
            await consumer

    arun(main())


def test_an_sdk_that_comes_while_they_look_is_told_and_so_are_they(arun: ARun, telemetry: InMemoryTelemetry) -> None:
    """With a listener there is a span for each job as before, and what is noted of the jobs goes on."""

    async def main() -> None:
        queue = Queue[int](name="orders", observer=OtelObserver(**telemetry.providers))
        async with detecting() as looking:
            consumer = asyncio.create_task(consume(queue))
            for number in range(150):
                queue.put_nowait(number)
            await queue.join()
            await looking.looks(2)
            durations = looking.detectors._knowledge.history.of("orders", "consume")
            assert durations is not None
            assert durations.total == 150
            await ended(consumer)
        assert queue._otel_ledger.following

    arun(main())
    assert len([span for span in telemetry.spans if span.name.startswith("process")]) == 150


def test_a_listener_that_raises_is_taken_out_as_without_them(arun: ARun, caplog: pytest.LogCaptureFixture) -> None:
    """Its failure passes through the hook of the detectors to the queue, and the queue works on."""

    class Fails(Listener):
        def settled(self, job: Job[Any]) -> None:
            raise RuntimeError("no room")

    class FailsAll(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            return Fails()

    async def main() -> None:
        queue = Queue[int](name="orders", observer=FailsAll())
        async with detecting() as looking:
            consumer = asyncio.create_task(consume(queue))
            for _ in range(3):
                queue.put_nowait(1)
                await queue.join()
                await looking.looks(2)
            assert queue.stats().finished == 3
            assert queue._otel_ledger.errors == 1
            await ended(consumer)

    arun(main())
    assert "failed in settled()" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_no_job_task_or_queue_is_kept_alive(arun: ARun, kind: str) -> None:
    """Jobs and items go when they have ended, tasks and queues when nobody else has them, also slow and told ones."""

    async def main() -> None:
        gone: list[weakref.ref[Any]] = []
        gate = asyncio.Event()

        async def handle(_: Item) -> None:
            gone.extend([weakref.ref(current_job()), weakref.ref(asyncio.current_task())])
            gone.append(weakref.ref(asyncio.create_task(gate.wait())))
            await asyncio.sleep(0.05)

        async def once(queue: Any) -> None:
            await handle(await queue.get())
            queue.task_done()
            await asyncio.sleep(0.02)

        async with detecting() as looking:
            queue = make_queue(kind)
            item = Item()
            gone.extend([weakref.ref(queue), weakref.ref(item)])
            await looking.looks(2)
            queue.put_nowait(item)
            del item
            await asyncio.create_task(once(queue))
            gate.set()
            del queue
            await looking.looks(2)
            gc.collect()
            assert [each() for each in gone] == [None] * 5
            await looking.looks(2)

    arun(main())


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_a_closed_loop_can_go(kind: str) -> None:
    """Detectors that were never stopped keep neither their loop nor themselves."""

    async def main() -> None:
        queue = Queue[int](name="orders")
        Detectors(every=0.001).start()
        queue.put_nowait(1)
        await queue.get()
        await asyncio.sleep(0.01)

    loop = LOOPS[kind]()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_a_look_at_ten_thousand_tasks_and_jobs_makes_way(arun: ARun, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its time in pieces of a few milliseconds: no step of the loop takes 20 ms of its thread."""
    monkeypatch.setattr(scan, "SHARE", 1.0)

    async def main() -> None:
        queue, gate = Queue[int](name="orders"), asyncio.Event()
        longest = 0.0

        async def work() -> None:
            await queue.get()
            await gate.wait()
            queue.task_done()

        async with detecting(every=0.05) as looking:
            tasks = [asyncio.create_task(work()) for _ in range(10_000)]
            for number in range(10_000):
                queue.put_nowait(number)
            joiner = asyncio.create_task(queue.join())
            await looking.looks(2)
            assert len(queue._otel_ledger.open) == 10_000
            step = looking.detectors._go_on

            def timed() -> None:
                nonlocal longest
                began = time.thread_time()
                step()
                longest = max(longest, time.thread_time() - began)

            looking.detectors._go_on = timed  # type: ignore[method-assign]
            gc.disable()  # its pauses are those of 10 000 tasks, not of the detectors
            try:
                await looking.looks(4)
            finally:
                gc.enable()
            assert 0.0 < longest < 0.1
            gate.set()
            await asyncio.gather(joiner, *tasks)

    arun(main())


def test_a_detector_that_fails_is_passed_over_and_told_once(
    arun: ARun, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on looking; so they do when the reporter fails."""

    def fails(*_: Any) -> None:
        raise RuntimeError("no such attribute")

    class FailsToReport(Reporter):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            fails()

    async def main() -> None:
        monkeypatch.setattr(scan.Outlived, "task", fails)
        queue = Queue[int](name="orders")
        async with detecting(reporter=FailsToReport()) as looking:
            queue.put_nowait(1)
            queue._queue.clear()
            joiner = asyncio.create_task(queue.join())
            consumer = asyncio.create_task(consume(queue))
            await looking.looks(20)
            await ended(joiner, consumer)

    arun(main())
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("a detector failed" in each for each in said) == 1
    assert any("FailsToReport" in each and "failed in finding()" in each for each in said)


def test_without_a_reporter_the_default_one_is_told_whenever_it_was_set(arun: ARun, monkeypatch: Any) -> None:
    """Also one that is set after the detectors were started."""
    from otel_sched._core import finding as module

    monkeypatch.setattr(module, "_default", Reporter())
    recorder = Recorder()

    async def main() -> None:
        queue = Queue[int](name="orders")
        async with detecting(reporter=None) as looking:
            set_default_reporter(recorder)
            queue.put_nowait(1)
            queue._queue.clear()
            joiner = asyncio.create_task(queue.join())
            await wait_until(lambda: recorder.findings, description="a finding")
            await looking.looks()
            await ended(joiner)

    arun(main())
    assert [each.kind for each in recorder.findings] == [FindingKind.STUCK_JOIN]


def test_a_queue_of_another_loop_is_left_alone(arun: ARun) -> None:
    """Its jobs are followed by whoever looks at its own loop."""

    async def main() -> None:
        queue = Queue[int](name="orders")

        async def elsewhere() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await queue.get()

        await asyncio.to_thread(asyncio.run, elsewhere())
        async with detecting() as looking:
            await looking.looks(2)
            assert not queue._otel_ledger.following

    arun(main())


def test_a_queue_that_ceases_to_be_watched(arun: ARun) -> None:
    """unwatch() gives the plain queue back while detectors look."""

    async def main() -> None:
        queue = asyncio.Queue[int]()
        async with detecting() as looking:
            watch(queue, name="orders")
            await looking.looks(2)
            unwatch(queue)
            await looking.none()
            assert type(queue) is asyncio.Queue

    arun(main())


def test_one_set_of_detectors_looks_at_a_loop(arun: ARun) -> None:
    """A second start is refused while the first look; stop() may be called twice, and from another thread."""

    async def main() -> None:
        first, second = Detectors(), Detectors(asyncio.get_running_loop())
        first.start()
        with pytest.raises(RuntimeError, match="look at this event loop already"):
            second.start()
        first.stop()
        first.stop()
        await asyncio.to_thread(second.start)
        await asyncio.to_thread(second.stop)
        with Detectors() as third:
            assert third.looks == 0

    arun(main())


def test_their_timer_keeps_no_context(arun: ARun) -> None:
    """What was current when they were started must be able to go."""
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    async def main() -> None:
        detectors = Detectors(every=0.005)
        item = Item()
        gone = weakref.ref(item)

        async def start(item: Item) -> None:
            variable.set(item)
            detectors.start()

        await asyncio.create_task(start(item))
        del item
        await wait_until(lambda: detectors.looks > 2, description="more looks")
        gc.collect()
        assert gone() is None
        detectors.stop()

    arun(main())


@pytest.fixture(params=[{"every": 0}, {"every": True}, {"patience": -1}, {"slow_factor": 0.5}, {"slow_factor": "5"}])
def bad(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give one argument that is no good."""
    return dict(request.param)


def test_bad_arguments_are_refused_by_name(bad: dict[str, Any]) -> None:
    """The message names the argument and the value."""
    ((name, value),) = bad.items()
    with pytest.raises((TypeError, ValueError), match=f"{name} must be .*got {value!r}"):
        Detectors(**bad)


def test_what_is_no_loop_or_reporter_is_refused() -> None:
    """And without a loop they can only be started in one."""
    with pytest.raises(TypeError, match="loop must be an event loop"):
        Detectors(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reporter must be an otel_sched Reporter"):
        Detectors(reporter=print)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="pass Detectors"):
        Detectors().start()


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_that_is_made_later_is_followed_from_its_first_job_on(arun: ARun, kind: str) -> None:
    """Though the next look may be far away: what gets stuck at once would never be told of."""

    async def main() -> None:
        with Detectors(every=3600.0, reporter=Recorder()):
            queue, seen = make_queue(kind), list[Any]()
            queue.put_nowait(1)
            consumer = asyncio.create_task(consume(queue, seen))
            await queue.join()
            await ended(consumer)
        assert seen != [None]
        later = make_queue(kind)
        later.put_nowait(1)
        consumer = asyncio.create_task(consume(later, seen))
        await later.join()
        await ended(consumer)
        assert seen[1:] == [None], "after stop() new queues only count"

    arun(main())


def test_findings_are_counted_by_kind_and_queue(arun: ARun) -> None:
    """Whoever is told of them; metrics read it."""
    before = finding_module.tally.copy()

    async def main() -> None:
        queue = Queue[int](name="counted")
        async with detecting() as looking:
            queue.put_nowait(1)
            queue._queue.clear()
            joiner = asyncio.create_task(queue.join())
            consumer = asyncio.create_task(consume(queue))
            await looking.one(FindingKind.STUCK_JOIN)
            await ended(joiner, consumer)

    arun(main())
    key = (FindingKind.STUCK_JOIN.value, "counted")
    assert finding_module.tally[key] - before.get(key, 0) == 1


def test_looks_that_take_much_of_the_loops_time_become_rarer(arun: ARun, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so large a part of it may they take."""
    monkeypatch.setattr(scan, "SHARE", 1e-6)
    pauses: list[float] = []
    later = Detectors._later

    def noted(self: Detectors, seconds: float) -> None:
        pauses.append(seconds)
        later(self, min(seconds, 0.001))

    monkeypatch.setattr(Detectors, "_later", noted)

    async def main() -> None:
        async with detecting() as looking:
            await looking.looks(3)

    arun(main())
    assert max(pauses) > 1.0, "a look of a few microseconds, a million times as long until the next"


def test_what_is_remembered_of_ended_jobs_is_bounded() -> None:
    """Queues run for months."""
    origins, jobs = Origins(), [Item() for _ in range(ENDED + 5)]
    for job in jobs:
        origins.fold("orders", [(weakref.ref(job), None)])
    assert len(origins._ended) == ENDED
