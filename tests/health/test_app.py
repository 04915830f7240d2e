"""The ASGI application: paths, methods and headers, wherever it is mounted."""

import asyncio
import contextlib
import json
import logging
import threading
from typing import Any

import pytest

from otel_sched import Queue
from otel_sched._core import liveness
from otel_sched._core.clock import monotonic
from otel_sched._core.liveness import Beats
from otel_sched.health import HealthApp
from otel_sched.testing import wait_until
from tests.conftest import ARun
from tests.health.asking import ask
from tests.loops import running

PATHS = ("/livez", "/readyz", "/startupz", "/scale", "/metrics")


@pytest.mark.parametrize("path", PATHS)
def test_each_path_answers_and_nothing_may_keep_the_answer(path: str, arun: ARun) -> None:
    """A probe that was served from a cache would be a probe of the cache."""
    reply = arun(ask(HealthApp(), path))
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-length"] == str(len(reply.body))


@pytest.mark.parametrize("path", PATHS)
def test_head_gives_the_headers_of_get_and_no_body(path: str) -> None:
    """The length included, which is that of the body which GET would have."""

    async def main() -> None:
        app = HealthApp()
        get, head = await ask(app, path), await ask(app, path, "HEAD")
        assert head.body == b""
        assert (head.status, head.headers.keys()) == (get.status, get.headers.keys())
        assert int(head.headers["content-length"]) > 0 or path == "/metrics"

    asyncio.run(main())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(method: str) -> None:
    """405, with the two that are allowed."""
    reply = asyncio.run(ask(HealthApp(), "/livez", method))
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "", "//", "/livez/x", "/nothing", "/LIVEZ"])
def test_an_unknown_path_is_not_found(path: str) -> None:
    """The answer names the paths that there are."""
    reply = asyncio.run(ask(HealthApp(), path))
    assert reply.status == 404
    assert "/livez" in reply.json["reasons"][0]


@pytest.mark.parametrize(
    ("path", "root_path"),
    [("/health/livez", "/health"), ("/livez", "/health"), ("/livez/", ""), ("/livez", "/live")],
)
def test_it_answers_where_it_is_mounted(path: str, root_path: str) -> None:
    """With the mount's path before it, as ASGI has it today, or taken off, as older frameworks do."""
    assert asyncio.run(ask(HealthApp(), path, root_path=root_path)).status == 200


def test_a_loop_that_has_not_turned_is_named() -> None:
    """The limit is the user's; the answer says which loop and for how long."""

    async def main() -> None:
        app = HealthApp(hang_limit=300.0)
        other = Beats(loop, 0.5, "other")
        Beats(asyncio.get_running_loop(), 0.5, "main").turned(monotonic())
        other.turned(monotonic() - 150)
        fine = await ask(app, "/livez")
        assert fine.status == 200
        assert sorted(fine.json["loops"]) == ["main", "other"]
        other.turned(monotonic() - 301)
        bad = await ask(app, "/livez")
        assert bad.status == 503
        assert bad.json["status"] == "failing"
        assert [reason[:38] for reason in bad.json["reasons"]] == ["event loop 'other' has not turned for "]

    with contextlib.closing(running()) as loop:
        asyncio.run(main())


def test_a_loop_whose_heartbeat_is_rare_is_given_the_time_of_two() -> None:
    """Diagnostics beat as often as they were told to; between two beats nobody knows, and nothing hangs."""

    async def main() -> None:
        rare = Beats(loop, 300.0)
        rare.turned(monotonic() - 300)
        assert (await ask(HealthApp(), "/livez")).status == 200
        rare.turned(monotonic() - 601)
        assert (await ask(HealthApp(), "/livez")).status == 503

    with contextlib.closing(running()) as loop:
        asyncio.run(main())


def test_a_short_limit_makes_the_heart_beat_faster() -> None:
    """It could not be kept with two beats a second."""

    async def main() -> None:
        for limit, interval in ((60.0, 0.5), (1.5, 0.5), (0.3, 0.1), (0.001, 0.01)):
            app = HealthApp(hang_limit=limit)
            app.watch_loop()
            assert liveness.look(monotonic())["main"].interval == pytest.approx(interval)
            app.unwatch_loop()
            assert liveness.ages(monotonic()) == {}

    asyncio.run(main())


