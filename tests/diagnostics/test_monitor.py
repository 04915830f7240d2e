"""LoopMonitor: what blocks a loop is named, with file, line and job, and what only waits is not."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_sched import Job, Listener, Observer, Queue, WorkerPool, current_job
from otel_sched._core import liveness
from otel_sched._core.finding import Finding, FindingKind, Reporter
from otel_sched._core.ledger import Ledger
from otel_sched._core.repeats import BURST
from otel_sched.diagnostics import LoopMonitor, alarm, heartbeat, monitor_loop, watchdog
from otel_sched.diagnostics.gctime import pauses
from otel_sched.testing import Deadlock, run, wait_until, wait_until_sync
from tests.conftest import LOOPS, ARun
from tests.support import blocking
from tests.support.blocking import BLOCKERS, Gate, Kept, line_of

THRESHOLD = 0.05


class Follows(Observer):
    """Has jobs followed."""

    def watch(self, ledger: Ledger) -> Listener:
        return Listener()


async def consume(queue: Queue[Any], handle: Callable[[Any], Any]) -> None:
    """Be a worker as most are."""
    while True:
        item = await queue.get()
        handle(item)
        queue.task_done()


async def work_through(items: list[Any], handle: Callable[[Any], Any], queue: Queue[Any] | None = None) -> None:
    """Put items and let one consumer handle them."""
    queue = Queue(name="orders", observer=Follows()) if queue is None else queue
    worker = asyncio.create_task(consume(queue, handle), name="worker-1")
    for item in items:
        queue.put_nowait(item)
    await queue.join()
    worker.cancel()


@asynccontextmanager
async def watching(kept: Kept, threshold: float = THRESHOLD) -> AsyncIterator[LoopMonitor]:
    """Watch the running loop; what a busy machine makes of the start is forgotten."""
    with LoopMonitor(threshold, reporter=kept) as monitor:
        await asyncio.sleep(2 * threshold)
        kept.forget()
        yield monitor


async def told(kept: Kept, kind: FindingKind = FindingKind.LOOP_BLOCKED) -> Finding:
    """Wait for a finding and return the first."""
    await wait_until(lambda: kept.of(kind), description=f"a finding {kind.value}")
    return kept.of(kind)[0]


@pytest.fixture(params=["alarms", "no alarms"])
def alarms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with the kernel's timers, and as where there are none."""
    if request.param == "no alarms":
        monkeypatch.setattr(alarm, "_found", [None])
        monkeypatch.setattr(watchdog, "_watchdog", None)


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("blocker", sorted(BLOCKERS))
def test_what_blocks_is_named_with_file_line_and_job(arun: ARun, blocker: str) -> None:
    """Whether it holds the interpreter's lock or not, and while the job is still open."""
    blocking.prepare()
    kept, ids = Kept(), []

    def handle(block: Callable[[], None]) -> None:
        job = current_job()
        assert job is not None
        ids.append(job.id)
        block()

    async def main() -> None:
        async with watching(kept):
            await work_through([BLOCKERS[blocker]], handle)
            await told(kept)

    arun(main())
    finding = kept.findings[0]
    function = BLOCKERS[blocker]
    assert finding.facts["cause"] == "code", kept.findings
    place = (finding.facts["file"], finding.facts["line"], finding.facts["function"])
    assert place == (blocking.__file__, line_of(function), function.__name__)
    assert finding.facts["job_id"] == ids[0]
    assert finding.facts["job"] == "consume"
    if blocker in ("sleep", "compute"):  # the others end before anybody else is certain to run
        assert kept.jobs[0] == ids[0], "the reporter is given the job while it is open"
    assert finding.queue == "orders"
    assert f"{blocking.__file__}:{line_of(function)}" in finding.sentence
    assert ids[0] in finding.sentence
    assert f'File "{blocking.__file__}", line {line_of(function)}, in {function.__name__}' in finding.stack
    assert "in consume" in finding.stack
    assert "base_events" not in finding.stack, "the loop's own frames say nothing"


