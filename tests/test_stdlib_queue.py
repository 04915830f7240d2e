"""The proof of being drop-ins: this Python's own tests of asyncio's queues pass with our classes."""

import sys
from pathlib import Path

import pytest

from tests.cpython.suite import run_suite, suite_file

TESTS_AT_LEAST = 59 if sys.version_info >= (3, 13) else 44

# Of each of the three classes, one test puts a hundred items and has them all taken by workers.
JOBS_AT_LEAST = 300

BOTH_LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@BOTH_LOOPS
@pytest.mark.parametrize("classes", ["ours", "watched"])
def test_cpythons_own_suite_passes(classes: str, loop: str) -> None:
    """Every test passes, nothing is logged or raised on the side, and telemetry was told of every item."""
    report = run_suite(suite_file(), classes, loop)
    report.prove(tests=TESTS_AT_LEAST)
    totals = report.totals
    assert totals["otel_sched.jobs.put"] >= JOBS_AT_LEAST
    assert report.spans >= JOBS_AT_LEAST
    ended = totals["otel_sched.jobs.finished"] + totals.get("otel_sched.jobs.dropped", 0)
    assert totals["otel_sched.jobs.put"] == (totals["otel_sched.queue.size"] + totals["otel_sched.jobs.active"] + ended)


@BOTH_LOOPS
def test_cpythons_own_classes_pass_the_same_run(loop: str) -> None:
    """With asyncio's classes the machinery is found innocent: the same tests, no telemetry, no noise."""
    report = run_suite(suite_file(), "asyncio", loop)
    report.prove(tests=TESTS_AT_LEAST)
    assert report.spans == 0
    assert report.totals == {}


def test_a_failing_suite_is_reported_with_its_text(tmp_path: Path) -> None:
    """The runner hides nothing: failures, errors, skips, log records and failing finalizers all arrive."""
    file = tmp_path / "test_queues.py"
    file.write_text(
        "import asyncio, logging, unittest\n"
        "class Broken:\n"
        "    def __del__(self): raise OSError('in a finalizer')\n"
        "class Tests(unittest.TestCase):\n"
        "    def test_fails(self): self.assertEqual(asyncio.Queue.__module__, 'elsewhere')\n"
        "    def test_raises(self): raise LookupError('of the test')\n"
        "    def test_is_skipped(self): self.skipTest('why not')\n"
        "    def test_logs(self): logging.getLogger('asyncio').error('never retrieved')\n"
        "    def test_leaves(self): Broken()\n",
        "utf-8",
    )
    report = run_suite(file, "asyncio", "asyncio")
    assert (report.tests, report.skipped) == (5, 1)
    for text in ("'elsewhere'", "of the test", "never retrieved", "in a finalizer"):
        assert text in report.complaint()


def test_a_suite_that_cannot_be_imported_is_no_pass(tmp_path: Path) -> None:
    """The child process's own words come with the failure."""
    file = tmp_path / "test_queues.py"
    file.write_text("import no_such_module_anywhere\n", "utf-8")
    with pytest.raises(RuntimeError, match="no_such_module_anywhere"):
        run_suite(file, "asyncio", "asyncio")


def test_a_python_without_its_tests_is_told_what_to_install(tmp_path: Path) -> None:
    """A missing suite is a failure with a way out, not a skip."""
    with pytest.raises(FileNotFoundError, match=r"lib.+-testsuite"):
        suite_file(tmp_path)
