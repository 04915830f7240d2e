"""Floor 5: the little of HTTP/1.1 that a probe speaks: bytes in, bytes out, no waiting."""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .answer import PHRASES, Answer, refusal

HEAD_LIMIT = 8 * 1024
"""Bytes that a request may have before its body; bodies are not read."""

_FIRST_LINE = re.compile(rb"([A-Z]{1,16}) (\S+) HTTP/(\d)\.\d\r\n")


class Request(NamedTuple):
    """What of a request counts here."""

    method: str
    path: str
    query: str


def read_head(head: bytes) -> Request | Answer:
    """Return the request that *head* is, or the answer to one that cannot be read."""
    line = _FIRST_LINE.match(head)
    if line is None:
        return refusal(400, "this is no HTTP request")
    method, target, version = line.groups()
    if version != b"1":
        return refusal(505, "speak HTTP/1.1 or HTTP/1.0")
    try:
        split = urlsplit(target.decode("ascii"))
    except ValueError:
        return refusal(400, "the address cannot be read")
    return Request(method.decode("ascii"), unquote(split.path), split.query)


def written(answer: Answer, method: str) -> bytes:
    """Return an answer as it goes out, on a connection that is closed after it."""
    lines = [f"HTTP/1.1 {answer.status} {PHRASES[answer.status]}"]
    lines += (f"{name}: {value}" for name, value in answer.headers.items())
    head = "\r\n".join([*lines, "connection: close", "\r\n"]).encode("ascii")
    return head if method == "HEAD" else head + answer.body
