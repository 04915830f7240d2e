"""Floor 5: how the last consumers of a queue have ended, in words: when it matters nothing else is left of them."""

import asyncio
import contextvars
import weakref
from typing import Any

from ..._core.job import type_name
from .seat import task_words
from .words import NAMED

MINDED = 20
"""For the end of so many living consumers of one queue somebody waits: only the last to end are told of."""


class Ends:
    """Remembers the last consumers of one queue that have ended."""

    __slots__ = ("_context", "_minded", "_words")

    def __init__(self) -> None:
        self._minded: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._words: dict[str, str] = {}
        self._context = contextvars.Context()  # an empty one: the default would pin a copy of whatever is current

    def mind(self, task: asyncio.Task[Any]) -> None:
        """Note how *task* ends, when it does."""
        if len(self._minded) < MINDED and task not in self._minded:
            self._minded.add(task)
            task.add_done_callback(self._ended, context=self._context)

    def words(self) -> list[str]:
        """Return how each of the last has ended, the latest first."""
        return list(reversed(self._words.values()))

    def forget(self) -> None:
        """Wait for no end any more."""
        for task in list(self._minded):
            task.remove_done_callback(self._ended)
        self._minded.clear()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._minded.discard(task)
        who = task_words(task)
        self._words.pop(who, None)  # one that is started again and again is named once
        self._words[who] = f"{who} {_how(task)}"
        while len(self._words) > NAMED:
            del self._words[next(iter(self._words))]


def _how(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "was cancelled"
    # Not task.exception(): reading it would silence asyncio's "exception was never retrieved".
    error = getattr(task, "_exception", None)
    return "has returned" if error is None else f"ended with {type_name(error)}"
