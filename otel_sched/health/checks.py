"""Floor 5: what else has to work: functions of the user, asked with a time-out and not more often than needed.

A plain function is called in a thread, a coroutine function in the application's event loop, where its connections
belong. Whoever is asked is never waited for longer than the time-out, and is not asked again while it still runs.
"""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from .._core.clock import monotonic
from .readiness import checked_seconds

Loop = asyncio.AbstractEventLoop


HOW_TO_WATCH = "start the server in a coroutine, or call the app's watch_loop() in one"


class Result(NamedTuple):
    """How a check ended."""

    reason: str = ""
    """Why it failed, fit for whoever can reach the port: no text of an exception; empty when it passed."""
    detail: str = ""
    """The same for the log, with that text."""
    seconds: float = 0.0
    at: float = 0.0


class Check:
    """One function and its last result. It passes unless it returns False, raises, or takes too long."""

    def __init__(self, name: str, call: Any, *, timeout: float, cache: float) -> None:
        if not callable(call):
            raise TypeError(f"check {name!r} must be a function, plain or async, got {call!r}")
        self.name = name
        self._call: Callable[[], Any] = call
        self._timeout = checked_seconds("timeout", timeout)
        self._cache = checked_seconds("cache", cache) if cache else 0.0
        self._flight: Future[Any] | None = None
        self._since = 0.0
        self._where: weakref.ref[Loop] | None = None
        self._process = 0
        self._last: Result | None = None

    async def result(self, home: Loop | None) -> Result:
        """Return the result, at most *cache* seconds old; async functions are called in the loop *home*."""
        now = monotonic()
        last, flight = self._last, self._flight
        if flight is None or flight.done() or self._stranded():
            if last is not None and now - last.at < self._cache:
                return last
            flight = self._flight = Future()
            self._since, self._where, self._process = now, None, os.getpid()
            self._launch(flight, home)
        left = self._since + self._timeout - now
        if left <= 0:
            seconds = now - self._since
            reason = f"check {self.name!r} has not returned for {seconds:.4g} s"
            return Result(reason, reason, seconds, now)
        await _landed(flight, left)
        self._last = self._judged(flight)
        return self._last

    def _judged(self, flight: "Future[Any]") -> Result:
        now = monotonic()
        seconds = now - self._since
        if not flight.done() or (seconds >= self._timeout and isinstance(flight.exception(), TimeoutError)):
            reason = f"check {self.name!r} took longer than {self._timeout:g} s"
            return Result(reason, reason, seconds, now)
        error = flight.exception()
        if error is not None:
            reason = f"check {self.name!r} raised {type(error).__name__}"
            return Result(reason, f"{reason}: {error}", seconds, now)
        if flight.result() is False:
            reason = f"check {self.name!r} returned False"
            return Result(reason, reason, seconds, now)
        return Result(seconds=seconds, at=now)

    def _stranded(self) -> bool:
        """Say whether the check was left behind: in an event loop that is closed, or in the process before a fork."""
        loop = None if self._where is None else self._where()
        closed = self._where is not None and (loop is None or loop.is_closed())
        return closed or self._process != os.getpid()

    def _launch(self, flight: "Future[Any]", home: Loop | None) -> None:
        try:
            if _is_async(self._call):
                self._in_loop(flight, home, self._call)
            else:
                thread = threading.Thread(
                    target=self._in_thread, args=(flight, home), name=f"otel_sched-check-{self.name}", daemon=True
                )
                thread.start()
        except Exception as error:  # no thread to be had, a loop that was closed
            flight.set_exception(error)

    def _in_thread(self, flight: "Future[Any]", home: Loop | None) -> None:
        try:
            result = self._call()
            if inspect.isawaitable(result):  # `lambda: redis.ping()`
                self._in_loop(flight, home, lambda: result, result)
            else:
                flight.set_result(result)
        except BaseException as error:
            flight.set_exception(error)

    def _in_loop(self, flight: "Future[Any]", home: Loop | None, call: Callable[[], Any], made: object = None) -> None:
        """Await what *call* returns, in the loop *home*; *made* is that, where it exists already."""

        def begin() -> None:
            assert home is not None
            task = home.create_task(self._awaited(call, flight), name=f"otel_sched check {self.name}")
            task.add_done_callback(end)

        def end(task: "asyncio.Task[Any]") -> None:
            _close(made)  # it may have been cancelled before it began
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                flight.set_exception(error)
            elif not flight.done():
                flight.set_result(task.result())

        try:
            if home is None:
                raise NoLoop(f"no event loop is watched: {HOW_TO_WATCH}")
            self._where = weakref.ref(home)
            home.call_soon_threadsafe(begin, context=contextvars.Context())
        except RuntimeError:  # also of a loop that was closed meanwhile
            _close(made)
            raise

    async def _awaited(self, call: Callable[[], Any], flight: "Future[Any]") -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await call()
        except SystemExit as error:  # let out of a task it would end the application's event loop
            flight.set_exception(error)


class NoLoop(RuntimeError):
    """Raised when an async check has no event loop to run in."""


def _is_async(call: Any) -> bool:
    while isinstance(call, functools.partial):
        call = call.func
    of_object = getattr(type(call), "__call__", None)  # noqa: B004  # not whether it can be called: how
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(of_object)


def _close(made: object) -> None:
    if inspect.iscoroutine(made):
        made.close()


async def _landed(flight: "Future[Any]", timeout: float) -> None:
    """Wait for a future of any thread, for so many seconds; to leave or cancel the wait does nothing to it."""
    loop = asyncio.get_running_loop()
    landed = asyncio.Event()

    def tell(_: "Future[Any]") -> None:
        with contextlib.suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(landed.set)

    flight.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(landed.wait(), timeout)
