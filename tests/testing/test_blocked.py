"""assert_loop_never_blocked: what blocks fails the test and is named; what waits, or lasts less, does not."""

import asyncio
import functools
import gc
import re
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from otel_sched import Queue
from otel_sched.testing import RecordingObserver, VirtualLoop, assert_loop_never_blocked, starved, turns
from otel_sched.testing.blocked import Block, LoopWatch
from tests.conftest import LOOPS
from tests.support.blocking import line_of

Run = Callable[[Coroutine[Any, Any, Any]], Any]


SECONDS = 0.2
"""For how long the blockers have a processor, however long they have to wait for it, or sleep."""


def wait() -> None:
    """Block and let other threads run."""
    time.sleep(SECONDS)  # here


def compute() -> None:
    """Block in Python code, which gives the lock away every few milliseconds."""
    until = time.thread_time() + SECONDS
    while time.thread_time() < until:  # here
        pass


def expression() -> None:
    """Block with the lock held, inside one call of a C function."""
    re.match(r"(a+)+$", backtracking())  # here


@functools.cache
def backtracking() -> str:
    """Return a text on which the expression backtracks for long enough: each letter more doubles the time."""
    size, took = 16, 0.0
    while took < SECONDS:
        size += 1
        began = time.thread_time()
        re.match(r"(a+)+$", "a" * size + "b")
        took = time.thread_time() - began
    return "a" * size + "b"


BLOCKERS: dict[str, Callable[[], None]] = {each.__name__: each for each in (wait, compute, expression)}


