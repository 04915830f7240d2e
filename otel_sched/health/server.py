"""Floor 5: a server in a thread of its own, with an event loop of its own: it answers while the application's hangs.

A probe asks one thing and goes, so that each connection has one request. Whoever is slow is cut off when his time is
up, or earlier when somebody else wants his place.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import threading
import weakref
from types import TracebackType
from typing import Any, Self

from .._core.complaint import complain
from .answer import Answer, refusal
from .app import HealthApp
from .readiness import checked_seconds
from .request import HEAD_LIMIT, read_head, written

PORT = 8081
LINGER = 1.0
"""Seconds and bytes to go on reading after the answer: a reset would take it away from a client that still sends."""
LINGER_BYTES = 64 * 1024
STOP_WAIT = 5.0


class HealthServer:
    """Serves a `HealthApp` over HTTP from a daemon thread; `with`, `async with`, or `start()` and `stop()`."""

    def __init__(
        self,
        app: HealthApp | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        timeout: float = 5.0,
        connections: int = 32,
    ) -> None:
        """Make a server; it does nothing before it is started.

        Args:
            app: What it answers; by default `HealthApp()`.
            host: The address to listen on. Kubernetes asks from outside: "0.0.0.0", or "::".
            port: The port to listen on; 0 for any that is free, which `port` names after the start.
            timeout: Seconds that one request may take, the answer included.
            connections: How many there may be at once; one more puts an end to the oldest.

        Raises TypeError or ValueError for what is no address, port, time or number.
        """
        if app is not None and not isinstance(app, HealthApp):
            raise TypeError(f"app must be a HealthApp, got {app!r}")
        if not isinstance(host, str):
            raise TypeError(f"host must be an address such as '127.0.0.1', got {host!r}")
        if not host:
            raise ValueError("host must not be empty: '0.0.0.0' is all addresses, '::' those of IPv6 too")
        self.app = HealthApp() if app is None else app
        self.host = host
        self.port = _checked_int("port", port, 0, 65535)
        self._timeout = checked_seconds("timeout", timeout)
        self._limit = _checked_int("connections", connections, 1, 10_000)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._open: dict[asyncio.StreamWriter, None] = {}
        _servers.add(self)

    def __enter__(self) -> Self:
        return self.start() if self._thread is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)  # it waits for a thread, which may be busy answering

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8081`."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def start(self) -> Self:
        """Listen, and watch the running event loop if this is called in one.

        Raises OSError if the address is taken or not ours, RuntimeError if it was started before.
        """
        if self._thread is not None:
            raise RuntimeError(f"the health server on {self.url} was started before; stop() it first")
        with contextlib.ExitStack() as undo:  # there may be no thread to be had, or no descriptors left
            listening = undo.enter_context(_listening(self.host, self.port))
            loop = undo.enter_context(contextlib.closing(asyncio.SelectorEventLoop()))
            self._over = asyncio.Event()
            thread = threading.Thread(target=self._run, args=(loop, listening), name="otel_sched-health", daemon=True)
            thread.start()
            undo.pop_all()
        self._thread, self._loop, self._socket = thread, loop, listening
        self.port = listening.getsockname()[1]
        with contextlib.suppress(RuntimeError):  # no event loop is running here
            self.app._pulses.begin(self)
        return self

    def stop(self) -> None:
        """Stop to listen, cut off who is connected, and watch no event loop that `start()` began to watch.

        It may be started again.
        """
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        self.app._pulses.end(self)
        with contextlib.suppress(RuntimeError):  # it is over already
            loop.call_soon_threadsafe(self._over.set)
        thread.join(STOP_WAIT)
        self._thread = self._loop = self._socket = None

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(listening))
        except Exception as error:
            complain(logging.ERROR, "the health server on %s ended", self.url, error=error)
        finally:
            listening.close()

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._connected, sock=listening, limit=HEAD_LIMIT)
        await self._over.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._limit:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass  # gone, or too slow
        except Exception as error:
            complain(logging.ERROR, "health: a request was not answered", error=error)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = ""
        try:
            request = read_head(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            request = refusal(431, f"a request may have {HEAD_LIMIT} bytes")
        if isinstance(request, Answer):
            answer = request
        else:
            method = request.method
            answer = await self.app.answer(method, request.path, request.query)
        writer.transport.set_write_buffer_limits(high=0)  # drain() is to wait until all is out
        writer.write(written(answer, method))
        await writer.drain()
        writer.write_eof()
        left = LINGER_BYTES
        async with asyncio.timeout(LINGER):
            while left > 0 and (data := await reader.read(left)):
                left -= len(data)


def serve(app: HealthApp | None = None, *, host: str = "127.0.0.1", port: int = PORT) -> HealthServer:
    """Start a server and return it; call it in a coroutine, so that it watches the event loop."""
    return HealthServer(app, host=host, port=port).start()


def _listening(host: str, port: int) -> socket.socket:
    """Return a listening socket; what goes wrong says where."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the health server cannot listen on {host}:{port}: {error.strerror}; port=0 takes any that is free",
        ) from error


def _checked_int(what: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{what} must be between {low} and {high}, got {value}")
    return value


_servers: "weakref.WeakSet[HealthServer]" = weakref.WeakSet()


_inherited: list[Any] = []
"""Event loops of the parent: to close one in the child would change what the parent's waits for."""


def _stop_all() -> None:
    for server in list(_servers):
        server.stop()


def _leave_to_the_parent() -> None:
    """Let go, in a forked child, of a port that the parent's thread serves; the child may start a server of its own."""
    for server in list(_servers):
        if server._socket is not None:
            server._socket.close()
        if server._loop is not None:
            _inherited.append(server._loop)
        server._thread = server._loop = server._socket = None
        server._open = {}


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
