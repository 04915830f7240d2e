"""The virtual-time loop: time leaps, waits are exact, and what can never happen is said, not waited for."""

import asyncio
import contextlib
import contextvars
import math
import re
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from otel_sched import OtelSchedError, Queue, WorkerPool, watch
from otel_sched.testing import Deadlock, VirtualLoop, run


def test_an_hour_of_timers_takes_no_time() -> None:
    """A day of half-minute ticks passes at once, and each tick is due to the float."""

    async def ticks() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = []
        while loop.time() < 86400:
            await asyncio.sleep(30)
            seen.append(loop.time())
        return seen

    began = time.monotonic()
    assert run(ticks()) == [30.0 * n for n in range(1, 2881)]
    assert time.monotonic() - began < 30


def test_time_starts_at_zero_and_stands_still_while_code_runs() -> None:
    """Only waiting moves the clock: yielding to other callbacks, however often, takes no time."""

    async def main() -> float:
        for _ in range(100):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run(main()) == 0.0


def test_timers_fire_in_the_order_of_their_due_times() -> None:
    """Sleepers wake by due time, whatever the order in which they lay down."""

    async def main() -> list[float]:
        woken: list[float] = []

        async def sleeper(delay: float) -> None:
            await asyncio.sleep(delay)
            woken.append(delay)

        async with asyncio.TaskGroup() as group:
            for delay in (5.0, 0.001, 3600.0, 0.1, 1e-6):
                group.create_task(sleeper(delay))
        return woken

    assert run(main()) == [1e-6, 0.001, 0.1, 5.0, 3600.0]


@pytest.mark.parametrize("start", [0.0, 1e5, 1e8, 1e9])
def test_timers_fire_at_any_age_of_the_loop(start: float) -> None:
    """A loop of any age wakes a sleeper on time, to the last digit of its clock, and lets none sleep on."""

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(start)
        # So short that an old clock cannot show it: due now, and at once.
        await asyncio.sleep(1e-9)
        due = loop.time() + 0.1
        await asyncio.sleep(0.1)
        return loop.time(), due

    now, due = run(main())
    assert now == pytest.approx(due, abs=2 * math.ulp(due), rel=0)


def test_timeouts_count_virtual_time() -> None:
    """`asyncio.timeout` and `wait_for` strike at their virtual instants, in order."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        struck = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.sleep(601)
        struck.append(loop.time())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 60)
        struck.append(loop.time())
        return struck

    assert run(main()) == [600.0, 660.0]


def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    """What was called off has no time: the clock stops at the last timer that was still wanted."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1000, pytest.fail, "a cancelled timer fired").cancel()
        await asyncio.sleep(10)
        return loop.time()

    assert run(main()) == 10.0


def test_a_deadlock_is_raised_and_names_who_waits_where() -> None:
    """A get that nobody will answer ends the run with the task's name and the awaiting function."""

    async def consume(queue: asyncio.Queue[int]) -> None:
        await queue.get()

    async def main() -> None:
        consumer = asyncio.create_task(consume(asyncio.Queue()), name="orders-0")
        await asyncio.sleep(90)
        await consumer

    with pytest.raises(Deadlock, match=r"virtual time 90 s.*wait: 2") as caught:
        run(main())
    get, main_line = consume.__code__.co_firstlineno + 1, main.__code__.co_firstlineno + 3
    said = str(caught.value).splitlines()
    assert said[1].endswith(
        f"(main) waits for asyncio task orders-0, in main() at {__file__}:{main_line}: await consumer"
    )
    assert re.fullmatch(
        r"  orders-0 \(consume\) waits in get\(\) of queue 'Queue at 0x[0-9a-f]+', "
        rf"in consume\(\) at {re.escape(__file__)}:{get}: await queue\.get\(\)",
        said[2],
    )


async def settle_all(queue: Queue[int]) -> None:
    """Wait where nobody ever will be done."""
    await queue.join()


def test_a_deadlock_shows_the_line_of_the_program_and_none_of_a_library() -> None:
    """However deep in one the task waits."""

    async def main() -> None:
        queue = Queue[int](name="orders")
        queue.put_nowait(1)
        later = asyncio.create_task(asyncio.sleep(math.inf), name="sleeps")
        await settle_all(queue)
        await later

    with pytest.raises(Deadlock) as caught:
        run(main())
    said = str(caught.value)
    line = settle_all.__code__.co_firstlineno + 2
    assert f"waits in join() of queue 'orders', in settle_all() at {__file__}:{line}: await queue.join()\n" in said
    assert "sleeps (sleep) sleeps for inf s, in sleep() at " in said


