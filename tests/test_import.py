"""The library needs the OpenTelemetry API and nothing else; a wheel of it is complete.

Each import runs in a process of its own, in which what may not be imported cannot be.
"""

import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "otel_sched"

FORBID = """
import sys

FORBIDDEN = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "structlog", "rich", "grpc")

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in FORBIDDEN):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())
"""

USE = """
import asyncio
import otel_sched as os_

handled = []

@os_.instrument
async def handle(item):
    handled.append(item)

async def main():
    for kind in (os_.Queue, os_.PriorityQueue, os_.LifoQueue):
        queue = kind(name="orders")
        await queue.put(1)
        await handle(await queue.get())
        queue.task_done()
        assert queue.stats().outcomes == {"ok": 1}
    watched = os_.watch(asyncio.Queue(), name="watched")
    async with os_.WorkerPool(watched, handle, workers=2) as pool:
        for item in range(5):
            watched.put_nowait(item)
        await pool.join()
    os_.unwatch(watched)

asyncio.run(main())
assert sorted(handled) == [0, 1, 1, 1, 1, 2, 3, 4], handled
"""

ALONE = """
import otel_sched
for name in otel_sched.__all__:
    getattr(otel_sched, name)
try:
    otel_sched.configure(service_name="shop")
except otel_sched.ConfigurationError as error:
    print(error)
"""


def python(program: str, path: Path = ROOT, cwd: Path | None = None) -> str:
    """Run *program*, warnings being errors, with *path* to import from; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**kept, "PYTHONPATH": str(path)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=45.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_what_is_forbidden_cannot_be_imported() -> None:
    """The other tests here prove something only if this holds."""
    program = "try: import opentelemetry.sdk.trace\nexcept ModuleNotFoundError as error: print(error)"
    assert python(FORBID + program) == "No module named 'opentelemetry.sdk'\n"


def test_queues_pools_and_instrument_work_with_the_api_alone() -> None:
    """No SDK, no exporter and no structlog is imported for any of them, and they work."""
    loaded = "print([name for name in sys.modules if name.startswith(FORBIDDEN)])"
    assert python(FORBID + USE + loaded) == "[]\n"


def test_configure_says_what_is_missing() -> None:
    """Every public name is there without the SDK; configure() then says what to install."""
    said = python(FORBID + ALONE)
    assert "needs the OpenTelemetry SDK" in said
    assert "pip install 'otel-sched[otlp]'" in said


@pytest.mark.stack
def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """It holds every module, py.typed and the license, asks for the API alone, and works on its own.

    Here and not in every run, for building it takes the package registry.
    """
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*build, "--wheel-dir", str(tmp_path), str(ROOT)], capture_output=True, text=True, timeout=55.0, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_string(archive.read(info["METADATA"]).decode())
        points = archive.read(info["entry_points.txt"]).decode()
        archive.extractall(tmp_path / "site")
    sources = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert files == sources | {"otel_sched/py.typed"}
    assert "licenses/LICENSE" in info
    required = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert [each.partition("<")[0].partition(">")[0] for each in required] == ["opentelemetry-api"]
    assert "otel-sched = otel_sched.cli:main" in points
    where = python("import otel_sched; print(otel_sched.__file__)", tmp_path / "site", tmp_path)
    assert where.strip() == str(tmp_path / "site" / "otel_sched" / "__init__.py")
    python(FORBID + USE, tmp_path / "site", tmp_path)
