"""/livez while an event loop hangs, asked over HTTP: the loop in question is always watched, whoever else beats."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from otel_sched._core import liveness
from otel_sched._core.clock import monotonic
from otel_sched.diagnostics import LoopMonitor, monitor_loop
from otel_sched.health import HealthApp, HealthServer, serve
from otel_sched.testing import wait_until_sync
from tests.conftest import LOOPS, ARun
from tests.health.asking import Reply, fetch

ROOT = Path(__file__).parents[2]
PROMISED = 2.0
"""Seconds after which /livez says of a loop that it hangs."""


def until(server: HealthServer, status: int, path: str = "/livez") -> Reply:
    """Ask until the answer has that status, and return it."""
    reply = wait_until_sync(
        lambda: (reply := fetch(server, path, timeout=30)).status == status and reply,
        timeout=30,
        description=f"the status {status}",
    )
    assert reply is not False
    return reply


def hang(server: HealthServer) -> Reply:
    """Block this thread's event loop until /livez says so, and return what it says."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(until, server, 503).result()


def hung(reply: Reply) -> list[str]:
    """Return the names of the loops that hang."""
    return [reason.split("'")[1] for reason in reply.json["reasons"]]


@contextlib.contextmanager
def elsewhere(loop_kind: str, begin: Callable[[], Any]) -> Iterator[Any]:
    """Run an event loop in another thread, call *begin* in it, and yield what that returned."""
    ready, over, made = threading.Event(), threading.Event(), []

    async def main() -> None:
        made.append(begin())
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.01)

    def run() -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_kind]) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, name="elsewhere")
    thread.start()
    try:
        assert ready.wait(30)
        yield made[0]
    finally:
        over.set()
        thread.join()


def test_it_fails_while_the_loop_hangs_and_recovers(arun: ARun) -> None:
    """Though nobody has installed a heartbeat; each answer says which loop, and none is kept."""

    async def main() -> None:
        async with HealthServer(port=0) as server:
            well = await asyncio.to_thread(until, server, 200)
            assert list(well.json["loops"]) == ["main"]
            reply = hang(server)
            assert hung(reply) == ["main"]
            assert reply.headers["cache-control"] == "no-store"
            await asyncio.to_thread(until, server, 200)

    arun(main())
    assert liveness.ages(monotonic()) == {}


def test_while_it_hangs_nobody_is_ready_and_the_hang_is_the_first_reason(arun: ARun) -> None:
    """A check that has to wait for the loop is not what is wrong."""

    async def ping() -> None:
        """Nothing is wrong with it."""

    async def main() -> None:
        app = HealthApp()
        app.add_check("database", ping, timeout=0.1, cache=0.01)
        async with HealthServer(app, port=0) as server:
            await asyncio.to_thread(until, server, 200, "/readyz")
            hang(server)
            with ThreadPoolExecutor(1) as threads:  # which is waited for, with the loop hanging
                pending = threads.submit(lambda: wait_until_sync(lambda: _names_the_loop(server), timeout=30))
                pending.result()
            await asyncio.to_thread(until, server, 200, "/readyz")

    arun(main())


def _names_the_loop(server: HealthServer) -> bool:
    reply = fetch(server, "/readyz", timeout=30)
    return reply.status == 503 and reply.json["reasons"][0].startswith("event loop 'main' has not turned for")


@pytest.mark.parametrize("first", ["monitor", "server"])
def test_a_monitor_in_the_same_loop_may_come_and_go(first: str, arun: ARun) -> None:
    """The loop is one, under one name; it is watched as well before the monitor and after it."""

    async def main() -> None:
        monitor = monitor_loop() if first == "monitor" else None
        async with HealthServer(port=0) as server:
            monitor = monitor or monitor_loop()
            reply = await asyncio.to_thread(until, server, 200)
            assert list(reply.json["loops"]) == ["main"]
            assert hung(hang(server)) == ["main"]
            await asyncio.to_thread(until, server, 200)
            monitor.stop()
            assert hung(hang(server)) == ["main"]
            await asyncio.to_thread(until, server, 200)

    arun(main())
    assert liveness.ages(monotonic()) == {}


