"""A dump on a signal: also while the loop hangs, and without taking the signal from anybody."""

import asyncio
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_sched.diagnostics import dump_on_signal, sightings
from otel_sched.testing import wait_until, wait_until_sync
from tests.conftest import LOOPS, ARun

ROOT = Path(__file__).parents[2]


def send() -> None:
    """Send this process the signal."""
    os.kill(os.getpid(), signal.SIGUSR1)


def dumps_in(path: Path) -> int:
    """Return how many dumps were written whole: the threads come last."""
    return path.read_text("utf-8").count("\nthreads: ") if path.exists() else 0


def test_a_dump_is_written_while_the_loop_hangs(loop_kind: str, tmp_path: Path) -> None:
    """By a thread of its own: the line that hangs is in it before the loop goes on."""
    path = tmp_path / "dump.txt"

    async def hangs() -> None:
        send()
        wait_until_sync(lambda: dumps_in(path) == 1)

    async def main() -> None:
        await asyncio.create_task(hangs(), name="the culprit")

    with dump_on_signal(file=path), asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
        runner.run(main())
    text = path.read_text("utf-8")
    assert re.search(r"task \d+ 'the culprit' \(.*hangs\) runs", text)
    assert "wait_until_sync(lambda: dumps_in(path) == 1)" in text


def test_what_the_signal_interrupted_is_kept_though_nothing_else_could_run(tmp_path: Path) -> None:
    """A regular expression holds the interpreter: the stack of that moment is from the signal handler itself."""
    path = tmp_path / "dump.txt"
    program = f"""
        import os, re, signal, subprocess, sys
        from otel_sched.diagnostics import dump_on_signal
        from otel_sched.testing import wait_until_sync

        def greedy():
            subprocess.Popen(["/bin/sh", "-c", f"sleep 0.1; kill -USR1 {{os.getpid()}}"])
            while not os.path.getsize({str(path)!r}):
                re.match(r"(a+)+$", "a" * 24 + "b")

        with dump_on_signal(file={str(path)!r}):
            greedy()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=True, timeout=50, env={**os.environ}
    )
    text = path.read_text("utf-8")
    assert "in greedy" in text[text.index("when the signal came") : text.index("\nthreads: ")]


def test_every_signal_writes_another_dump(tmp_path: Path) -> None:
    """Appended; as JSON each in a line of its own."""
    path = tmp_path / "dumps.json"
    with dump_on_signal(file=str(path), form="json"):
        for count in (1, 2):
            send()
            wait_until_sync(lambda count=count: path.exists() and path.read_text().count('"threads"') == count)  # type: ignore[misc]
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["interrupted"]
    assert first["pid"] == second["pid"] == os.getpid()


def test_an_open_file_and_standard_error_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error as it is when the signal comes."""
    file = io.StringIO()
    with dump_on_signal(file=file):
        send()
        wait_until_sync(lambda: "\nthreads: " in file.getvalue())
    said: list[str] = []
    with dump_on_signal():
        send()
        wait_until_sync(lambda: said.append(capsys.readouterr().err) or "\nthreads: " in "".join(said))


def test_who_had_the_signal_before_still_gets_it(arun: ARun, tmp_path: Path) -> None:
    """A handler of the loop is called as well, and keeps the signal afterwards."""
    path = tmp_path / "dump.txt"

    async def main() -> int:
        loop, came = asyncio.get_running_loop(), asyncio.Queue[None]()
        loop.add_signal_handler(signal.SIGUSR1, came.put_nowait, None)
        with dump_on_signal(file=path):
            send()
            await came.get()
            wait_until_sync(lambda: dumps_in(path) == 1)
        send()
        await came.get()
        loop.remove_signal_handler(signal.SIGUSR1)
        return dumps_in(path)

    assert arun(main()) == 1


def test_stop_gives_the_signal_back_and_ends_the_thread() -> None:
    """A handler that somebody set meanwhile stays; a second stop does nothing."""
    calls: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    threads = threading.active_count()
    made = dump_on_signal(file=io.StringIO())
    assert threading.active_count() == threads + 1
    signal.signal(signal.SIGUSR1, lambda number, _: calls.append(number))
    try:
        made.stop()
        made.stop()
        send()
        assert calls == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert threading.active_count() == threads


def test_it_can_be_asked_from_any_thread(tmp_path: Path) -> None:
    """Python lets only the main thread set handlers; this is none of Python's."""
    path = tmp_path / "dump.txt"
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(dump_on_signal(file=path)))
    thread.start()
    thread.join()
    send()
    wait_until_sync(lambda: dumps_in(path) == 1)
    made[0].stop()


