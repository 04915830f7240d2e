"""Floor 6: tests that are coroutine functions, in virtual time, without any plugin."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from .loop import run

P = ParamSpec("P")
R = TypeVar("R")


def virtual_time(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Make a plain test of a coroutine function: each call runs on a VirtualLoop of its own, as with `run()`.

    Its arguments stay, so that it may ask for fixtures; an async fixture of another plugin belongs to another loop.
    To that plugin the test is a plain function, in whatever mode it works.

    Raises:
        TypeError: it decorates something else.
    """
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"@virtual_time takes a coroutine function (async def), not {function!r}")

    @functools.wraps(function)
    def test(*args: P.args, **kwargs: P.kwargs) -> R:
        return run(function(*args, **kwargs))

    return test
