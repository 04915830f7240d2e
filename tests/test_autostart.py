"""Diagnostics by environment variable: a program that nobody touched says what is wrong with it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otel_sched.diagnostics import Detectors, dump_on_signal, start

ROOT = Path(__file__).parents[1]

SHOP = """
import asyncio, logging, os, signal, sys, time
{imports}

async def charge(order):
    time.sleep(0.5)

async def work(orders):
    while True:
        await charge(await orders.get())
        orders.task_done()

async def main():
    orders = {queue}
    {early}
    worker = asyncio.create_task(work(orders), name="worker-1")
    await asyncio.sleep(0.1)
    orders.put_nowait(1)
    await orders.join()
    {late}
    worker.cancel()

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
{run}
print("loaded" if "otel_sched.diagnostics" in sys.modules else "not loaded")
"""
SWAPPED = {"imports": "import otel_sched", "queue": 'otel_sched.Queue(name="orders")'}
UNTOUCHED = {
    "imports": "from otel_sched.instrumentor import OtelSchedInstrumentor; OtelSchedInstrumentor().instrument()",
    "queue": "asyncio.Queue()",
}
RUN = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}


def run(place: Path, environment: dict[str, str], **parts: str) -> subprocess.CompletedProcess[str]:
    """Run the shop, which must not mind."""
    file = place / "shop.py"
    file.write_text(SHOP.format(**{"early": "", "late": "", "run": RUN["asyncio"], **SWAPPED, **parts}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("loop", RUN)
@pytest.mark.parametrize("parts", [SWAPPED, UNTOUCHED], ids=["swapped", "untouched"])
def test_the_variable_alone_has_what_blocks_named(tmp_path: Path, parts: dict[str, str], loop: str) -> None:
    """File, line and queue, where the import was swapped and where nothing was."""
    done = run(tmp_path, {"OTEL_SCHED_DIAGNOSTICS": "true"}, run=RUN[loop], **parts)
    assert f"by charge() at {tmp_path}/shop.py:6: time.sleep(0.5)" in done.stderr
    assert "asyncio task 'worker-1'" in done.stderr
    assert "failed" not in done.stderr


@pytest.mark.parametrize("environment", [{}, {"OTEL_SCHED_DIAGNOSTICS": "false"}])
def test_without_it_nothing_is_watched(tmp_path: Path, environment: dict[str, str]) -> None:
    """The module is not even loaded unless the variable is there."""
    done = run(tmp_path, environment)
    assert done.stderr == ""
    assert ("not loaded" in done.stdout) == (not environment)


@pytest.mark.parametrize("name", ["SIGUSR2", "usr2"])
def test_a_dump_is_written_on_the_signal(tmp_path: Path, name: str) -> None:
    """Into the file that is named; here while the loop is blocked."""
    file = tmp_path / "dump"
    late = "os.kill(os.getpid(), signal.SIGUSR2); time.sleep(0.1)"
    read = f"pathlib.Path({str(file)!r}).read_text()"
    wait = f"\n    import pathlib\n    while not (os.path.exists({str(file)!r}) and 'blocked in' in {read}):"
    wait += "\n        time.sleep(0.01)"
    run(tmp_path, {"OTEL_SCHED_DUMP_SIGNAL": name, "OTEL_SCHED_DUMP_FILE": str(file)}, late=late + wait)
    assert "'worker-1' (work) waits in get() of queue 'orders'" in file.read_text()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_SCHED_DIAGNOSTICS": "maybe"}, "OTEL_SCHED_DIAGNOSTICS=maybe is neither true nor false"),
        ({"OTEL_SCHED_DUMP_SIGNAL": "SIGFOO"}, "DUMP_SIGNAL must be a signal of this system, such as SIGUSR1, got"),
        ({"OTEL_SCHED_DUMP_SIGNAL": "SIGKILL"}, "OTEL_SCHED_DUMP_SIGNAL: SIGKILL cannot be used for dumps"),
        (
            {"OTEL_SCHED_DUMP_SIGNAL": "SIGUSR1", "OTEL_SCHED_DUMP_FILE": "/nowhere/x"},
            "dumps go to standard error: OTEL_SCHED_DUMP_FILE must be a path that can be appended to, got '/nowhere/x'",
        ),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_and_the_program_runs(
    tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    """A typing error must not stop a deployment; one line is enough."""
    said = run(tmp_path, environment).stderr
    assert message in said
    assert "Traceback" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("when", ["early", "late"])
def test_what_the_program_starts_itself_takes_their_place(tmp_path: Path, when: str) -> None:
    """Before the automatic ones have begun, and after; neither raises, and one block is told once."""
    own = "from otel_sched import diagnostics as d; own = d.start(dump_signal=signal.SIGUSR1)"
    again = "orders.put_nowait(1); await orders.join(); own.stop()"
    environment = {"OTEL_SCHED_DIAGNOSTICS": "true", "OTEL_SCHED_DUMP_SIGNAL": "SIGUSR1"}
    late = f"await asyncio.sleep(0.3); {again}" if when == "early" else f"{own}; await asyncio.sleep(0.3); {again}"
    done = run(tmp_path, environment, late=late, **({"early": own} if when == "early" else {}))
    assert done.stderr.count("WARNING event loop") == 2
    assert "Error" not in done.stderr


def test_only_automatic_ones_make_way() -> None:
    """Those that the program started twice are a mistake of its own."""

    async def main() -> None:
        with start(dump_signal=signal.SIGUSR2):
            with pytest.raises(RuntimeError, match="detectors look at this event loop already"):
                Detectors().start()
            with pytest.raises(ValueError, match="SIGUSR2 writes dumps already"):
                dump_on_signal(signal.SIGUSR2)

    asyncio.run(main())
