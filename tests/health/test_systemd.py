"""sd_notify: what systemd is told, and that a loop which hangs falls silent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_sched.health import systemd
from otel_sched.testing import wait_until, wait_until_sync
from tests.conftest import ARun

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stand in for systemd: a socket that NOTIFY_SOCKET names."""
    name = f"@otel_sched-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.setblocking(False)
        yield listening


def told(manager: socket.socket) -> list[bytes]:
    """Return what has come in."""
    found = []
    while True:
        try:
            found.append(manager.recv(4096))
        except BlockingIOError:
            return found


def test_states_go_out_in_one_datagram(manager: socket.socket) -> None:
    """As sd_notify(3) has them, one a line."""
    assert systemd.notify("READY=1", "STATUS=taking orders")
    assert told(manager) == [b"READY=1\nSTATUS=taking orders"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1", "@" + "x" * 200])
def test_without_systemd_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service runs outside of it too, and a manager that is gone is no error of the service."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert systemd.notify("READY=1") is False


def test_a_full_socket_is_not_waited_for(manager: socket.socket) -> None:
    """The event loop must not hang in its own watchdog."""
    while systemd.notify("WATCHDOG=1"):
        pass
    assert len(told(manager)) > 0


@pytest.mark.parametrize(
    ("microseconds", "process", "seconds"),
    [
        ("30000000", None, 30.0),
        ("500000", "own", 0.5),
        ("500000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
    ],
)
def test_the_interval_is_that_of_the_unit(
    microseconds: str, process: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only for the process that it is meant for."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if process is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "own" else process)
    assert systemd.watchdog_interval() == seconds


def test_the_loop_tells_that_it_turns_until_it_is_stopped(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, arun: ARun
) -> None:
    """At once and then twice in each interval; after stop() no more."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000")

    async def main() -> None:
        watchdog = systemd.start_watchdog()
        assert watchdog is not None
        messages: list[bytes] = []
        await wait_until(lambda: messages.extend(told(manager)) or len(messages) >= 3)
        assert set(messages) == {b"WATCHDOG=1"}
        watchdog.stop()
        told(manager)
        await asyncio.sleep(0.03)
        assert told(manager) == []

    arun(main())


def test_there_is_no_watchdog_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch, arun: ARun) -> None:
    """Not under systemd, or a unit without WatchdogSec=."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    async def main() -> None:
        assert systemd.start_watchdog() is None

    arun(main())


def test_a_watchdog_needs_an_interval() -> None:
    """Zero would be a busy loop."""
    with pytest.raises(ValueError, match="interval must be more than 0 s"):
        systemd.Watchdog(0)


SERVICE = """
import asyncio, sys, time
from otel_sched.health import systemd

async def main():
    systemd.start_watchdog()
    systemd.notify("READY=1")
    await asyncio.to_thread(sys.stdin.readline)
    what_hangs()

def what_hangs():
    print("hanging", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is there only")
def test_a_service_that_hangs_falls_silent_and_dies_with_its_stack(manager: socket.socket, tmp_path: Path) -> None:
    """All that systemd sees and does: READY, a sign of life in each interval, silence, and then its SIGABRT."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "WATCHDOG_USEC": "100000"}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", SERVICE],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        messages: list[bytes] = []
        wait_until_sync(
            lambda: messages.extend(told(manager)) or messages.count(b"WATCHDOG=1") >= 5,
            timeout=40,
            description="signs of life",
        )
        assert messages[:2] == [b"WATCHDOG=1", b"READY=1"]
        print(file=service.stdin, flush=True)
        assert service.stdout.readline() == "hanging\n"
        told(manager)  # what was sent before
        manager.settimeout(0.3)
        with pytest.raises(TimeoutError):
            manager.recv(4096)
        service.send_signal(signal.SIGABRT)
        _, stack = service.communicate(timeout=30)
    assert service.returncode == -signal.SIGABRT
    thread = stack.partition("Current thread")[2].splitlines()[1]
    assert thread.endswith("in what_hangs")
