"""Checks of the user: what passes, what fails and why, and that nobody waits for them or asks them too often."""

import asyncio
import functools
import gc
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from otel_sched._core.clock import monotonic
from otel_sched.health import HealthApp
from otel_sched.health.checks import Check, Result
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.health.asking import ask


def check(call: Callable[[], Any], *, timeout: float = 5.0, cache: float = 0.0) -> Check:
    """Make a check named db."""
    return Check("db", call, timeout=timeout, cache=cache)


async def once(call: Callable[[], Any], **arguments: float) -> Result:
    """Return the first result of a check."""
    return await check(call, **arguments).result(asyncio.get_running_loop())


async def fine() -> None:
    """Pass."""


async def broken() -> None:
    """Fail, with a text that must not go out."""
    raise ConnectionError("postgres://user:secret@db")


class Pinger:
    """An object that is called, as clients often are."""

    async def __call__(self) -> bool:
        return True


@pytest.mark.parametrize(
    "call",
    [
        fine,
        functools.partial(fine),
        Pinger(),
        lambda: None,
        lambda: True,
        lambda: 0,
        lambda: [],
        lambda: fine(),
    ],
    ids=["async", "partial", "object", "none", "true", "zero", "empty", "lambda of async"],
)
def test_it_passes_unless_it_says_false(call: Callable[[], object], arun: ARun) -> None:
    """Plain or async; what a driver happens to return is no failure."""
    assert arun(once(call)).reason == ""


async def no() -> bool:
    """Return False."""
    return False


@pytest.mark.parametrize("call", [no, lambda: False, lambda: no()])
def test_false_fails(call: Callable[[], object], arun: ARun) -> None:
    """And only False."""
    assert arun(once(call)).reason == "check 'db' returned False"


@pytest.mark.parametrize("call", [broken, lambda: broken(), functools.partial(int, "x"), lambda: 1 / 0])
def test_an_exception_fails_and_its_text_stays_inside(call: Callable[[], object], arun: ARun) -> None:
    """Whoever reaches the port sees the type; the log has the text, which may hold a password."""
    result = arun(once(call))
    assert result.reason.startswith("check 'db' raised ")
    assert "secret" not in result.reason
    assert len(result.detail) > len(result.reason)


class Strange(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("error", [SystemExit, Strange, asyncio.CancelledError, StopIteration, TimeoutError])
def test_whatever_it_raises_ends_nothing_but_itself(kind: str, error: type[BaseException], arun: ARun) -> None:
    """Neither the application's event loop nor the thread that asks: a library may call sys.exit() in it."""

    async def raises() -> None:
        raise error

    def raises_plainly() -> None:
        raise error

    reason = arun(once(raises if kind == "async" else raises_plainly)).reason
    if kind == "async" and error is StopIteration:
        error = RuntimeError  # Python's own doing
    assert reason == f"check 'db' raised {error.__name__}"


def test_one_whose_task_is_cancelled_fails(arun: ARun) -> None:
    """An application that ends cancels all tasks, before they began too; whoever asks gets an answer."""

    def tasks() -> list[Any]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "otel_sched check db"]

    async def main() -> str:
        slow = check(lambda: asyncio.sleep(60), timeout=60.0)
        asking = asyncio.create_task(slow.result(asyncio.get_running_loop()))
        await wait_until(lambda: bool(tasks()))
        tasks()[0].cancel()
        return (await asking).reason

    assert arun(main()) == "check 'db' raised CancelledError"


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_slow_one_is_not_waited_for_and_not_asked_again(kind: str, arun: ARun) -> None:
    """It fails at its time-out; while it still runs it fails at once, and no second one is started beside it."""
    begun = []
    release = threading.Event()

    async def stubborn() -> None:
        begun.append(1)
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    def blocking() -> None:
        begun.append(1)
        release.wait(30)

    async def main() -> None:
        slow = check(stubborn if kind == "async" else blocking, timeout=0.05)
        loop = asyncio.get_running_loop()
        try:
            first = await slow.result(loop)
            await wait_until(lambda: monotonic() - slow._since > 0.05)  # uvloop's timers may be early
            second = await slow.result(loop)
        finally:
            release.set()
        assert first.reason == "check 'db' took longer than 0.05 s"
        assert second.reason.startswith("check 'db' has not returned for ")
        assert len(begun) == 1
        await wait_until(lambda: slow._flight is not None and slow._flight.done())
        await slow.result(loop)
        assert len(begun) == 2

    arun(main())


def test_one_that_waits_is_cancelled_at_its_time_out(arun: ARun) -> None:
    """An async check gets a cancellation, and can close what it opened."""
    closed = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def main() -> None:
        assert (await once(waits, timeout=0.05)).reason == "check 'db' took longer than 0.05 s"
        await wait_until(closed.is_set)

    arun(main())