@pytest.fixture(params=[*sorted(LOOPS), "virtual"])
def on(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on each kind of loop."""
    factory = LOOPS.get(request.param, VirtualLoop)

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


async def work(function: Callable[[], Any], limit: float = 0.05) -> None:
    """Let one worker do *function* as a job, watched."""
    queue: Queue[int] = Queue(name="orders", observer=RecordingObserver())

    async def consume() -> None:
        while True:
            await queue.get()
            function()
            queue.task_done()

    worker = asyncio.create_task(consume(), name="worker-1")
    try:
        with assert_loop_never_blocked(limit):
            await asyncio.sleep(0.01)
            queue.put_nowait(1)
            await queue.join()
            await asyncio.sleep(0.01)
    finally:
        worker.cancel()


@pytest.mark.parametrize("blocker", sorted(BLOCKERS))
def test_a_block_fails_and_is_named_with_file_line_task_and_job(on: Run, blocker: str) -> None:
    """Whether it waits or computes, whether it lets other threads run or not, whatever time the loop keeps."""
    backtracking()
    function = BLOCKERS[blocker]
    with pytest.raises(AssertionError) as failure:
        on(work(function))
    said = str(failure.value)
    assert f"{function.__name__}() at {__file__}:{line_of(function)}" in said
    assert "asyncio task 'worker-1' at work on job" in said
    assert "of queue 'orders' (consume)" in said
    assert f'File "{__file__}", line {line_of(function)}, in {function.__name__}' in said
    assert "longer than 0.05 s" in said


def test_a_block_shorter_than_the_limit_passes(on: Run) -> None:
    """A tenth of it: on the busiest machine that is not the limit."""
    on(work(lambda: time.sleep(0.1), limit=1.0))


def test_waiting_is_no_block(on: Run) -> None:
    """The loop's sleep, a thread and a future are waited for; the loop turns meanwhile."""

    async def main() -> None:
        with assert_loop_never_blocked(0.5):
            await asyncio.sleep(0.7)
            await asyncio.to_thread(time.sleep, 0.7)

    on(main())


def test_a_block_that_never_gives_the_loop_a_turn_counts(on: Run) -> None:
    """It begins and ends within the `with`, in one step."""

    async def main() -> None:
        with assert_loop_never_blocked(0.05):
            time.sleep(0.2)  # noqa: ASYNC251

    with pytest.raises(AssertionError, match=r"main\(\) at .*time\.sleep\(0\.2\)"):
        on(main())


def test_what_blocked_before_and_after_does_not_count(on: Run) -> None:
    """Only what lies inside does, though it is all one step of one task."""

    async def main() -> None:
        time.sleep(0.7)  # noqa: ASYNC251
        with assert_loop_never_blocked(0.5):
            await asyncio.sleep(0)
        time.sleep(0.7)  # noqa: ASYNC251

    on(main())


def test_every_block_is_told_the_longest_first(on: Run) -> None:
    """With how many there were."""

    async def main() -> None:
        with assert_loop_never_blocked(0.05):
            for seconds in (0.15, 0.6):
                time.sleep(seconds)  # noqa: ASYNC251
                await asyncio.sleep(0.02)

    with pytest.raises(AssertionError, match="2 times") as failure:
        on(main())
    assert float(str(failure.value).split("blocked for ")[2].split(" s")[0]) > 0.3


def test_many_short_steps_at_once_block_too(on: Run) -> None:
    """No single one is to blame, and the failure says so."""

    async def step() -> None:
        time.sleep(0.02)  # noqa: ASYNC251

    async def main() -> None:
        with assert_loop_never_blocked(0.05):
            steps = [asyncio.create_task(step()) for _ in range(40)]
            await asyncio.gather(*steps)
            await asyncio.sleep(0.02)

    with pytest.raises(AssertionError, match="by many that were ready at once"):
        on(main())


def test_an_error_of_the_block_comes_first(on: Run) -> None:
    """What the test itself raises is not hidden by an assertion about time."""

    async def main() -> None:
        with assert_loop_never_blocked(0.05):
            time.sleep(0.2)  # noqa: ASYNC251
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        on(main())


def test_it_decorates_async_tests(on: Run) -> None:
    """Arguments and result stay, and each call is watched anew."""

    @assert_loop_never_blocked(0.05)
    async def test(seconds: float) -> float:
        time.sleep(seconds)  # noqa: ASYNC251
        return seconds

    assert on(test(0.0)) == 0.0
    with pytest.raises(AssertionError):
        on(test(0.2))
    assert on(test(0.0)) == 0.0


def test_two_at_once_each_keep_their_own_limit(on: Run) -> None:
    """They may overlap and end in any order; afterwards the loop is as it was."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        strict, patient = assert_loop_never_blocked(0.05), assert_loop_never_blocked(10)
        strict.__enter__()
        patient.__enter__()
        time.sleep(0.2)  # noqa: ASYNC251
        await asyncio.sleep(0)
        with pytest.raises(AssertionError):
            strict.__exit__(None)
        await asyncio.sleep(0)
        patient.__exit__(None)
        selector = getattr(loop, "_selector", None)
        assert selector is None or not isinstance(getattr(selector.select, "__self__", None), turns.Turns)

    on(main())
    assert not [each for each in threading.enumerate() if each.name == "otel_sched-assert"]


def watch(seconds: float, limit: float = 0.05, **clocks: Any) -> list[Block]:
    """Return the blocks that are made of one turn of *seconds*, with clocks that say what they are told to."""

    async def main() -> list[Block]:
        watched = LoopWatch(asyncio.get_running_loop(), limit)
        watched.close()
        watched.blocks.clear()
        watched._starved, watched._pauses = clocks["starved"], clocks["pauses"]
        now = time.monotonic()
        watched.begin(now - seconds)
        watched.end(now)
        return watched.blocks

    return asyncio.run(main())


class Lost(starved.Starved):
    """A machine that gave the thread no processor for so long, or does not tell."""

    def __init__(self, seconds: float, *, known: bool = True) -> None:
        self._says = [0.0, seconds]
        self._fd = 0 if known else -1

    def seconds(self) -> float:
        return self._says.pop(0) if self.known else 0.0


class Collecting:
    """A garbage collector that was at work for so long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def within(self, since: float, until: float) -> float:
        return self.seconds


@pytest.mark.parametrize(("lost", "garbage", "blocks"), [(0.0, 0.0, 1), (0.4, 0.0, 1), (0.46, 0.0, 0), (0.0, 0.46, 0)])
def test_the_machine_and_the_garbage_collector_are_not_the_codes_fault(
    lost: float, garbage: float, blocks: int
) -> None:
    """What they took of half a second counts for nothing; what is left of it does, against a limit of 0.05 s."""
    assert len(watch(0.5, starved=Lost(lost), pauses=Collecting(garbage))) == blocks


def test_where_the_system_does_not_tell_what_nobody_saw_is_no_block() -> None:
    """Neither this thread nor the one that looks has run: nothing but the machine can have been the reason."""
    assert not watch(0.5, starved=Lost(0.0, known=False), pauses=Collecting(0.0))


def test_the_system_tells_of_a_thread_without_a_processor_or_does_not() -> None:
    """It never runs backwards; closed, or elsewhere than on Linux, it says nothing."""
    told = starved.Starved()
    first = told.seconds()
    assert told.seconds() >= first >= 0.0
    told.close()
    assert (told.known, told.seconds()) == (False, 0.0)


def test_a_collection_of_garbage_is_left_out() -> None:
    """A real one, of many objects that refer to one another."""

    async def main() -> None:
        kept: list[Any] = [[] for _ in range(500_000)]
        for each in kept:
            each.append(kept)
        with assert_loop_never_blocked(0.5):
            gc.collect()

    asyncio.run(main())


@pytest.mark.parametrize("limit", [0.0, 0.009, -1, float("nan"), float("inf")])
def test_a_limit_that_makes_no_sense_is_refused(limit: float) -> None:
    """The message names it."""
    with pytest.raises(ValueError, match=r"limit must be at least 0\.01 s, not"):
        assert_loop_never_blocked(limit)


def test_a_limit_that_is_no_number_is_refused() -> None:
    """Most of all the function that it decorates when the parentheses are forgotten."""
    with pytest.raises(TypeError, match="as a decorator, call it"):
        assert_loop_never_blocked(test_waiting_is_no_block)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="coroutine functions"):
        assert_loop_never_blocked(1.0)(test_waiting_is_no_block)  # type: ignore[arg-type]


def test_without_a_running_loop_it_says_so() -> None:
    """There is nothing to watch."""
    with pytest.raises(RuntimeError, match="use it in one"), assert_loop_never_blocked():
        pass
