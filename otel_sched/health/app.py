"""Floor 5: the answers, and the ASGI application that gives them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from .._core import liveness
from .._core.clock import Clock, monotonic
from .._core.complaint import complain
from .._core.options import checked_name
from .answer import Answer, as_json, refusal, verdict
from .checks import HOW_TO_WATCH, Check, Result
from .exposition import CONTENT_TYPE, exposition
from .metrics import families
from .pulse import Pulses
from .queues import Queues
from .readiness import Objective, checked_objectives, checked_queues, checked_seconds, shortcomings
from .scale import by_queue, external_metrics, over_all
from .turns import Turns

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


Loop = asyncio.AbstractEventLoop


class Question(NamedTuple):
    """What is asked: the query, and the event loop that asks, where that is the application's own."""

    query: Mapping[str, list[str]]
    loop: Loop | None


class HealthApp:
    """Answers /livez, /readyz, /startupz, /scale and /metrics for all queues of the process.

    It is an ASGI application: serve it with `HealthServer`, which answers from a thread of its own, or mount it into
    an application that you have. Mounted, it runs in that application's event loop and cannot answer while that hangs;
    whoever asks has to take silence for a no.
    """

    def __init__(
        self,
        *,
        objectives: Mapping[str, Objective] | None = None,
        queues: Iterable[str] | None = None,
        hang_limit: float = 1.5,
        window: float = 30.0,
        clock: Clock = monotonic,
    ) -> None:
        """Make the application.

        Args:
            objectives: How long jobs may wait, by name of queue; /readyz fails while a queue is behind.
            queues: The names of the queues that must exist and take jobs for /readyz; by default none must exist and
                all that do must take jobs.
            hang_limit: Seconds without a turn of the event loop after which /livez fails.
            window: Seconds over which the pace of jobs is measured, for `backlog_seconds`.
            clock: A function that returns monotonic seconds, for the pace; for tests in virtual time.

        Raises TypeError or ValueError for numbers that are no seconds and names that are none.
        """
        self._objectives = checked_objectives({} if objectives is None else objectives)
        self._required = checked_queues(queues)
        self._hang_limit = checked_seconds("hang_limit", hang_limit)
        if not callable(clock):
            raise TypeError(f"clock must be a function that returns seconds, got {clock!r}")
        self._queues = Queues(checked_seconds("window", window), clock)
        self._checks: dict[str, Check] = {}
        self._startup: dict[str, Check] = {}
        self._started = False
        self._pulses = Pulses(self._hang_limit)
        self._live, self._ready = Turns("livez"), Turns("readyz")
        self._routes: dict[str, Callable[[Question], Awaitable[Answer]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
            "/scale": self._scale,
            "/metrics": self._metrics,
        }

    def add_check(self, name: str, call: Callable[[], object], *, timeout: float = 1.0, cache: float = 2.0) -> None:
        """Make /readyz depend on *call*: it fails when that returns False, raises, or takes longer than *timeout*.

        A plain function is called in a thread of its own, a coroutine function in the application's event loop. Its
        result stands for *cache* seconds.
        """
        _add(self._checks, name, Check(name, call, timeout=timeout, cache=cache))

    def add_startup_check(self, name: str, call: Callable[[], object], *, timeout: float = 1.0) -> None:
        """Make /startupz fail until *call* has passed; once all have, it is not asked again."""
        _add(self._startup, name, Check(name, call, timeout=timeout, cache=0.0))

    def watch_loop(self) -> None:
        """Watch the running event loop: /livez fails when it hangs, and async checks are called in it.

        `HealthServer.start()` does so if it is called in a coroutine. Call it in each loop that you have, if there are
        several; async checks are called in the one that came last. An application that is mounted in the loop it tells
        of needs none.
        """
        self._pulses.begin(self)

    def unwatch_loop(self) -> None:
        """Watch none any more that `watch_loop` was called in."""
        self._pulses.end(self)

    async def answer(self, method: str, path: str, query: str = "", *, loop: Loop | None = None) -> Answer:
        """Return the answer to one request; *loop* is where async checks are called if no loop is watched."""
        route = self._routes.get(path if path == "/" else path.rstrip("/"))
        if route is None:
            return refusal(404, f"there are {', '.join(self._routes)}")
        if method not in ("GET", "HEAD"):
            return refusal(405, "ask with GET or HEAD", allow="GET, HEAD")
        try:
            question = Question(parse_qs(query, max_num_fields=16), loop)
        except ValueError:
            return refusal(400, "too many fields in the query")
        try:
            return await route(question)
        except Exception as error:
            complain(logging.ERROR, "health: no answer for %s", path, error=error)
            return refusal(500, f"{type(error).__name__}; the log says more")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            path, root = scope["path"], scope.get("root_path", "")
            if root and (path == root or path.startswith(f"{root}/")):  # where it is mounted
                path = path[len(root) :]
            query, loop = scope.get("query_string", b"").decode("latin-1"), asyncio.get_running_loop()
            answer = await self.answer(scope["method"], path, query, loop=loop)
            headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            body = b"" if scope["method"] == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})
        else:
            raise ValueError(f"the ASGI scope {scope['type']!r} is none of http, websocket and lifespan")

    async def _livez(self, _: Question) -> Answer:
        loops = liveness.look(monotonic())
        reasons = self._hung(loops)
        self._live.note(reasons)
        return verdict(reasons, loops={name: {"age_seconds": round(seen.age, 3)} for name, seen in loops.items()})

    def _hung(self, loops: Mapping[str, liveness.Seen]) -> list[str]:
        """Return a sentence for each event loop that does not turn."""
        return [
            f"event loop {name!r} has not turned for {seen.age:.4g} s"
            for name, seen in loops.items()
            if seen.age > max(self._hang_limit, 2 * seen.interval)  # a rare heartbeat says nothing sooner
        ]

    async def _readyz(self, question: Question) -> Answer:
        results = await self._results(self._checks, question)
        behind = self._hung(liveness.look(monotonic()))  # first: it may be why a check takes so long
        behind += shortcomings(self._queues.look(), self._objectives, self._required)
        self._ready.note([*behind, *(each.detail for each in results.values() if each.detail)])
        shown = {
            name: {"status": "failing" if each.reason else "ok", "seconds": round(each.seconds, 4)}
            for name, each in results.items()
        }
        return verdict([*behind, *(each.reason for each in results.values() if each.reason)], checks=shown)

    async def _startupz(self, question: Question) -> Answer:
        if self._started:
            return verdict([])
        results = await self._results(self._startup, question)
        reasons = [each.reason for each in results.values() if each.reason]
        if question.loop is None and not liveness.ages(monotonic()):
            reasons.append(f"no event loop has turned yet: {HOW_TO_WATCH}")
        self._started = not reasons
        return verdict(reasons)

    async def _scale(self, question: Question) -> Answer:
        queues, query = by_queue(self._queues.look()), question.query
        shape = query.get("format", ["json"])[-1]
        if shape not in ("json", "external"):
            return refusal(400, "format must be json or external")
        if "queue" in query:
            name = query["queue"][-1]
            if name not in queues:
                return refusal(404, f"there is no such queue; there are {', '.join(queues) or 'none'}")
            queues = {name: queues[name]}
            if shape == "json":
                return as_json(200, {"queue": name, **queues[name]})
        if shape == "external":
            return as_json(200, external_metrics(queues))
        return as_json(200, {"queues": queues, "all": over_all(queues)})

    async def _metrics(self, _: Question) -> Answer:
        loops = liveness.ages(monotonic())
        return Answer(200, exposition(families(self._queues.look(), loops)), CONTENT_TYPE)

    async def _results(self, checks: Mapping[str, Check], question: Question) -> dict[str, Result]:
        home = self._pulses.home() or question.loop
        checks = dict(checks)
        results = await asyncio.gather(*(each.result(home) for each in checks.values()))
        return dict(zip(checks, results, strict=True))


def _add(checks: dict[str, Check], name: str, check: Check) -> None:
    if checked_name(name) in checks:
        raise ValueError(f"there is a check {name!r} already: each needs a name of its own")
    checks[name] = check


async def _live(receive: Receive, send: Send) -> None:
    """Agree to start and to stop: there is nothing to do for either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