def test_the_log_has_why_livez_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes restarts the process and shows nobody the answer."""

    async def main() -> None:
        app, beats = HealthApp(), Beats(loop, 0.5, "other")
        beats.turned(monotonic() - 60)
        for _ in range(3):
            await ask(app, "/livez")
        await wait_until(lambda: "/livez fails: event loop 'other' has not turned for" in caplog.text)
        await wait_until(lambda: not any(each.name == "otel_sched-health-log" for each in threading.enumerate()))
        beats.turned(monotonic() + 60)
        await ask(app, "/livez")
        await wait_until(lambda: "/livez is well again" in caplog.text)

    with caplog.at_level(logging.INFO, "otel_sched"), contextlib.closing(running()) as loop:
        asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_startup_waits_for_its_checks_and_then_asks_no_more() -> None:
    """A check that has passed once does not make /startupz fail later."""

    async def main() -> None:
        app, answers = HealthApp(), iter([False, True])
        app.add_startup_check("cache", lambda: next(answers))
        first = await ask(app, "/startupz")
        assert (first.status, first.json["reasons"]) == (503, ["check 'cache' returned False"])
        assert [(await ask(app, "/startupz")).status for _ in range(3)] == [200, 200, 200]

    asyncio.run(main())


def test_lifespan_is_agreed_to() -> None:
    """A server that mounts nothing but this application starts and stops."""

    async def main() -> list[str]:
        sent: list[str] = []
        received = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": next(received)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await HealthApp()({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(main()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_closed_and_an_unknown_scope_refused() -> None:
    """Neither hangs the server that offers it."""

    async def main() -> list[str]:
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await HealthApp()({"type": "websocket"}, receive, send)
        with pytest.raises(ValueError, match="'smoke' is none of http"):
            await HealthApp()({"type": "smoke"}, receive, send)
        return sent

    assert asyncio.run(main()) == ["websocket.close"]


def test_a_bug_of_ours_is_an_answer_and_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody who asks is left without an answer, and no text of an exception goes out."""

    async def main() -> None:
        app = HealthApp()
        monkeypatch.setattr(app._queues, "look", lambda: 1 / 0)
        reply = await ask(app, "/scale")
        assert reply.status == 500
        assert reply.json["reasons"] == ["ZeroDivisionError; the log says more"]

    with caplog.at_level(logging.ERROR, "otel_sched"):
        asyncio.run(main())
    assert "no answer for /scale" in caplog.text


def test_names_that_are_hard_to_write_are_valid_json() -> None:
    """Quotes, newlines, other alphabets, and half a surrogate pair."""
    names = ['say "hi"', "two\nlines", "Größe", "\ud800"]

    async def main() -> None:
        queues = [Queue[int](name=name) for name in names]
        reply = await ask(HealthApp(), "/scale")
        assert set(json.loads(reply.body)["queues"]) == {queue.name for queue in queues}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hang_limit": 0}, ValueError, "hang_limit must be more than 0 s"),
        ({"hang_limit": float("nan")}, ValueError, "hang_limit"),
        ({"hang_limit": True}, TypeError, "hang_limit must be a number of seconds, got True"),
        ({"window": "30"}, TypeError, "window must be a number of seconds, got '30'"),
        ({"window": float("inf")}, ValueError, "window"),
        ({"objectives": {"orders": 3}}, TypeError, "'orders': 3"),
        ({"objectives": [1]}, TypeError, "map queue names to Objective"),
        ({"queues": "orders"}, TypeError, r"such as \['orders'\], got 'orders'"),
        ({"queues": 3}, TypeError, "got 3"),
        ({"queues": [3]}, TypeError, "queue names, got 3"),
        ({"clock": 5}, TypeError, "clock must be a function"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: Any, error: type[Exception], message: str) -> None:
    """The error names the argument, what it was and what it should have been."""
    with pytest.raises(error, match=message):
        HealthApp(**arguments)


def test_to_watch_a_loop_needs_one() -> None:
    """Outside of a coroutine there is none to watch."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        HealthApp().watch_loop()


def test_a_query_of_too_many_fields_is_refused() -> None:
    """It is the client's fault, and no line in the log."""
    assert asyncio.run(ask(HealthApp(), "/scale", query="a=1&" * 50)).status == 400


def test_a_loop_for_each_call_leaves_nothing_behind() -> None:
    """Though nobody asks the application, which would clean up."""
    app = HealthApp()

    async def main() -> None:
        app.watch_loop()

    for _ in range(5):
        asyncio.run(main())
    assert len(liveness._told) == 1
