"""Two ways to ask for health: the ASGI protocol by hand, and a real HTTP client."""

import http.client
import json
from typing import Any, NamedTuple

from otel_sched.health import HealthApp, HealthServer


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


async def ask(app: HealthApp, path: str, method: str = "GET", query: str = "", root_path: str = "") -> Reply:
    """Send one request as an ASGI server does, and return the answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [],
    }
    await app(scope, receive, send)
    start, body = sent
    assert start["type"] == "http.response.start"
    assert body["type"] == "http.response.body"
    assert not body.get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], headers, body["body"])


def fetch(server: HealthServer, target: str, method: str = "GET", timeout: float = 5.0) -> Reply:
    """Send one request over HTTP, blocking the thread, and return the answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    finally:
        connection.close()