@pytest.mark.parametrize("first", ["monitor", "server"])
def test_a_monitor_of_another_loop_does_not_stand_in_for_ours(first: str, loop_kind: str, arun: ARun) -> None:
    """Both are watched, whichever came first, and only the one that hangs is named."""

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            if first == "monitor":
                stack.enter_context(elsewhere(loop_kind, monitor_loop))
            server = stack.enter_context(HealthServer(port=0))
            if first == "server":
                stack.enter_context(elsewhere(loop_kind, monitor_loop))
            reply = await asyncio.to_thread(until, server, 200)
            assert sorted(reply.json["loops"]) == ["elsewhere", "main"]
            assert hung(hang(server)) == ["main"]
            await asyncio.to_thread(until, server, 200)

    arun(main())


def test_a_monitor_that_is_named_like_another_loop_does_not_hide_it(loop_kind: str, arun: ARun) -> None:
    """Started here, for a loop elsewhere, it would be called main too."""

    async def main() -> None:
        with elsewhere(loop_kind, asyncio.get_running_loop) as loop:
            monitor = LoopMonitor(loop=loop).start()
            async with HealthServer(port=0) as server:
                wait_until_sync(lambda: len(liveness.ages(monotonic())) == 2, description="the heartbeat elsewhere")
                assert hung(hang(server)) == ["main-2"]
            monitor.stop()

    arun(main())


def test_an_application_may_be_told_of_several_loops(loop_kind: str, arun: ARun) -> None:
    """One server answers for all; the loop it was started in is watched though the application watches another."""
    app = HealthApp()

    async def main() -> None:
        with elsewhere(loop_kind, app.watch_loop):
            async with HealthServer(app, port=0) as server:
                app.watch_loop()
                app.watch_loop()
                assert hung(hang(server)) == ["main"]
                await asyncio.to_thread(until, server, 200)
                app.unwatch_loop()
                assert list(liveness.ages(monotonic())) == ["main"]  # the server's own

    arun(main())
    assert liveness.ages(monotonic()) == {}


def test_two_servers_in_two_loops_watch_both(loop_kind: str, arun: ARun) -> None:
    """Each answers for the whole process; one that stops leaves the other's loop watched."""

    async def main() -> None:
        app = HealthApp()
        with elsewhere(loop_kind, lambda: serve(app, port=0)) as other, HealthServer(app, port=0):
            assert sorted(fetch(other, "/livez").json["loops"]) == ["elsewhere", "main"]
            assert hung(hang(other)) == ["main"]
            other.stop()
            assert list(liveness.ages(monotonic())) == ["main"]

    arun(main())


CHILD = """
import asyncio, os, sys, time
from otel_sched.health import serve

async def main():
    server = serve(port=0)
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(time.monotonic(), flush=True)
    while not os.path.exists("enough"):
        time.sleep(0.1)  # blocks the loop all the while
    print(time.monotonic(), flush=True)
    await asyncio.to_thread(sys.stdin.readline)

factory = None
if sys.argv[1] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


def curl(url: str) -> tuple[float, int]:
    """Ask with curl; return when it was begun, and the status."""
    began = monotonic()
    command = ["curl", "--silent", "--output", os.devnull, "--max-time", "30", "--write-out", "%{http_code}", url]
    return began, int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a clock that all processes share")
def test_curl_sees_within_two_seconds_that_another_process_hangs(
    loop_kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nobody who asks two seconds after the loop was blocked gets a 200, and nobody who asks long after it a 503."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, loop_kind],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/livez"
        assert curl(url)[1] == 200
        print(file=child.stdin, flush=True)
        blocked = float(child.stdout.readline())
        failed = ask_until(503, url)
        later = [curl(url)[1] for _ in range(3)]
        (tmp_path / "enough").touch()
        resumed = float(child.stdout.readline())
        well = ask_until(200, url)
        child.communicate("\n", timeout=30)
    assert child.returncode == 0
    assert [began - blocked for began, status in failed if status == 200 and began > blocked + PROMISED] == []
    assert later == [503, 503, 503]
    record_property("seconds to 503", round(failed[-1][0] - blocked, 3))
    record_property("seconds to 200", round(well[-1][0] - resumed, 3))


def ask_until(status: int, url: str) -> list[tuple[float, int]]:
    """Ask with curl again and again until the status comes; return when each was begun, and its status."""
    asked: list[tuple[float, int]] = []

    def ask() -> bool:
        asked.append(curl(url))
        return asked[-1][1] == status

    wait_until_sync(ask, timeout=40, description=f"the status {status}")
    return asked
