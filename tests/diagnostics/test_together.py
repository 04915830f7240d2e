"""start(): everything in one call, and nothing of it left when it is stopped or could not be started."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from otel_sched import Observer, Queue, WorkerPool, set_default_observer
from otel_sched._core import liveness
from otel_sched._core.finding import FindingKind
from otel_sched._core.observer import default_observer
from otel_sched.diagnostics import Detectors, monitor_loop, start
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.support.blocking import Kept

ROOT = Path(__file__).parents[2]


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
        ({"dump_signal": 999}, ValueError, "dump_signal must be a signal of this system, such as SIGUSR1, got 999"),
        ({"dump_signal": "FOO"}, ValueError, "dump_signal must be a signal of this system, such as SIGUSR1, got 'FOO'"),
        ({"dump_signal": "KILL"}, ValueError, "dump_signal: SIGKILL cannot be used for dumps"),
        (
            {"dump_signal": "USR2", "dump_file": "/nowhere/x"},
            ValueError,
            "dump_file must be a path that can be appended to, got '/nowhere/x': No such file",
        ),
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
            with pytest.raises(RuntimeError, match="diagnostics were started in this event loop already"):
                start()
            await wait_until(lambda: first.monitor.stats().beats > 1, description="the heart to beat on")
        first.stop()
        with start():
            pass
        with Detectors(), pytest.raises(RuntimeError, match="detectors look at this event loop already"):
            start()

    asyncio.run(main())


def test_outside_of_a_loop_there_is_nothing_to_watch() -> None:
    """The error says what to do."""
    with pytest.raises(RuntimeError, match="no event loop runs here: call start\\(\\) in a coroutine"):
        start()
    with pytest.raises(RuntimeError, match="no event loop runs here: call it in a coroutine, or pass LoopMonitor"):
        monitor_loop()


FIRST = """
import asyncio, sys
from otel_sched import Queue, WorkerPool, diagnostics, testing
from otel_sched._core import callsite, census
{configured}

async def main():
    with {watched}:
        loaded = set(sys.modules)
        assert not census.ledgers()
        assert not callsite._names
        queue = Queue()
        queue.put_nowait(1)
        await queue.get()
        queue.task_done()
        async with WorkerPool(queue, asyncio.sleep) as pool:
            queue.put_nowait(0)
            await pool.join()
        print(sorted(set(sys.modules) - loaded))

print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "watched",
    [
        "diagnostics.start()",
        "diagnostics.LoopMonitor()",
        "testing.assert_loop_never_blocked(10)",
        "testing.assert_no_leaked_jobs()",
        "testing.RecordingObserver().as_default()",
    ],
)
def test_what_the_first_queue_needs_is_loaded_before_anything_is_measured(watched: str) -> None:
    """Else the line that makes it would be blamed for slow imports; an import of the library alone loads none of it."""
    said = python(FIRST.format(watched=watched, configured=""))
    assert said == "[]\n[]\n"


def test_with_an_sdk_it_is_loaded_before_as_well() -> None:
    """The light spans too."""
    configured = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry import trace
trace.set_tracer_provider(TracerProvider())
"""
    said = python(FIRST.format(watched="diagnostics.start()", configured=configured))
    assert said.splitlines()[-1] == "[]"


class Unprepared(Observer):
    """Somebody's own, with an error."""

    def prepare(self) -> None:
        raise LookupError("on purpose")


def test_an_observer_that_fails_to_prepare_is_no_reason_not_to_start(caplog: pytest.LogCaptureFixture) -> None:
    """It is told."""

    async def main() -> None:
        with start():
            pass

    before = default_observer()
    set_default_observer(Unprepared())
    try:
        asyncio.run(main())
    finally:
        set_default_observer(before)
    assert "failed in prepare()" in caplog.text


def python(program: str) -> str:
    """Run a program in a process of its own, warnings being errors; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
