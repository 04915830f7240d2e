"""Floor 1: what may be a handler, and what it is called."""

import functools
import inspect
from typing import Any


def checked_handler(handler: Any) -> Any:
    """Return *handler* if calling it gives a coroutine; a TypeError says what to do about anything else."""
    plain = _unwrapped(handler)
    of_object = getattr(type(plain), "__call__", None)  # noqa: B004  # not whether it can be called: how
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(of_object):
        return handler
    if not callable(handler):
        raise TypeError(f"the handler must be a coroutine function that takes the item, got {handler!r}")
    if inspect.isasyncgenfunction(plain):
        raise TypeError(f"the handler {handler!r} is an async generator function: it must not yield")
    raise TypeError(
        f"the handler {handler!r} is a plain function, which would stop the event loop while it runs. Make it "
        "`async def`, or call it in a thread: `async def handler(item): return await asyncio.to_thread(function, item)`"
    )


def callable_names(handler: Any) -> tuple[str, str]:
    """Return the short name of *handler* (a metric label, so without addresses) and its full one."""
    plain = _unwrapped(handler)
    named = plain if hasattr(plain, "__qualname__") else type(plain)
    short: str = named.__qualname__.rpartition("<locals>.")[2]
    return short, f"{named.__module__}.{named.__qualname__}"


def _unwrapped(handler: Any) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler
