"""Floor 5: who waits for whom: from a task or future, through asyncio's own callbacks, to the tasks behind them."""

import asyncio
from asyncio import Queue as AsyncioQueue  # by value: some programs put another class in its place
from collections.abc import Iterable, Iterator
from concurrent.futures import Future as ThreadFuture
from functools import partial
from types import FunctionType, MethodType
from typing import Any

MAX_BETWEEN = 5
"""How many futures may stand between a task and the one that waits for it: gather() in shield() in ..."""


class Waiters:
    """Which tasks wait directly for which future, by the future's id()."""

    __slots__ = ("_first", "_more")

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._more: dict[int, list[int]] = {}

    def add(self, future: Any, number: int) -> None:
        """Note that task *number* waits for *future*."""
        if future is not None and self._first.setdefault(id(future), number) != number:
            self._more.setdefault(id(future), []).append(number)

    def direct(self, future: Any) -> Iterator[int]:
        """Yield the tasks that wait for *future* itself."""
        first = self._first.get(id(future))
        if first is not None:
            yield first
            yield from self._more.get(id(future), ())

    def of(self, future: Any, links: Iterable[Any], depth: int = MAX_BETWEEN) -> set[int]:
        """Return the tasks that wait for *future*, directly or through what its callbacks lead to, *links*."""
        found = set(self.direct(future))
        for value in links:
            if isinstance(value, AsyncioQueue):  # as_completed() hands out through one
                for getter in tuple(getattr(value, "_getters", ())):
                    found.update(self.direct(getter))
            elif depth and asyncio.isfuture(value) and value is not future:
                found |= self.of(value, linked(value), depth - 1)
        return found


def group_owner(links: Iterable[Any]) -> Any:
    """Return the task whose TaskGroup is one of *links*, or None."""
    group = next((each for each in links if isinstance(each, asyncio.TaskGroup)), None)
    return getattr(group, "_parent_task", None)


def thread_call(future: Any) -> str | None:
    """Say how far the call in an executor is whose end *future* is; None when it is none."""
    call = next((each for each in linked(future) if isinstance(each, ThreadFuture)), None)
    if call is None:
        return None
    return "running" if call.running() else "finished" if call.done() else "not begun: no thread is free"


def linked(future: Any) -> list[Any]:
    """Return what asyncio's own done-callbacks of *future* lead to: groups, other futures, queues.

    An application's callbacks may refer to anything, so that they say nothing of who waits for what.
    """
    found: list[Any] = []
    for entry in getattr(future, "_callbacks", None) or ():
        callback = entry[0] if isinstance(entry, tuple) else entry
        kind = type(callback)
        if kind is MethodType:
            owner = callback.__self__
            if type(owner).__module__.startswith("asyncio."):
                found += (owner, getattr(owner, "_done", None))  # as_completed() from 3.13 on
        elif kind is FunctionType:
            if callback.__module__.startswith("asyncio."):
                found += cells(callback)
        elif kind is partial and getattr(callback.func, "__module__", "").startswith("asyncio."):
            found += callback.args
    return found


def cells(function: FunctionType) -> Iterator[Any]:
    """Yield what a closure refers to."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue
