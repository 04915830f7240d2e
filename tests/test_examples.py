"""Every example runs by itself, warnings being errors, and prints what its documentation says it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LIMIT = 30.0
"""Seconds after which an example hangs; each takes less than three."""

SHOWS: dict[str, tuple[str, ...]] = {
    "import_swap.py": (
        r"^span process orders +ok .* parent=\.\.\w{4} link=\.\.\w{4}$",
        r"outcomes \{'ok': 2, 'error': 1\}",
        r"^metric otel_sched\.jobs\.finished 1 .*'job\.outcome': 'error'",
    ),
    "watch_existing.py": (
        r"^the same object: True - still an asyncio\.Queue: True$",
        r"^span process mails +ok",
        r"^unwatched, a plain queue again: True$",
    ),
    "worker_pool.py": (
        r"^joined: .*'ok': 4.*'error': 1.*'timeout': 1.*limit=4, workers=4",
        r"^WARNING pool 'orders': the grace of 0\.1 s is over; cancelling 1 running",
        r"^left: .*'cancelled': 1",
    ),
    "instrument_handler.py": (
        r"^in a job: cat\.png@800$",
        r"^span resize .* parent=\.\.\w{4} link=\.\.\w{4}$",
        r"^span process images .* parent=\.\.\w{4} link=\.\.\w{4}\n(?:.*\n)*^in a span of its own",
        r"outcomes: \{'unobserved': 1, 'ok': 1\}|outcomes: \{'ok': 1, 'unobserved': 1\}",
    ),
    "batch_consumer.py": (
        r"^inserted \[0, 1, 2, 3\]\n(?:span process rows +ok.*\n){4}",
        r"^outcomes: \{'ok': 6\}$",
    ),
    "dispatcher.py": (
        r"order 3 ran in the job of item 3\n(?:.*\n)*order 2 ran in the job of item 2\n(?:.*\n)*"
        r"order 1 ran in the job of item 1\n",
        r"^outcomes: \{'ok': 3\}$",
    ),
    "structlog_logging.py": (
        r'"event": "charging", "job_id": "\w+", "job_name": "charge".*"queue": "orders".*"trace_id": "\w{32}"',
        r'^\{"event": "outside of any job", "level": "info"\}$',
    ),
    "stdlib_logging.py": (
        r"^ERROR order 2 is not paid queue=orders job_id=\w+ trace_id=\w{32}$",
        r"^outcomes: \{'ok': 1, 'error': 1\}$",
    ),
    "baggage.py": (
        r"^nothing: baggage plan=None, the producer's tenant=not carried$",
        r"^baggage: baggage plan=gold, the producer's tenant=not carried$",
        r"^context: baggage plan=gold, the producer's tenant=acme$",
        r"^in the pool: tenant=acme, plan=gold$",
    ),
    "priority.py": (
        r"mail: \(1, 'password reset'\)\n(?:.*\n)*mail: \(3, 'receipt'\)\n(?:.*\n)*mail: \(5, 'newsletter'\)",
        r"undo: delete\n(?:.*\n)*undo: paste\n(?:.*\n)*undo: type",
        r"^outcomes: \{'ok': 3\} \{'ok': 3\}$",
    ),
    "shutdown.py": (
        r"^at_once \{'ok': 1, 'cancelled': 3\}$",
        r"^gently \{'ok': 4\}$",
        r"^metric otel_sched\.jobs\.cancelled 3 .*'cancel\.state': 'queued', 'cancel\.reason': 'shutdown'",
    ),
    "health.py": (
        r"^/startupz 200$",
        r"^/readyz 503 check 'database' returned False\n(?:.*\n)*?/readyz 200$",
        r"^/livez 200\n(?:.*\n)*?/livez 503 event loop 'main' has not turned\n(?:.*\n)*?/livez 200$",
        r"^/readyz 503 queue 'orders': the oldest job has waited [\d.]+ s, more than 0\.5 s$",
        r"^/scale \{'size': \d+, 'active': 1, 'workers': 1, 'utilization': 1\.0\}\n(?:.*\n)*?/readyz 200$",
    ),
    "own_providers.py": (
        r"^global provider: \['process early'\]$",
        r"^passed provider: \['process audit'\]$",
    ),
}


def run(example: str, folder: Path) -> str:
    """Run an example as a user does, without any OTEL_ variable, and return what it printed on both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("example", sorted(SHOWS))
def test_the_example_shows_what_it_is_for(example: str, tmp_path: Path) -> None:
    """It ends with status 0, and each expected line stands in what it printed."""
    printed = run(example, tmp_path)
    for pattern in SHOWS[example]:
        assert re.search(pattern, printed, re.MULTILINE), f"no line {pattern!r} in:\n{printed}"


def test_every_example_is_run_and_listed() -> None:
    """A file added to examples/ is executed by this test and stands in the index."""
    files = {path.name for path in EXAMPLES.glob("*.py")} - {"shown.py"}
    assert files == set(SHOWS)
    index = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| \[([\w.]+\.py)\]", index, re.MULTILINE)) == files