def test_a_deadlock_lists_a_few_tasks_and_counts_the_rest() -> None:
    """Ten thousand waiting tasks do not make a message of ten thousand lines."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(50)))

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert len(str(caught.value).splitlines()) == 12
    assert "and 41 more" in str(caught.value)


def test_a_deadlock_is_an_error_of_this_library_and_a_runtime_error() -> None:
    """Both ways of catching it work."""
    assert issubclass(Deadlock, OtelSchedError)
    assert issubclass(Deadlock, RuntimeError)


def test_sleeping_for_ever_is_a_deadlock_unless_something_else_happens() -> None:
    """`sleep(math.inf)` neither spins through eternity nor keeps the others from ending."""

    async def main() -> str:
        forever = asyncio.create_task(asyncio.sleep(math.inf))
        await asyncio.sleep(5)
        forever.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await forever
        return "done"

    assert run(main()) == "done"
    with pytest.raises(Deadlock, match="virtual time 0 s"):
        run(asyncio.sleep(math.inf))


def test_after_a_deadlock_everything_is_cancelled_and_the_loop_closed() -> None:
    """Cleanup of the stuck coroutine runs, so that one failed test leaves nothing to the next."""
    cleaned = []
    loops = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            cleaned.append(loops[0].time())

    with pytest.raises(Deadlock):
        run(main())
    assert cleaned == [3.0]
    assert loops[0].is_closed()


def test_run_returns_the_result_and_cancels_what_is_left() -> None:
    """Like `asyncio.run`: the result comes back, leftovers are cancelled, generators closed, the loop too."""
    left: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            left.append("generator closed")

    async def worker() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.append("worker cancelled")
            raise

    async def main() -> tuple[int, asyncio.AbstractEventLoop]:
        worker_task = asyncio.create_task(worker())
        generator = numbers()
        first = await anext(generator)
        await asyncio.sleep(0)
        assert not worker_task.done()
        left.append("main ended")
        keep.append(generator)
        return first, asyncio.get_running_loop()

    keep: list[object] = []
    result, loop = run(main())
    assert result == 1
    assert left == ["main ended", "worker cancelled", "generator closed"]
    assert loop.is_closed()


def test_run_lets_an_exception_through() -> None:
    """What the coroutine raises is what the caller gets."""

    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("of the coroutine")

    with pytest.raises(LookupError, match="of the coroutine"):
        run(main())


def test_threads_of_the_executor_are_waited_for_in_real_time() -> None:
    """A thread's answer arrives although a virtual timer is due long before: time slows down for it."""
    release = threading.Event()

    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        answer = asyncio.create_task(asyncio.to_thread(release.wait, 30))
        loop.call_later(0.02, release.set)
        async with asyncio.timeout(25):
            return await answer, loop.time()

    answered, took = run(main())
    assert answered
    assert 0.02 <= took < 25


def test_after_a_thread_is_back_time_leaps_again() -> None:
    """Real time lasts no longer than the thread does."""

    async def main() -> float:
        await asyncio.to_thread(int)
        await asyncio.sleep(100_000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) >= 100_000
    assert time.monotonic() - began < 30


def test_an_abandoned_thread_does_not_stop_time() -> None:
    """A wait on a thread that is given up ends at its virtual instant, and the loop leaps on."""
    release = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.to_thread(release.wait, 30)
        await asyncio.sleep(100_000)
        release.set()

    run(main())


def test_call_at_keeps_the_context_it_is_given() -> None:
    """The override passes on what callers of the real one rely on."""
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)
    seen = []

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(number.set, 7)
        loop = asyncio.get_running_loop()
        loop.call_at(1.0, lambda: seen.append(number.get()), context=context)
        loop.call_at(math.inf, pytest.fail, "infinity came", context=context)
        await asyncio.sleep(2)

    run(main())
    assert seen == [7]


def test_the_loop_can_be_driven_by_hand() -> None:
    """It is a loop as any other: run_until_complete in pieces, and time goes on between them."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(asyncio.sleep(1))
        loop.run_until_complete(asyncio.sleep(2))
        assert loop.time() == 3.0
    finally:
        loop.close()


@pytest.mark.parametrize("given", [True, False])
def test_a_queues_waits_and_ages_are_virtual(given: bool) -> None:
    """An hour in the queue shows as an hour in its numbers, and takes no time to test."""

    async def main() -> tuple[float, float]:
        queue: Queue[str] = Queue(name="orders", clock=asyncio.get_running_loop().time if given else None)
        queue.put_nowait("late")
        await asyncio.sleep(3600)
        age = queue.stats().oldest_age
        job = await queue.take()
        return age, job.put_at

    assert run(main()) == (3600.0, 0.0)


@pytest.mark.parametrize("outside", ["no loop", "a real loop"])
def test_a_queue_made_outside_of_virtual_time_keeps_the_real_clock(outside: str) -> None:
    """And one that was given a clock keeps that."""

    async def main() -> tuple[Any, Any]:
        return Queue[int](name="q").ledger.now, Queue[int](name="q", clock=own).ledger.now

    def own() -> float:
        return 7.0

    now = Queue[int](name="q").ledger.now if outside == "no loop" else asyncio.run(main())[0]
    assert now is time.monotonic
    assert run(main())[1] is own
    watched = run(watches())
    assert watched.ledger.now() == 5.0


async def watches() -> Any:
    """Return a queue of asyncio's own that is watched in virtual time."""
    await asyncio.sleep(5)
    return watch(asyncio.Queue[int](), name="watched")


def test_a_pool_of_workers_runs_in_virtual_time() -> None:
    """Twelve jobs of ten minutes on four workers are done after half an hour, to the second."""

    async def handle(item: int) -> None:
        await asyncio.sleep(600)
        done.append(item)

    async def main() -> float:
        queue: Queue[int] = Queue(name="orders")
        for item in range(12):
            queue.put_nowait(item)
        async with WorkerPool(queue, handle, workers=4):
            await queue.join()
        return asyncio.get_running_loop().time()

    done: list[int] = []
    assert run(main()) == 1800.0
    assert sorted(done) == list(range(12))
