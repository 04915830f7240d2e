"""Floor 5: what is answered to one request."""

import json
from collections.abc import Mapping
from typing import Any

JSON = "application/json"

PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Answer:
    """A status, a body and the headers that go with it; the length counts the body also where HEAD leaves it out."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, content_type: str = JSON, **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {
            "content-type": content_type,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **headers,
        }


def as_json(status: int, content: Mapping[str, Any], **headers: str) -> Answer:
    """Return *content* as an answer. Whatever the names in it are, it is valid JSON in ASCII."""
    return Answer(status, json.dumps(content, allow_nan=False).encode("ascii") + b"\n", **headers)


def verdict(reasons: list[str], **more: Any) -> Answer:
    """Return 200 where nothing speaks against it, else 503 with the reasons."""
    return as_json(503 if reasons else 200, {"status": "failing" if reasons else "ok", "reasons": reasons, **more})


def refusal(status: int, reason: str, **headers: str) -> Answer:
    """Return the answer to what cannot be asked here."""
    return as_json(status, {"status": PHRASES[status].lower(), "reasons": [reason]}, **headers)
