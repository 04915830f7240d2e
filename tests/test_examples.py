"""Every example runs by itself, warnings being errors, and prints what its documentation says it shows."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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

STUCK: dict[str, tuple[str, ...]] = {
    "blocking_call.py": (
        r"^WARNING:otel_sched:event loop 'main' has been blocked for [\d.]+ s by ask_bank\(\) at \S+blocking_call\.py:",
        r"asyncio task 'orders-\d' at work on job \w+ of queue 'orders' \(charge\)",
        r"^  File .*, in charge\n    ask_bank\(order\)$",
        r"^4 orders, 4 workers, 0\.5 s each: ",
    ),
    "skipped_task_done.py": (
        r"^ERROR:otel_sched:join\(\) of queue 'invoices' cannot finish \(awaited by 'Task-1' \(main\), at main\(\) at ",
        r"2 of 4 unfinished items have left the queue and never had a task_done\(\); taken by asyncio task "
        r"'worker-\d' \(worker, job \w+\), which ended with ValueError; .*'worker-\d'.* which ended with ValueError; "
        r"2 more wait, and no consumer is left",
        r"^    await invoices\.join\(\)$",
    ),
    "full_queue.py": (
        r"^ERROR:otel_sched:Deadlock: Queue 'pages' is full \(8\), and all of its 3 consumers wait to put into it",
        r"One waits in visit\(\) at \S+full_queue\.py:\d+",
        r"^    await pages\.put\(",
    ),
    "lock_without_timeout.py": (
        r"^WARNING:otel_sched:Job \w+ of queue 'orders' \(Client\.send\) has been running for [\d.]+ s in asyncio task "
        r"'orders-\d'.* It waits in Client\._renew\(\) at ",
        r"^dump of process \d+",
        r"\A(?=(?s:.*) waits for the Lock at \w+, held by task (\d+),)"
        r"(?s:.*)^  task \1 'orders-\d' \(Worker\.run\) waits for the StreamReader at ",
        r"^      File .*, in Client\._renew\n        return int\(await reader\.readline\(\)\)$",
        r"^  queue 'orders' \(Queue\): 47 wait .* 3 taken",
    ),
    "swallowed_cancellation.py": (
        r"^SIGTERM: going down\n(?:.*\n)*?WARNING:otel_sched:Asyncio task 'mailer-0' \(worker\) was cancelled and goes "
        r"on waiting for jobs of queue 'mails', in worker\(\) at ",
        r"swallows CancelledError",
    ),
}
"""What diagnostics say of the failures in examples/stuck."""
CURED = {
    "blocking_call.py": r"^4 orders, 4 workers, 0\.5 s each: ",
    "skipped_task_done.py": r"^every invoice was tried$",
    "full_queue.py": r"^visited all 121 pages$",
    "lock_without_timeout.py": r"^no token yet, once more\n(?:.*\n)*all orders are sent$",
    "swallowed_cancellation.py": r"^SIGTERM: going down\ndown$",
}
"""What they print in the end when they are cured."""
HICCUP = re.compile(r"event loop 'main' (?:has been|was) blocked (?!.*\bask_bank\b)")
"""What a busy machine may do to any program."""


def run(example: str, folder: Path, *arguments: str) -> str:
    """Run an example as a user does, without any OTEL_ variable, and return what it printed on both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments],
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


def run_stuck(example: str, folder: Path, *arguments: str) -> list[str]:
    """Run one of the failures on asyncio and on uvloop, side by side: most of their time they wait."""
    loops = [(), ("--uvloop",)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda loop: run(f"stuck/{example}", folder, *arguments, *loop), loops))


@pytest.mark.parametrize("example", sorted(STUCK))
def test_diagnostics_say_why_it_is_stuck(example: str, tmp_path: Path) -> None:
    """The sentence, the place and who is to blame stand in what it printed; and it came to its end."""
    for printed in run_stuck(example, tmp_path):
        for pattern in STUCK[example]:
            assert re.search(pattern, printed, re.MULTILINE), f"no line {pattern!r} in:\n{printed}"


@pytest.mark.parametrize("example", sorted(STUCK))
def test_nothing_is_said_of_it_when_it_is_cured(example: str, tmp_path: Path) -> None:
    """It does its work to the end, and diagnostics are silent."""
    for printed in run_stuck(example, tmp_path, "--cured"):
        assert re.search(CURED[example], printed, re.MULTILINE), printed
        assert not [
            line for line in re.findall(r"^\w+:otel_sched:.*", printed, re.MULTILINE) if not HICCUP.search(line)
        ]


def test_every_example_is_run_and_listed() -> None:
    """A file added to examples/ is executed by this test and stands in the index."""
    files = {path.name for path in EXAMPLES.glob("*.py")} - {"shown.py"}
    assert files == set(SHOWS)
    stuck = {path.name for path in (EXAMPLES / "stuck").glob("*.py")} - {"bounded.py"}
    assert stuck == set(STUCK) == set(CURED)
    index = (EXAMPLES / "README.md").read_text("utf-8")
    listed = set(re.findall(r"^\| \[((?:stuck/)?[\w.]+\.py)\]", index, re.MULTILINE))
    assert listed == files | {f"stuck/{name}" for name in stuck}
