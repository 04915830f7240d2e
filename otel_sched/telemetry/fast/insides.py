"""Floor 5: attributes of the SDK's spans that a job's span does not have until somebody looks at them."""

from collections.abc import Callable
from typing import Any


class Shared:
    """An attribute of the SDK's spans that is read from elsewhere, unless the span was given one of its own."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def __get__(self, span: Any, owner: type) -> Any:
        return self if span is None else self._read(span)


class Inside:
    """An attribute of the SDK's spans that is made for a span when somebody first asks, and is the span's own then.

    Not `__getattr__`, which would make every look at any attribute of a span several times as slow.
    """

    def __init__(self, make: Callable[[Any], Any], open_to_change: bool) -> None:
        self._make = make
        self._open_to_change = open_to_change
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, span: Any, owner: type) -> Any:
        if span is None:
            return self
        if self._open_to_change and span._end_time is None:
            span.plain = False
        insides: dict[str, Any] = vars(span)
        return insides.setdefault(self._name, self._make(span))  # atomic: two threads get the same