def test_it_is_told_while_the_loop_is_blocked_and_when_it_is_over(arun: ARun) -> None:
    """The block lasts until the finding has been told, so it cannot have been told afterwards."""
    gate = Gate()

    class Opens(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            super().finding(finding, job)
            gate.open()

    kept = Opens()

    async def main() -> None:
        async with watching(kept):
            await work_through([0], lambda _: gate.wait())
            await told(kept, FindingKind.LOOP_RESUMED)

    arun(main())
    assert gate.opened
    first, over = kept.findings
    assert (first.kind, first.facts["over"]) == (FindingKind.LOOP_BLOCKED, False)
    assert first.facts["function"] == "Gate.wait"
    assert over.kind is FindingKind.LOOP_RESUMED
    assert over.facts["line"] == first.facts["line"]
    assert over.facts["job_id"] == first.facts["job_id"]
    assert float(over.facts["seconds"]) >= float(first.facts["seconds"])


def test_frames_of_the_loop_are_left_out_before_its_first_beat() -> None:
    """Of a monitor that is started in a callback, which cannot see where the loop's frames end."""
    kept, gate = Kept(), Gate()

    class Opens(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            kept.finding(finding, job)
            gate.open()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monitor = LoopMonitor(THRESHOLD, reporter=Opens())
        loop.call_soon(monitor.start)
        loop.call_soon(gate.wait)
        await told(kept)
        monitor.stop()

    asyncio.run(main())
    assert gate.opened
    assert "base_events" not in kept.findings[0].stack


def test_a_long_await_is_not_named(arun: ARun) -> None:
    """Neither a sleep of the loop nor a call in a thread nor a lock keeps it from turning."""
    kept = Kept()

    async def main() -> None:
        async with watching(kept, 0.1) as monitor:
            queue: Queue[float] = Queue(name="orders", observer=Follows())

            async def handle(seconds: float) -> None:
                await asyncio.sleep(seconds)
                await asyncio.to_thread(time.sleep, seconds)

            async with WorkerPool(queue, handle, workers=2) as pool:
                queue.put_nowait(0.3)
                await pool.join()
            assert monitor.stats().beats >= 5

    arun(main())
    assert [each.sentence for each in kept.findings if each.facts["cause"] != "starved"] == []


def test_each_of_two_steps_that_block_in_one_turn_is_told(arun: ARun) -> None:
    """The first lasts until it is told of, then the second, which nobody would ever know of otherwise."""
    gates = [Gate(), Gate()]

    class Opens(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            super().finding(finding, job)
            if finding.kind is FindingKind.LOOP_BLOCKED and "task" in finding.facts:
                name = str(finding.facts["task"])
                gates[int(name.removeprefix("step-"))].open()

    kept = Opens()

    async def step(gate: Gate) -> None:
        gate.wait()

    async def main() -> None:
        async with watching(kept):
            for number, gate in enumerate(gates):
                asyncio.create_task(step(gate), name=f"step-{number}")  # noqa: RUF006
            await told(kept, FindingKind.LOOP_RESUMED)

    arun(main())
    assert [gate.opened for gate in gates] == [True, True]
    first, second, over = kept.findings
    assert (first.facts["task"], second.facts["task"]) == ("step-0", "step-1")
    assert THRESHOLD <= float(second.facts["step_seconds"]) < float(second.facts["seconds"])
    assert over.facts["task"] in ("step-0", "step-1")
    assert float(over.facts["step_seconds"]) < float(over.facts["seconds"])


def test_a_block_is_not_put_down_to_the_await_after_it(arun: ARun) -> None:
    """An operation without a call lets go of the lock only there: that is said, or nothing is named."""
    exponents = [_taking(2 * THRESHOLD)] * 5 + [_taking(6 * THRESHOLD)]
    kept = Kept()

    def power(exponent: int) -> object:
        return 7**exponent

    async def handle(exponent: int) -> None:
        power(exponent)
        await asyncio.sleep(2 * THRESHOLD)  # here

    async def main() -> None:
        async with watching(kept):
            for exponent in exponents:
                await asyncio.create_task(handle(exponent))
            await told(kept)

    arun(main())
    for finding in kept.of(FindingKind.LOOP_BLOCKED):
        assert finding.facts["cause"] in ("code", "unseen", "starved"), finding
        assert finding.facts.get("line") != line_of(handle) or finding.facts["exact"] is False
        assert "by handle() at" not in finding.sentence


def _taking(seconds: float) -> int:
    """Return an exponent so large that 7 to its power takes that long."""
    exponent, took = 100_000, 0.0
    while took < seconds:
        exponent = exponent * 6 // 5
        began = time.perf_counter()
        _ = 7**exponent
        took = time.perf_counter() - began
    return exponent


def test_jobs_are_counted_that_a_free_consumer_could_take(arun: ARun) -> None:
    """Two that were woken, and one that waits in vain: not those of another queue, whose consumer is busy."""
    kept, gate = Kept(), Gate()

    class Opens(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            kept.finding(finding, job)
            gate.open()

    async def handle(number: int) -> None:
        if number == 0:
            gate.wait()
        else:
            await asyncio.sleep(0)

    async def busy(_: int) -> None:
        await asyncio.sleep(60.0)

    async def main() -> None:
        orders: Queue[int] = Queue(name="orders", observer=Follows())
        others: Queue[int] = Queue(name="others", observer=Follows())
        for number in range(50):
            others.put_nowait(number)
        async with WorkerPool(others, busy, workers=2, grace=0.0), WorkerPool(orders, handle, workers=3) as pool:
            async with watching(Opens()):
                for number in range(6):
                    orders.put_nowait(number)
                await told(kept)
            await pool.join()

    arun(main())
    assert kept.findings[0].facts["jobs_delayed"] == 2
    assert "jobs that it keeps from running: 2" in kept.findings[0].sentence


def test_workers_of_a_pool_that_have_not_begun_are_free(arun: ARun) -> None:
    """Nobody has waited in the queue by then: the first job blocks before the other workers run at all."""
    gate = Gate()

    class Opens(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            super().finding(finding, job)
            gate.open()

    kept = Opens()

    async def handle(_: int) -> None:
        gate.wait()

    async def main() -> None:
        with LoopMonitor(THRESHOLD, reporter=kept):
            queue = Queue[int](name="orders")
            async with WorkerPool(queue, handle, workers=3) as pool:
                for number in range(6):
                    queue.put_nowait(number)
                await pool.join()
            await told(kept)

    arun(main())
    assert kept.findings[0].facts["jobs_delayed"] == 2


@pytest.mark.parametrize("blocker", ["sleep", "expression"])
def test_all_that_is_told_of_while_it_lasts_is_told_to_be_over(arun: ARun, blocker: str) -> None:
    """Also of one that was told in the moment in which it ended."""
    blocking.prepare()
    kept = Kept()

    async def main() -> None:
        async with watching(kept):
            for _ in range(3):
                kept.forget()
                await work_through([0], lambda _: BLOCKERS[blocker]())
                if (await told(kept)).facts["over"] is False:
                    await told(kept, FindingKind.LOOP_RESUMED)

    arun(main())


def test_early_beats_now_and_then_do_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock was set, or a laptop slept: only a loop whose beats are all too early has no real time."""

    async def main() -> None:
        with LoopMonitor(THRESHOLD, reporter=Kept()) as monitor:
            heart = monitor._heart
            assert heart is not None
            with monkeypatch.context() as early:
                early.setattr(heartbeat, "monotonic", lambda: heart.turned_at)
                for _ in range(heartbeat.MANY_EARLY // 2):
                    heart._beat()
            assert not heart.over
            beats = monitor.stats().beats
            await wait_until(lambda: monitor.stats().beats > beats + 2, description="more beats")
            monkeypatch.setattr(heartbeat, "monotonic", lambda: heart.turned_at)
            for _ in range(heartbeat.MANY_EARLY):
                heart._beat()
            assert heart.over

    asyncio.run(main())


def test_the_job_of_a_pool_is_named_though_nobody_follows_jobs(arun: ARun) -> None:
    """The worker knows it, with or without an SDK."""
    kept = Kept()

    async def handle(_: int) -> None:
        BLOCKERS["sleep"]()

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=Observer())
        async with watching(kept):
            async with WorkerPool(queue, handle, workers=1) as pool:
                queue.put_nowait(1)
                await pool.join()
            await told(kept)

    arun(main())
    assert kept.findings[0].queue == "orders"
    assert kept.findings[0].facts["job"] == handle.__name__


def test_a_callback_that_blocks_is_named(arun: ARun, loop_kind: str) -> None:
    """It is no task's; asyncio's own loop also tells in whose context it was scheduled."""
    kept = Kept()

    def handle(_: int) -> None:
        asyncio.get_running_loop().call_soon(BLOCKERS["sleep"])

    async def hold(queue: Queue[int]) -> None:
        handle(await queue.get())
        await asyncio.sleep(2 * blocking.SECONDS)
        queue.task_done()

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=Follows())
        async with watching(kept):
            queue.put_nowait(1)
            await hold(queue)

    arun(main())
    finding = kept.findings[0]
    assert finding.facts["line"] == line_of(BLOCKERS["sleep"])
    assert "task" not in finding.facts
    assert ("job_id" in finding.facts) == (loop_kind == "asyncio")


def test_the_garbage_collector_is_told_apart(arun: ARun) -> None:
    """A collection of a large heap is blamed on the collector, with the line that set it off."""
    kept = Kept()

    heap: list[Any] = []
    took = 0.0
    while took < 4 * THRESHOLD:  # as large as this machine needs
        heap.append([[each] for each in range(200_000)])
        began = time.monotonic()
        gc.collect()
        took = time.monotonic() - began

    async def main() -> None:
        async with watching(kept):
            gc.collect()
            await told(kept)

    arun(main())
    finding = kept.findings[0]
    assert finding.facts["cause"] == "garbage_collection", kept.findings
    assert float(finding.facts["garbage"]) > THRESHOLD
    assert "by the garbage collector" in finding.sentence


def test_many_short_steps_are_not_blamed_on_one(arun: ARun) -> None:
    """The loop is late because hundreds of tasks are ready at once, each for a moment."""
    kept = Kept()

    async def step() -> None:
        until = time.thread_time() + 0.001
        while time.thread_time() < until:
            pass

    async def main() -> None:
        async with watching(kept):
            await asyncio.gather(*[step() for _ in range(300)])
            await told(kept)

    arun(main())
    assert kept.findings[0].facts["cause"] == "many_steps", kept.findings


def test_another_thread_that_keeps_the_interpreter_is_to_blame(arun: ARun) -> None:
    """Not the loop, which would turn if it were let."""
    blocking.prepare()
    kept = Kept()

    async def main() -> None:
        async with watching(kept):
            await asyncio.to_thread(BLOCKERS["expression"])
            await told(kept)

    arun(main())
    assert kept.findings[0].facts["cause"] == "other_thread", kept.findings


def test_the_same_line_is_told_of_a_few_times_and_then_counted(arun: ARun) -> None:
    """Of like blocks only so many are told in a period; the next one after it says how many there were."""
    kept = Kept()

    def block() -> None:
        time.sleep(0.06)  # here

    def of_this_line() -> list[Finding]:
        found = kept.of(FindingKind.LOOP_BLOCKED)
        return [each for each in found if (each.facts["cause"], each.facts.get("line")) == ("code", line_of(block))]

    async def main() -> None:
        with LoopMonitor(0.02, reporter=kept) as monitor:
            for _ in range(BURST + 3):
                block()
                await asyncio.sleep(0.03)
            assert monitor.stats().blocks >= BURST + 3

    arun(main())
    assert len(of_this_line()) == BURST


def test_a_loop_that_nobody_runs_is_not_blocked(loop_kind: str) -> None:
    """What it missed while it stood still is no delay, and it is not taken for one that hangs."""
    kept = Kept()

    async def start() -> LoopMonitor:
        monitor = monitor_loop(THRESHOLD, name="paused", reporter=kept)
        await asyncio.sleep(2 * THRESHOLD)
        return monitor

    async def go_on(monitor: LoopMonitor) -> None:
        beats = monitor.stats().beats
        await wait_until(lambda: monitor.stats().beats > beats + 2, description="more beats")
        assert "paused" in liveness.ages(0.0)

    with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
        monitor = runner.run(start())
        wait_until_sync(lambda: "paused" not in liveness.ages(0.0), description="the loop to be forgotten")
        time.sleep(6 * THRESHOLD)
        runner.run(go_on(monitor))
        assert monitor.stats().longest_delay < 4 * THRESHOLD
        runner.run(work_through([0], lambda _: BLOCKERS["sleep"]()))
        runner.run(told(kept))
    assert kept.findings[0].facts["line"] == line_of(BLOCKERS["sleep"])


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_nothing_is_left_behind(loop_kind: str, how: str) -> None:
    """No thread, no hook of the garbage collector, no name among the living."""

    async def main() -> LoopMonitor:
        monitor = monitor_loop(THRESHOLD, name="leaves", reporter=Kept())
        await wait_until(lambda: monitor.stats().beats > 1, description="beats")
        assert pauses._collecting in gc.callbacks
        if how == "stopped":
            monitor.stop()
            monitor.stop()
        return monitor

    with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
        monitor = runner.run(main())
        if how == "stopped":
            wait_until_sync(_nothing_left, description="everything to be gone")
    wait_until_sync(_nothing_left, description="everything to be gone")
    beats = monitor.stats().beats
    assert beats > 1
    del runner


def _nothing_left() -> bool:
    threads = [each for each in threading.enumerate() if each.name == "otel_sched-watchdog"]
    return not threads and pauses._collecting not in gc.callbacks and "leaves" not in liveness.ages(0.0)


def test_neither_loop_nor_job_nor_task_is_kept_alive(loop_kind: str) -> None:
    """Not by the monitor, though its user holds it, nor by what was told."""
    kept = Kept()
    held: list[weakref.ref[Any]] = []

    def handle(_: Any) -> None:
        held.append(weakref.ref(current_job()))
        BLOCKERS["sleep"]()

    async def main() -> LoopMonitor:
        monitor = monitor_loop(THRESHOLD, reporter=kept)
        queue: Queue[Any] = Queue(name="orders", observer=Follows())
        held.append(weakref.ref(queue))
        held.append(weakref.ref(asyncio.get_running_loop()))
        await work_through([0], handle, queue)
        held.append(weakref.ref(asyncio.current_task()))  # type: ignore[arg-type]
        await told(kept)
        return monitor

    with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
        monitor = runner.run(main())
    del runner

    def gone() -> bool:
        gc.collect()
        return all(each() is None for each in held)

    wait_until_sync(gone, description="queue, loop, job and task to be collected")
    assert monitor.stats().blocks >= 1


def test_a_loop_in_virtual_time_is_left_alone() -> None:
    """A heartbeat would keep it from ever seeing that nothing can happen any more."""

    async def main() -> None:
        monitor_loop(THRESHOLD)
        await asyncio.sleep(3600.0)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(main())


def test_two_loops_have_two_names() -> None:
    """Each its own in telemetry and among the living; the main thread's is `main`."""
    names: list[str] = []
    both = threading.Barrier(2)

    async def main() -> None:
        with LoopMonitor(THRESHOLD, name="shared", reporter=Kept()) as monitor:
            await asyncio.to_thread(both.wait, 10.0)
            names.append(monitor.stats().name)
            await asyncio.to_thread(both.wait, 10.0)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def usual() -> str:
        with LoopMonitor(THRESHOLD, reporter=Kept()) as monitor:
            return monitor.stats().name

    assert sorted(names) == ["shared", "shared-2"]
    assert asyncio.run(usual()) == "main"


def test_a_reporter_that_raises_is_logged_and_asked_again(arun: ARun, caplog: pytest.LogCaptureFixture) -> None:
    """The finding is in the complaint, and the watch goes on."""

    class Fails(Kept):
        def finding(self, finding: Finding, job: Job[Any] | None) -> None:
            super().finding(finding, job)
            raise ZeroDivisionError

        def loop_delay(self, loop: str, seconds: float) -> None:
            super().loop_delay(loop, seconds)
            raise ZeroDivisionError

    kept = Fails()

    async def main() -> None:
        async with watching(kept):
            await work_through([0], lambda _: BLOCKERS["sleep"]())
            await told(kept, FindingKind.LOOP_RESUMED)
            delays = len(kept.delays)
            await wait_until(lambda: len(kept.delays) > delays, description="more delays")
            for words in ("failed in finding(); it was to tell: event loop", "failed in loop_delay()"):
                await wait_until(lambda words=words: words in caplog.text, description=words)  # type: ignore[misc]

    arun(main())


def test_delays_and_times_are_told(arun: ARun) -> None:
    """Each beat's delay, and once a second how long the thread worked: a blocked loop is an active one."""
    kept = Kept()

    async def main() -> LoopMonitor:
        async with watching(kept) as monitor:
            BLOCKERS["sleep"]()
            await asyncio.sleep(4 * THRESHOLD)
            return monitor

    stats = arun(main()).stats()
    wait_until_sync(lambda: kept.states, description="the times")
    assert max(kept.delays) >= blocking.SECONDS - 2 * THRESHOLD
    assert stats.longest_delay == max(kept.delays)
    assert stats.active >= blocking.SECONDS - 2 * THRESHOLD
    assert 0.0 < stats.utilization < 1.0
    assert sum(active for active, _ in kept.states) == pytest.approx(stats.active)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threshold": 0.001}, ValueError, "threshold must be at least 0.01 s, not 0.001"),
        ({"threshold": float("nan")}, ValueError, "threshold must be at least 0.01 s, not nan"),
        ({"threshold": "0.1"}, TypeError, "threshold must be a number of seconds, not '0.1'"),
        ({"threshold": None}, TypeError, "threshold must be a number of seconds, not None"),
        ({"threshold": True}, TypeError, "threshold must be a number of seconds, not True"),
        ({"interval": 0.2}, ValueError, "at most the threshold, 0.1 s, not 0.2"),
        ({"interval": 0.0}, ValueError, "interval must be at least 0.005 s"),
        ({"name": ""}, TypeError, "name must be a text that is not empty, not ''"),
        ({"reporter": print}, TypeError, "reporter must be an otel_sched Reporter"),
        ({"loop": 1}, TypeError, "loop must be an event loop, not 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """With what was expected."""

    async def main() -> None:
        with pytest.raises(error, match=message.replace(".", r"\.")):
            LoopMonitor(**arguments)

    asyncio.run(main())


def test_without_a_loop_there_is_nothing_to_watch() -> None:
    """And a monitor watches but once."""
    with pytest.raises(RuntimeError):
        LoopMonitor()

    async def main() -> None:
        with LoopMonitor(reporter=Reporter()) as monitor, pytest.raises(RuntimeError, match="make another one"):
            monitor.start()

    asyncio.run(main())


def test_one_monitor_watches_a_loop() -> None:
    """Two would tell everything twice; whether anybody holds the first or not."""

    async def main() -> None:
        monitor_loop(reporter=Kept())
        gc.collect()
        with pytest.raises(RuntimeError, match="monitored already: stop\\(\\) that monitor"):
            monitor_loop()

    asyncio.run(main())
    asyncio.run(main())


def test_an_automatic_monitor_makes_way() -> None:
    """Once it is stopped its loop is free."""
    stopped = []

    async def main() -> None:
        first = monitor_loop(reporter=Kept())

        def stop() -> None:
            stopped.append(True)
            first.stop()

        first.make_way(stop)
        with LoopMonitor(reporter=Kept()) as second:
            await wait_until(lambda: second.stats().beats > 0, description="its beat")
        with LoopMonitor(reporter=Kept()):
            pass

    asyncio.run(main())
    assert stopped == [True]
