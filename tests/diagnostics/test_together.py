"""start(): everything in one call, and nothing of it left when it is stopped or could not be started."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from otel_sched import Queue, WorkerPool
from otel_sched._core import liveness
from otel_sched._core.finding import FindingKind
from otel_sched.diagnostics import Detectors, start
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.support.blocking import Kept


def test_it_blames_what_blocks_and_finds_what_is_stuck(arun: ARun) -> None:
    """One call is all that a program needs."""
    kept = Kept()

    async def block(_: object) -> None:
        time.sleep(0.3)  # noqa: ASYNC251

    async def main() -> None:
        with start(threshold=0.1, patience=0.05, reporter=kept) as diagnostics:
            slow = Queue[int](name="slow")
            async with WorkerPool(slow, block):
                await slow.put(1)
                await wait_until(lambda: kept.of(FindingKind.LOOP_BLOCKED), description="the blame")
            forgotten = Queue[int](name="forgotten")
            await wait_until(lambda: diagnostics.detectors.looks > 0, description="a first look")
            forgotten.put_nowait(1)
            consumer = asyncio.create_task(forever(forgotten))
            joins = asyncio.create_task(forgotten.join())
            await wait_until(lambda: kept.of(FindingKind.STUCK_JOIN), description="the join that hangs")
            for task in (consumer, joins):
                task.cancel()

    async def forever(queue: Queue[int]) -> None:
        while True:
            await queue.get()

    arun(main())


def test_a_dump_comes_on_the_signal_that_was_asked_for(tmp_path: Path, arun: ARun) -> None:
    """And on no other; after the end it is as it was."""
    file = tmp_path / "dump"

    async def main() -> None:
        with start(dump_signal=signal.SIGUSR2, dump_file=file):
            signal.raise_signal(signal.SIGUSR2)
            await wait_until(lambda: file.exists() and "asyncio tasks:" in file.read_text(), description="the dump")

    before = signal.getsignal(signal.SIGUSR2)
    arun(main())
    assert signal.getsignal(signal.SIGUSR2) is before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "threshold must be at least 0.01 s, not 0"),
        ({"patience": -1}, ValueError, "patience must be 0 or more"),
        ({"slow_factor": "5"}, TypeError, "slow_factor must be a number, got '5'"),
        ({"dump_signal": 999}, ValueError, "signum must be a signal of this system"),
        ({"dump_file": "here"}, ValueError, "dump_file is 'here', but nothing is dumped without a dump_signal"),
        ({"reporter": print}, TypeError, "reporter must be an otel_sched Reporter"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_started(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Not even what comes before them."""

    async def main() -> None:
        with pytest.raises(error, match=message):
            start(**arguments)
        assert not liveness.ages(time.monotonic())
        with Detectors():
            pass

    asyncio.run(main())


def test_a_second_start_in_the_same_loop_is_refused_and_spoils_nothing() -> None:
    """Two of them would tell of everything twice."""

    async def main() -> None:
        with start() as first:
            with pytest.raises(RuntimeError, match="detectors look at this event loop already"):
                start()
            await wait_until(lambda: first.monitor.stats().beats > 1, description="the heart to beat on")
        first.stop()
        with start():
            pass

    asyncio.run(main())


def test_outside_of_a_loop_there_is_nothing_to_watch() -> None:
    """The error says what to do."""
    with pytest.raises(RuntimeError, match="no event loop runs here: call start\\(\\) in a coroutine"):
        start()
