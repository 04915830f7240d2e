"""The server: real HTTP, from a thread of its own, whatever the event loop and the clients do."""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_sched._core import liveness
from otel_sched._core.clock import monotonic
from otel_sched._core.liveness import Beats
from otel_sched.health import HealthApp, HealthServer, serve
from otel_sched.testing import run as run_virtually
from otel_sched.testing import wait_until_sync
from tests.conftest import ARun
from tests.health.asking import fetch
from tests.loops import running

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@contextlib.contextmanager
def serving(**arguments: Any) -> Iterator[HealthServer]:
    """Run a server on a free port."""
    with HealthServer(port=0, **arguments) as server:
        yield server


@contextlib.contextmanager
def connected(server: HealthServer, sends: bytes = b"") -> Iterator[socket.socket]:
    """Open a connection and send what is given."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(sends)
        yield connection


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    return data


def test_all_paths_answer_while_the_loop_hangs(arun: ARun) -> None:
    """Not only /livez: what a hung process can still tell is what one needs then. Async checks time out."""

    async def main() -> None:
        app = HealthApp()
        app.add_check("db", lambda: asyncio.sleep(0), timeout=0.1)
        with serving(app=app) as server, ThreadPoolExecutor(1) as threads:
            paths = ("/readyz", "/startupz", "/scale", "/metrics")
            asking = threads.submit(lambda: [fetch(server, path) for path in paths])
            replies = asking.result()  # blocks the loop
            assert [reply.status for reply in replies] == [503, 200, 200, 200]
            assert replies[0].json["reasons"] == ["check 'db' took longer than 0.1 s"]

    arun(main())


def test_async_checks_are_called_in_the_applications_loop(arun: ARun) -> None:
    """Where its connections belong, and not in the thread that answers."""
    places = []

    async def ping() -> None:
        places.append((asyncio.get_running_loop(), threading.current_thread()))

    async def main() -> None:
        app = HealthApp()
        app.add_check("db", ping)
        async with HealthServer(app, port=0) as server:
            assert (await asyncio.to_thread(fetch, server, "/readyz")).status == 200
            assert places == [(asyncio.get_running_loop(), threading.current_thread())]

    arun(main())


def test_a_loop_in_virtual_time_is_left_alone() -> None:
    """A heartbeat would run there for ever, at full speed."""

    async def main() -> None:
        app = HealthApp()
        app.watch_loop()
        await asyncio.sleep(3600)
        assert liveness.ages(monotonic()) == {}

    run_virtually(main())


def test_a_loop_that_ended_well_is_not_taken_for_hung(arun: ARun) -> None:
    """After asyncio.run() the process may have other things to do, and may run a second loop."""
    app = HealthApp()
    with serving(app=app) as server:

        async def main() -> None:
            app.watch_loop()
            assert list((await asyncio.to_thread(fetch, server, "/livez")).json["loops"]) == ["main"]

        for _ in range(2):
            arun(main())
            reply = fetch(server, "/livez")
            assert (reply.status, reply.json["loops"]) == (200, {})
    assert liveness.ages(monotonic()) == {}


def test_startup_waits_for_a_loop() -> None:
    """A server that was started outside of the loop is told of none: that shows at the first deployment."""
    with serving() as server:
        reply = fetch(server, "/startupz")
        assert reply.status == 503
        assert reply.json["reasons"][0].startswith("no event loop has turned yet: start the server in a coroutine")
        with contextlib.closing(running()) as loop:
            Beats(loop, 0.5, "main").turned(monotonic())
            assert fetch(server, "/startupz").status == 200
        assert fetch(server, "/startupz").status == 200


def test_a_server_keeps_no_loop_alive() -> None:
    """Neither the server nor its application holds the loop that they watched."""
    app = HealthApp()

    async def main() -> "weakref.ref[asyncio.AbstractEventLoop]":
        app.watch_loop()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


@pytest.mark.parametrize(
    ("sends", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", b"200 OK"),
        (b"GET /livez HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET http://pod:8081/livez?x=1 HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /%6civez HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"POST /livez HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /livez HTTP/2.0\r\n\r\n", b"505 HTTP Version Not Supported"),
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET http://[/livez HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /l\xffivez HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"get /livez HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"431 Request Header Fields Too Large"),
        (b"GET /livez HTTP/1.1\r\nx: " + b"y" * 100_000, b"431 Request Header Fields Too Large"),
    ],
)
def test_every_request_has_one_answer_and_the_connection_ends(sends: bytes, status: bytes) -> None:
    """What cannot be read too, and what is too long before it has ended."""
    with serving() as server, connected(server, sends) as connection:
        reply = everything(connection)
        assert reply.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert reply.count(b"\r\nconnection: close\r\n") == 1


def test_head_has_no_body_on_the_wire() -> None:
    """A client would take it for the next answer."""
    with serving() as server, connected(server, b"HEAD /livez HTTP/1.1\r\n\r\n") as connection:
        head, _, body = everything(connection).partition(b"\r\n\r\n")
        assert b"200 OK" in head
        assert body == b""


@pytest.mark.parametrize("sends", [b"", b"GET /livez HTTP/1.1\r\n"], ids=["nothing", "half"])
def test_who_sends_too_slowly_is_cut_off(sends: bytes) -> None:
    """The time is for the whole request, however the bytes trickle in."""
    with serving(timeout=0.3) as server, connected(server, sends) as connection:
        began = monotonic()
        assert everything(connection) == b""
        assert monotonic() - began > 0.2
        assert fetch(server, "/livez").status == 200


def test_who_reads_too_slowly_is_cut_off() -> None:
    """An answer that is larger than all buffers does not hold its connection for ever."""
    app = HealthApp()
    huge = app._routes["/livez"]

    async def answer(question: Any) -> Any:
        reply = await huge(question)
        reply.body = b"x" * 50_000_000
        return reply

    app._routes["/livez"] = answer
    with serving(app=app, timeout=0.3) as server, connected(server, b"GET /livez HTTP/1.1\r\n\r\n"):
        wait_until_sync(lambda: len(server._open) == 1, description="the connection")
        wait_until_sync(lambda: not server._open, timeout=3, description="its end")


def test_one_too_many_ends_the_oldest() -> None:
    """However many idle connections somebody opens, a probe is answered at once."""
    with serving(timeout=30.0, connections=4) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(server, b"GET")) for _ in range(4)]
        wait_until_sync(lambda: len(server._open) == 4, description="four connections")
        assert fetch(server, "/livez").status == 200
        assert everything(idle[0]) == b""  # closed
        idle[3].settimeout(0)
        with pytest.raises(BlockingIOError):
            idle[3].recv(1)  # still open


def test_many_probes_at_once_are_all_answered() -> None:
    """As many as there may be."""
    with serving() as server, ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda _: fetch(server, "/livez").status, range(100)))
    assert replies == [200] * 100


def test_a_taken_port_is_an_error_that_names_it() -> None:
    """In the thread that starts the server, not somewhere in the background."""
    with serving() as server, pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: .*port=0"):
        HealthServer(port=server.port).start()


def test_a_start_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """There was no thread to be had: the port is free, and it may be tried again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        server = HealthServer(port=0)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                server.start()
        assert liveness.ages(monotonic()) == {}
        with server:
            assert (await asyncio.to_thread(fetch, server, "/livez")).status == 200

    asyncio.run(main())