def test_a_result_stands_for_a_while(arun: ARun) -> None:
    """However often the probe comes, the dependency is asked once in that time."""
    asked = []

    async def main() -> None:
        cached, fresh = check(lambda: asked.append(1), cache=60.0), check(lambda: asked.append(2))
        for _ in range(3):
            await cached.result(None)
            await fresh.result(None)

    arun(main())
    assert sorted(asked) == [1, 2, 2, 2]


def test_questions_at_one_time_are_asked_once(arun: ARun) -> None:
    """Whoever comes while it runs waits for the same answer."""
    asked = []

    async def counts() -> None:
        asked.append(1)
        await asyncio.sleep(0.01)

    async def main() -> None:
        shared = check(counts)
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(shared.result(loop) for _ in range(5)))
        assert {result.reason for result in results} == {""}

    arun(main())
    assert asked == [1]


def test_who_leaves_does_not_end_it_for_others(arun: ARun) -> None:
    """A client that hangs up cancels its own question only."""
    release = threading.Event()

    async def main() -> None:
        shared = check(lambda: release.wait(30))
        leaving = asyncio.create_task(shared.result(None))
        staying = asyncio.create_task(shared.result(None))
        await asyncio.sleep(0)
        leaving.cancel()
        release.set()
        assert (await staying).reason == ""
        with pytest.raises(asyncio.CancelledError):
            await leaving

    arun(main())


@pytest.mark.parametrize("call", [fine, lambda: fine()], ids=["async", "lambda"])
def test_an_async_one_without_a_loop_says_what_to_do(call: Callable[[], Awaitable[None]], arun: ARun) -> None:
    """Its connections belong to the application's loop: it is never called in another one."""

    async def main() -> None:
        result = await check(call).result(None)
        assert result.reason == "check 'db' raised NoLoop"
        assert "start the server in a coroutine" in result.detail

    arun(main())
    gc.collect()  # a coroutine that was never awaited would warn here


def test_one_left_in_a_closed_loop_is_asked_anew() -> None:
    """A program may run one event loop after another."""
    shared = check(fine, timeout=0.05)
    stopped = asyncio.new_event_loop()
    asyncio.run(shared.result(stopped))  # it never runs there
    stopped.close()
    assert asyncio.run(_result_here(shared)).reason == ""


def test_one_left_in_the_process_before_a_fork_is_asked_anew(monkeypatch: pytest.MonkeyPatch, arun: ARun) -> None:
    """The thread that it ran in is not in the child: it will never return there."""
    release = threading.Event()

    async def main() -> None:
        shared = check(lambda: release.wait(30), timeout=0.05)
        assert (await shared.result(None)).reason == "check 'db' took longer than 0.05 s"
        await wait_until(lambda: monotonic() - shared._since > 0.05)
        assert "has not returned" in (await shared.result(None)).reason
        release.set()
        monkeypatch.setattr(os, "getpid", lambda: 1)
        shared._timeout = 10.0
        assert (await shared.result(None)).reason == ""

    arun(main())


async def _result_here(shared: Check) -> Result:
    return await shared.result(asyncio.get_running_loop())


def test_readyz_has_each_check_and_the_log_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    """The log line comes when the answer turns, not with every probe; a second one when it is well again."""
    healthy = threading.Event()

    def ping() -> None:
        if not healthy.is_set():
            raise ConnectionError("postgres://user:secret@db")

    async def main() -> None:
        app = HealthApp()
        app.add_check("db", ping, cache=0)
        app.add_check("cache", fine)
        for _ in range(3):
            reply = await ask(app, "/readyz")
            assert (reply.status, reply.json["reasons"]) == (503, ["check 'db' raised ConnectionError"])
            assert {name: each["status"] for name, each in reply.json["checks"].items()} == {
                "db": "failing",
                "cache": "ok",
            }
            await wait_until(lambda: "secret" in caplog.text)
        await wait_until(lambda: not any(each.name == "otel_sched-health-log" for each in threading.enumerate()))
        healthy.set()
        assert (await ask(app, "/readyz")).status == 200
        await wait_until(lambda: "well again" in caplog.text)

    with caplog.at_level(logging.INFO, "otel_sched"):
        asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "", "call": fine}, ValueError, "name must not be empty"),
        ({"name": 3, "call": fine}, TypeError, "name must be a string, got 3"),
        ({"name": "db", "call": "ping"}, TypeError, "check 'db' must be a function, plain or async, got 'ping'"),
        ({"name": "db", "call": fine, "timeout": 0}, ValueError, "timeout must be more than 0 s"),
        ({"name": "db", "call": fine, "timeout": None}, TypeError, "timeout must be a number of seconds, got None"),
        ({"name": "db", "call": fine, "cache": -1}, ValueError, "cache must be more than 0 s"),
        ({"name": "taken", "call": fine}, ValueError, "there is a check 'taken' already"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: Any, error: type[Exception], message: str) -> None:
    """The error names the argument, what it was and what it should have been."""
    app = HealthApp()
    app.add_check("taken", fine)
    with pytest.raises(error, match=message):
        app.add_check(**arguments)
