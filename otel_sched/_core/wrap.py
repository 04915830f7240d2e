"""Floor 4: instrument(), for a coroutine function that handles items."""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from .callable import callable_names
from .complaint import complain
from .observer import Calls, Observer, default_observer
from .options import checked_name

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[P, Coroutine[Any, Any, R]]


@overload
def instrument(function: Function[P, R], /) -> Function[P, R]: ...
@overload
def instrument(
    *, name: str | None = None, observer: Observer | None = None
) -> Callable[[Function[P, R]], Function[P, R]]: ...
def instrument(
    function: Function[P, R] | None = None, /, *, name: str | None = None, observer: Observer | None = None
) -> Any:
    """Give each call of a coroutine function a span, current while it runs and linked to whoever queued its item.

    Inside a job that get() or a pool started, the span is a child of the job's. Where the job could only be waited for
    (docs/lifecycle.md), the first call that is given its item is taken for its run, and its span is the job's process
    span. Decorate what handles one item, not the endless loop round it: a span that never ends is never exported.

    Args:
        name: The span's name; by default the function's qualified name.
        observer: Who is told; by default OpenTelemetry through the global providers.

    Raises TypeError for anything but a coroutine function.
    """
    if name is not None:
        checked_name(name)
    if observer is not None and not isinstance(observer, Observer):
        raise TypeError(f"observer must be an otel_sched Observer, got {observer!r}")
    if function is None:
        return functools.partial(_wrapped, name=name, observer=observer)
    return _wrapped(function, name=name, observer=observer)


def _wrapped(function: Function[P, R], *, name: str | None, observer: Observer | None) -> Function[P, R]:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"@instrument takes a coroutine function (async def), got {function!r}. A plain function that a job "
            "calls is part of that job's span already."
        )
    short, full = callable_names(function)
    try:
        calls = (observer or default_observer()).wrap(name or short, full)
    except Exception:
        complain(
            logging.ERROR,
            "telemetry of calls of %s failed and is switched off; the function works on",
            full,
            error=sys.exception(),
        )
        calls = None
    if calls is None:
        return function

    @functools.wraps(function)
    async def instrumented(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _entered(calls, (*args, *kwargs.values()), full)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            _left(calls, token, error, full)
            raise
        _left(calls, token, None, full)
        return result

    return instrumented


def _entered(calls: Calls, items: tuple[Any, ...], function: str) -> Any:
    try:
        return calls.entered(items)
    except Exception:
        _complain("telemetry of a call of %s failed; the call goes on", function)
        return None


def _left(calls: Calls, token: Any, error: BaseException | None, function: str) -> None:
    if token is not None:
        try:
            calls.left(token, error)
        except Exception:
            complain(
                logging.ERROR, "telemetry of a call of %s failed; the call goes on", function, error=sys.exception()
            )


def _complain(message: str, function: str) -> None:
    complain(logging.ERROR, message, function, error=sys.exception())