def test_it_starts_once_and_again_after_a_stop() -> None:
    """The port is free as soon as stop() has returned; a second stop() does nothing."""
    server = serve(port=0)
    with pytest.raises(RuntimeError, match=rf"{server.url} was started before"):
        server.start()
    server.stop()
    server.stop()
    with server.start():
        assert fetch(server, "/livez").status == 200
    with pytest.raises(ConnectionError):
        fetch(server, "/livez")
    assert "otel_sched-health" not in {thread.name for thread in threading.enumerate()}


def test_stop_does_not_wait_for_clients() -> None:
    """Nor for checks: the program wants to end."""
    app = HealthApp()
    release = threading.Event()
    app.add_check("db", lambda: release.wait(10), timeout=20.0)
    with (
        serving(app=app, timeout=30.0) as server,
        connected(server),
        connected(server, b"GET /readyz HTTP/1.1\r\n\r\n"),
    ):
        wait_until_sync(lambda: len(server._open) == 2, description="two connections")
        server.stop()
        assert "otel_sched-health" not in {thread.name for thread in threading.enumerate()}
    release.set()


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0"])
def test_it_listens_where_it_is_told(host: str) -> None:
    """IPv6, a name, all addresses."""
    try:
        server = HealthServer(host=host, port=0).start()
    except OSError:
        pytest.skip(f"{host} cannot be had on this machine")
    with server:
        assert fetch(server, "/livez").status == 200
        assert server.url.endswith(f":{server.port}")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"app": object()}, TypeError, "app must be a HealthApp"),
        ({"host": None}, TypeError, "host must be an address"),
        ({"host": ""}, ValueError, "host must not be empty: '0.0.0.0' is all"),
        ({"port": "8081"}, TypeError, "port must be an int, got '8081'"),
        ({"port": 70000}, ValueError, "port must be between 0 and 65535, got 70000"),
        ({"port": True}, TypeError, "port must be an int"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0 s"),
        ({"connections": 0}, ValueError, "connections must be between 1"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: Any, error: type[Exception], message: str) -> None:
    """The error names the argument, what it was and what it should have been."""
    with pytest.raises(error, match=message):
        HealthServer(**arguments)


def run(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_that_forgets_it_ends_at_once_and_silently() -> None:
    """No thread keeps the process alive, nothing warns of a socket left open."""
    done = run(
        "import asyncio\nfrom otel_sched.health import serve\nasync def main(): serve(port=0)\nasyncio.run(main())"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_port_to_its_parent() -> None:
    """The parent answers on, also after the child has ended; the child starts a server of its own if it wants one."""
    done = run(
        "import os, urllib.request, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # of a fork with threads, on 3.12
        "from otel_sched.health import serve\n"
        "server = serve(port=0)\n"
        "def ask(): return urllib.request.urlopen(f'{server.url}/livez', timeout=5).status\n"
        "parents = server.port\n"
        "def child():\n"
        "    assert server._socket is None\n"
        "    server.stop()\n"
        "    server.port = 0\n"
        "    server.start()\n"
        "    assert server.port != parents and ask() == 200\n"
        "    server.stop()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    try: child()\n"
        "    except BaseException as error:\n"
        "        print(repr(error), flush=True); os._exit(1)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1], ask(), ask())\n"
        "server.stop()\n"
    )
    assert (done.stdout, done.stderr) == ("0 200 200\n", "")
