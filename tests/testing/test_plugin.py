"""The pytest plugin, as others have it: sessions of their own, in processes of their own, with warnings as errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "testing.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)

APPLICATION = """
import asyncio
from otel_sched import Queue, WorkerPool

async def handle(order):
    if order == 2:
        raise ValueError("no money")

async def main():
    orders = Queue(name="orders")
    async with WorkerPool(orders, handle) as pool:
        for order in (1, 2):
            orders.put_nowait(order)
        await pool.join()
"""

FORBID_SDK = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())
"""


class Session:
    """A folder with tests, and sessions in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tests"
        self._folder.mkdir()
        info = folder / "installed" / "otel_sched-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otel-sched\nVersion: 0\n", "utf-8")
        (info / "entry_points.txt").write_text("[pytest11]\notel_sched = otel_sched.testing.plugin\n", "utf-8")
        # What a wheel lists: pytest rewrites the assertions of such packages, if they are not imported yet.
        (info / "RECORD").write_text("otel_sched/__init__.py,,\notel_sched-0.dist-info/METADATA,,\n", "utf-8")
        self._path = os.pathsep.join([str(info.parent), str(ROOT)])
        self.write("app", APPLICATION)

    def write(self, name: str, text: str) -> None:
        """Add a module."""
        (self._folder / f"{name}.py").write_text(text, "utf-8")

    def run(self, *options: str, before: str = "") -> str:
        """Run pytest and return what it prints, after the program *before* in the same process."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PY"))}
        program = f"{before}\nimport sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))"
        given = ["-p", "no:cacheprovider", "-W", "error", "-rA", "--no-header", *options]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *given],
            cwd=self._folder,
            env={**kept, "PYTHONPATH": self._path},
            capture_output=True,
            text=True,
            timeout=55.0,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


USES_ALL = """
import asyncio
from app import main

def test_telemetry(otel_telemetry):
    asyncio.run(main())
    failed = otel_telemetry.spans.named("process orders").with_outcome("error").one()
    otel_telemetry.logs.of_span(failed).of_event("otel_sched.job.exception").one()
    assert otel_telemetry.metric("otel_sched.jobs.finished", queue="orders").value == 2

def test_recorder(otel_recorder):
    asyncio.run(main())
    assert otel_recorder.outcomes("orders") == {"ok": 1, "error": 1}

def test_both(otel_recorder, otel_telemetry):
    asyncio.run(main())
    assert len(otel_recorder.jobs()) == len(otel_telemetry.spans.of_queue("orders")) == 2

def test_virtual(virtual_loop):
    virtual_loop.run_until_complete(asyncio.sleep(3600))
    assert virtual_loop.time() == 3600
    virtual_loop.create_task(asyncio.sleep(3600))
"""


@pytest.mark.parametrize(
    "options", [[], ["-n", "2"], ["-p", "no:logging"], ["-p", "no:xdist", "--import-mode=importlib"]]
)
def test_fixtures_see_code_that_knows_nothing_of_them(session: Session, options: list[str]) -> None:
    """Each test for itself, spread over processes too."""
    session.write("test_it", USES_ALL)
    session.write("conftest", "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))")
    assert "4 passed" in session.run(*options)


def test_what_a_fixture_changes_is_taken_back_when_the_test_fails(session: Session) -> None:
    """The next test finds everything as it was."""
    session.write(
        "test_it",
        """
import logging, asyncio
from otel_sched._core.finding import default_reporter
from otel_sched._core.observer import default_observer
from otel_sched.telemetry import interest

before = default_observer(), default_reporter(), interest.correlating

def test_fails(otel_telemetry, otel_recorder, virtual_loop):
    virtual_loop.run_until_complete(asyncio.sleep(1))
    assert default_observer() is not before[0]
    raise LookupError("on purpose")

def test_after():
    assert (default_observer(), default_reporter(), interest.correlating) == before
    assert not [each for each in logging.getLogger().handlers if type(each).__module__.startswith("otel_sched")]
""",
    )
    said = session.run()
    assert "1 failed, 1 passed" in said
    assert "LookupError: on purpose" in said


def test_a_session_that_uses_no_fixture_pays_next_to_nothing(session: Session) -> None:
    """No OpenTelemetry, no other event loop and no thread is there because of the plugin."""
    session.write(
        "test_it",
        """
import sys, threading

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("otel_sched")
    wings = ("opentelemetry", "uvloop", "structlog", "otel_sched.diagnostics", "otel_sched.health")
    assert not [name for name in sys.modules if name.startswith(wings)]
    assert threading.active_count() == 1
""",
    )
    assert "1 passed" in session.run("-p", "no:xdist", "-p", "no:timeout")


def test_without_the_sdk_a_fixture_says_what_to_install_and_the_others_work(session: Session) -> None:
    """The session itself does not mind."""
    session.write("test_it", USES_ALL)
    said = session.run(before=FORBID_SDK)
    assert "2 passed, 2 errors" in said
    assert "pip install opentelemetry-sdk" in said


def test_it_can_be_switched_off(session: Session) -> None:
    """Then the rest of the session is as without it."""
    session.write("test_it", USES_ALL + "\ndef test_other(): pass\n")
    said = session.run("-p", "no:otel_sched")
    assert "fixture 'otel_telemetry' not found" in said
    assert "1 passed, 4 errors" in said


def test_it_does_not_mind_that_the_library_was_imported_before(session: Session) -> None:
    """pytest warns of packages with plugins that were: here a warning would end the session."""
    session.write("test_it", USES_ALL)
    assert "4 passed" in session.run(before="import otel_sched.testing")


def test_a_fixture_of_the_same_name_wins(session: Session) -> None:
    """As everywhere in pytest."""
    session.write(
        "test_it",
        """
import pytest

@pytest.fixture
def otel_telemetry():
    return "mine"

def test_it(otel_telemetry):
    assert otel_telemetry == "mine"
""",
    )
    assert "1 passed" in session.run()


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_what_the_documentation_shows_works(session: Session, number: int) -> None:
    """Each block of Python in the how-to is a file of tests that pass."""
    session.write("test_it", PROGRAMS[number])
    said = session.run()
    assert re.search(r"^=+ \d+ passed in", said, re.MULTILINE), said


def test_fixtures_are_listed_with_what_they_are_for(session: Session) -> None:
    """`pytest --fixtures` shows the first line of each."""
    said = session.run("--fixtures")
    for name in ("otel_telemetry", "otel_recorder", "virtual_loop"):
        assert name in said
    assert "tell OpenTelemetry, in memory" in said