def test_a_file_that_cannot_be_written_any_more_loses_no_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That one goes to standard error, and says why; the next one to the file again."""
    path = tmp_path / "there" / "dump.txt"
    path.parent.mkdir()
    said: list[str] = []
    with dump_on_signal(file=path):
        shutil.rmtree(path.parent)
        send()
        wait_until_sync(lambda: said.append(capsys.readouterr().err) or "\nthreads: " in "".join(said))
        path.parent.mkdir()
        send()
        wait_until_sync(lambda: dumps_in(path) == 1)
    assert f"otel_sched: {str(path)!r} cannot be written to (FileNotFoundError(" in "".join(said)


def test_a_file_that_was_closed_loses_no_dump(capsys: pytest.CaptureFixture[str]) -> None:
    """Likewise."""
    file = io.StringIO()
    said: list[str] = []
    with dump_on_signal(file=file):
        file.close()
        send()
        wait_until_sync(lambda: said.append(capsys.readouterr().err) or "\nthreads: " in "".join(said))
    assert "so the dump comes here:\ndump of process" in "".join(said)


def test_when_standard_error_fails_too_it_is_logged_and_the_next_dump_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread lives on."""
    path = tmp_path / "there" / "dump.txt"
    path.parent.mkdir()
    with dump_on_signal(file=path):
        shutil.rmtree(path.parent)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", None)
            send()
            wait_until_sync(lambda: "a dump on a signal failed" in caplog.text)
        path.parent.mkdir()
        send()
        wait_until_sync(lambda: dumps_in(path) == 1)


def test_a_pipe_is_not_opened_before_there_is_a_dump(tmp_path: Path) -> None:
    """That would wait for a reader."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    dump_on_signal(file=path).stop()


@pytest.mark.parametrize("name", ["SIGUSR1", "usr1"])
def test_a_signal_may_be_given_by_name(name: str, tmp_path: Path) -> None:
    """As one writes it in a shell."""
    path = tmp_path / "dump.txt"
    with dump_on_signal(name, file=path):
        send()
        wait_until_sync(lambda: dumps_in(path) == 1)


def test_a_forked_child_makes_dumps_of_its_own(tmp_path: Path) -> None:
    """With its own thread and pipe: the parent's stay the parent's."""
    path = tmp_path / "dump.txt"
    program = f"""
        import os, signal, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from 3.12 on
        from pathlib import Path
        from otel_sched.diagnostics import dump_on_signal
        from otel_sched.testing import wait_until_sync

        path = Path({str(path)!r})
        dump_on_signal(file=path)
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until_sync(lambda: path.exists() and f"process {{os.getpid()}}" in path.read_text())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert f"process {{os.getpid()}}" not in path.read_text()
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until_sync(lambda: f"process {{os.getpid()}}" in path.read_text())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def noted(task: "asyncio.Task[Any]") -> Callable[[], bool]:
    """Return a predicate: whether the thread has seen *task* a while ago."""
    return lambda: sightings.tasks._known.get(task, (0, time.monotonic()))[1] < time.monotonic() - 0.02


def test_tasks_are_noted_before_the_signal_comes(tmp_path: Path) -> None:
    """So that the first dump knows how old they are."""
    path = tmp_path / "dump.json"

    async def main() -> Any:
        idle = asyncio.create_task(asyncio.Event().wait(), name="idle")
        await asyncio.sleep(0)
        with dump_on_signal(file=path, form="json"):
            await wait_until(noted(idle))
            send()
            wait_until_sync(lambda: path.exists() and '"threads"' in path.read_text())
        idle.cancel()
        return json.loads(path.read_text())

    (idle,) = [task for task in asyncio.run(main())["tasks"] if task["name"] == "idle"]
    assert idle["age"] > 0.02
    assert idle["wait"]["seconds"] > 0.02


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"signum": 4711}, ValueError, "signum must be a signal of this system, such as SIGUSR1, got 4711"),
        ({"signum": "SIGNOTHING"}, ValueError, "'SIGNOTHING'"),
        ({"signum": True}, ValueError, "True"),
        ({"file": "/nowhere/dump"}, ValueError, "file must be .* got '/nowhere/dump': No such file or directory. Make"),
        ({"file": "/"}, ValueError, "got '/': Is a directory"),
        ({"signum": signal.SIGKILL}, ValueError, "SIGKILL"),
        ({"signum": signal.SIGSEGV}, ValueError, "SIGSEGV"),
        ({"form": "xml"}, ValueError, "xml"),
        ({"file": 3}, TypeError, "3"),
        ({"limit": 0}, ValueError, "0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    """At once, not when the signal comes; nothing is left behind."""
    threads = threading.active_count()
    with pytest.raises(error, match=said):
        dump_on_signal(**arguments)
    assert threading.active_count() == threads


def test_a_signal_writes_to_one_place(tmp_path: Path) -> None:
    """A second one would take it from the first unseen."""
    with dump_on_signal(file=tmp_path / "one"), pytest.raises(ValueError, match="SIGUSR1 writes dumps already"):
        dump_on_signal(file=tmp_path / "two")
