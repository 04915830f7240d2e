"""Runs CPython's own tests of asyncio's queues with other classes in the place of asyncio's.

In a process of its own, for the classes, the event loop policy and the telemetry providers are all global.
Run as a script it is that process; imported, `run_suite` starts it and reads its report.
"""

import argparse
import asyncio
import gc
import importlib.util
import json
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 120.0
CLASSES = ("Queue", "PriorityQueue", "LifoQueue")


@dataclass
class Report:
    """What one run of the suite came to."""

    tests: int = 0
    skipped: int = 0
    # Failures and errors, each with its traceback.
    problems: list[str] = field(default_factory=list)
    # Log records from WARNING on, and exceptions in finalizers: a suite can pass and still have made them.
    noise: list[str] = field(default_factory=list)
    spans: int = 0
    # The sum of each metric's data points over all queues and outcomes.
    totals: dict[str, float] = field(default_factory=dict)

    def complaint(self) -> str:
        """Return everything that went wrong as one text, empty when nothing did."""
        return "\n\n".join(self.problems + self.noise)

    def prove(self, *, tests: int) -> None:
        """Fail with what went wrong, or when fewer than so many tests ran."""
        if self.complaint():
            # The text alone: an assertion would bury it in the repr of the whole report.
            pytest.fail(
                f"{len(self.problems)} tests failed, on the side: {len(self.noise)}\n{self.complaint()}",
                False,
            )
        assert self.tests >= tests
        assert self.skipped == 0


def suite_file(stdlib: str | Path | None = None) -> Path:
    """Return the file of `test.test_asyncio.test_queues`: this Python's, or that of another standard library.

    Raises:
        FileNotFoundError: with what to install, when that Python came without its tests.
    """
    file = Path(stdlib or sysconfig.get_path("stdlib"), "test", "test_asyncio", "test_queues.py")
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: this Python came without CPython's own tests, which prove that our "
            f"queues are drop-ins. Install them (Debian, Ubuntu: lib{file.parents[2].name}-testsuite, "
            "Fedora: python3-test), or take a Python that has them, such as pyenv's"
        )
    return file


def run_suite(file: Path, classes: str, loop: str) -> Report:
    """Run the tests of a file, in this Python, in a new process.

    Args:
        file: A `test_queues.py` of CPython.
        classes: Which stand in the place of asyncio's: "ours", "watched" (asyncio's, each passed to watch()
            as it is made) or "asyncio" (its own, which shows that the rest of this machinery is innocent).
        loop: "asyncio" or "uvloop".
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", __file__, str(file), classes, loop, str(report)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        if not report.exists():
            raise RuntimeError(f"the suite's process ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return Report(**json.loads(report.read_text("utf-8")))


def put_in_place(classes: str) -> None:
    """Rebind asyncio's three names, and on Python 3.12 and older the exception that it lacks."""
    if classes == "asyncio":
        return
    import otel_sched

    stand_ins = {name: getattr(otel_sched, name) for name in CLASSES}
    if classes == "watched":
        stand_ins = {name: watched(getattr(asyncio, name)) for name in CLASSES}
    stand_ins["QueueShutDown"] = otel_sched.QueueShutDown
    for module in (asyncio, asyncio.queues):
        for name, stand_in in stand_ins.items():
            setattr(module, name, stand_in)


def watched(base: type[Any]) -> type[Any]:
    """Return a subclass of one of asyncio's queues whose instances are watched from their first moment."""
    import otel_sched

    def __init__(self: Any, maxsize: int = 0) -> None:
        base.__init__(self, maxsize)
        otel_sched.watch(self)

    return type(base.__name__, (base,), {"__init__": __init__})


def listen(report: Report) -> None:
    """Write down what would otherwise only scroll by."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.noise.append(f"logged: {record.name}: {logging.Formatter().format(record)}")

    logging.getLogger().addHandler(Listener(logging.WARNING))
    # repr() alone: keeping the object that a finalizer failed on would bring it back to life.
    sys.unraisablehook = lambda it: report.noise.append(f"unraisable: {it.exc_value!r} in {it.object!r}")


def load(file: Path) -> ModuleType:
    """Import a file as a module: its classes take asyncio's queues as they are at this moment."""
    spec = importlib.util.spec_from_file_location("cpython_test_queues", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_here(file: Path, classes: str, loop: str) -> Report:
    """Run the suite in this process, with telemetry on through the global providers, and report."""
    from opentelemetry import _logs, metrics, trace

    from otel_sched.testing import InMemoryTelemetry

    report = Report()
    listen(report)
    telemetry = InMemoryTelemetry()
    trace.set_tracer_provider(telemetry.tracer_provider)
    metrics.set_meter_provider(telemetry.meter_provider)
    _logs.set_logger_provider(telemetry.logger_provider)
    put_in_place(classes)
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    suite = unittest.defaultTestLoader.loadTestsFromModule(load(file))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    gc.collect()
    report.tests, report.skipped = result.testsRun, len(result.skipped)
    report.problems += [f"{test.id()}\n{text}" for test, text in result.errors + result.failures]
    report.spans = len(telemetry.spans)
    for name, points in telemetry.metrics().items():
        report.totals[name] = sum(getattr(point, "value", None) or getattr(point, "count", 0) for point in points)
    telemetry.close()
    return report


def main() -> None:
    """Run as told by the command line and write the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("classes", choices=["asyncio", "ours", "watched"])
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("report", type=Path)
    told = parser.parse_args()
    report = run_here(told.file, told.classes, told.loop)
    told.report.write_text(json.dumps(asdict(report)), "utf-8")


if __name__ == "__main__":
    main()
