"""Floor 6. Observe the queues of a program that nobody touches: `opentelemetry-instrument python app.py`.

From `instrument()` on, every `asyncio.Queue` that application code creates is watched, under the name of the
place that creates it. Queues that exist by then, and those that libraries create for themselves, stay plain.
"""

import asyncio
import contextlib
import fnmatch
import functools
import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from typing import Any, Self

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ._core.callsite import CallSite, claim, creation_site, is_application
from ._core.observed import Observed
from ._core.observer import Observer
from ._core.options import Options
from ._core.watch import unwatch, watch
from .telemetry.logs import correlation, note_error
from .telemetry.observer import OtelObserver

INCLUDE = "OTEL_PYTHON_OTEL_SCHED_INCLUDE"
EXCLUDE = "OTEL_PYTHON_OTEL_SCHED_EXCLUDE"
AUTOMATIC = "_otel_automatic"
"""Set on a queue that nobody asked to watch: the program's own `watch()` of it, with its name, takes over."""

_PATTERN = re.compile(r"[\w.*?\[\]!-]+")
_log = logging.getLogger("otel_sched")


class Selection:
    """Whose queues are observed: the application's and those of included modules, but no excluded one's.

    A pattern such as `shop`, `shop.*` or `*worker` stands for the modules that it matches and all below them.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._included = _matcher(include)
        self._excluded = _matcher(exclude)

    def __contains__(self, site: CallSite) -> bool:
        if self._excluded is not None and self._excluded(site.module):
            return False
        return bool(self._included and self._included(site.module)) or is_application(site.filename)


def _matcher(patterns: Iterable[str]) -> Callable[[str], object] | None:
    shapes = [fnmatch.translate(shape) for each in patterns for shape in (each, f"{each}.*")]
    return re.compile("|".join(shapes)).match if shapes else None


def patterns_of(value: str | Iterable[str] | None, what: str, environment: str) -> tuple[str, ...]:
    """Read patterns of module names from an argument or, where it is None, from an environment variable.

    Raises TypeError or ValueError for an argument that is wrong. What is wrong in a variable is logged and
    left out: an exception would keep `opentelemetry-instrument` from instrumenting anything.
    """
    if value is None:
        parts = _parts(os.environ.get(environment, ""))
        for bad in (each for each in parts if not _PATTERN.fullmatch(each)):
            _log.warning("%s: %r is no pattern of module names such as 'shop.*'; it is left out", environment, bad)
        return tuple(each for each in parts if _PATTERN.fullmatch(each))
    try:
        given = _parts(value) if isinstance(value, str) else tuple(value)
        wrong = next((each for each in given if not _PATTERN.fullmatch(each)), None)
    except TypeError:
        raise TypeError(f"{what} must be strings, or one string with commas; got {value!r}") from None
    if wrong is not None:
        raise ValueError(f"{what} must hold patterns of module names such as 'shop.*', got {wrong!r}")
    return given


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class _Patch:
    """One method with something added that runs after it.

    It is put back if nobody has replaced it since; else what was added falls silent, for taking the method
    out from under somebody else's wrapper would undo theirs.
    """

    def __init__(self, owner: type[Any], method: str, after: Callable[[Any, Any], None]) -> None:
        original = self._original = owner.__dict__[method]
        self._owner, self._method = owner, method
        self._active = True

        @functools.wraps(original)
        def patched(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
            result = original(instance, *args, **kwargs)
            if self._active:
                after(instance, result)
            return result

        self._patched = patched
        setattr(owner, method, patched)

    def remove(self) -> None:
        self._active = False
        if self._owner.__dict__[self._method] is self._patched:
            setattr(self._owner, self._method, self._original)


class OtelSchedInstrumentor:
    """Watches the queues that a program creates from `instrument()` to `uninstrument()`. There is only one.

    It is an instrumentor as `opentelemetry-instrument` knows them, without depending on its package.
    """

    _instance: "OtelSchedInstrumentor | None" = None
    _lock = threading.RLock()

    _patches: list[_Patch]
    _watched: dict[int, "weakref.ref[asyncio.Queue[Any]]"]
    _observers: dict[tuple[Any, ...], Observer]
    _selection: Selection
    _observer: Observer | None
    _options: dict[str, Any]
    _failed: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        with cls._lock:
            if not isinstance(cls._instance, cls):
                made = cls._instance = super().__new__(cls)
                made._patches, made._watched, made._observers = [], {}, {}
            return cls._instance

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether queues are being watched now."""
        return bool(self._patches)

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the packages that must be there: none but Python's own."""
        return ()

    def instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        include: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        skip_dep_check: bool = False,
        raise_exception_on_conflict: bool = False,
        **options: Any,
    ) -> None:
        """Watch every queue that application code creates from now on.

        Args:
            tracer_provider: Where spans go, and likewise the other two; by default the global providers.
            include: Patterns of names of modules whose queues are observed though they are a library's; by
                default those in OTEL_PYTHON_OTEL_SCHED_INCLUDE, separated by commas.
            exclude: Patterns of names of modules whose queues are left alone, also when they are included; by
                default those in OTEL_PYTHON_OTEL_SCHED_EXCLUDE.
            skip_dep_check: Passed by `opentelemetry-instrument`. What is wrong with the other arguments is
                then logged, not raised: an exception would keep it from loading what comes after this.
            raise_exception_on_conflict: Taken for compatibility; there are no dependencies to conflict.
            options: Telemetry arguments of `watch()`, for all queues alike, such as `correlation="link"`.

        Raises TypeError or ValueError for arguments that make no sense; nothing is instrumented then.
        """
        with self._lock:
            if self._patches:
                _log.warning("queues are instrumented already: uninstrument() first")
                return
            try:
                self._options = _checked_options(options, unknown_allowed=skip_dep_check)
                self._selection = Selection(
                    patterns_of(include, "include", INCLUDE), patterns_of(exclude, "exclude", EXCLUDE)
                )
                self._observer = self._observer_for(tracer_provider, meter_provider, logger_provider)
            except (TypeError, ValueError) as error:
                if not skip_dep_check:
                    raise
                _log.warning("queues are not instrumented: %s", error)
                return
            self._failed = False
            self._patches = [
                _Patch(asyncio.Queue, "__init__", self._created),
                _Patch(logging.Logger, "makeRecord", _mark),
            ]

    def uninstrument(self, **_: Any) -> None:
        """Put everything back as it was: later queues are plain, and those that are watched go on unwatched.

        Call it from the thread of the event loop that uses them.
        """
        with self._lock:
            patches, self._patches = self._patches, []
            for patch in reversed(patches):
                patch.remove()
            watched, self._watched = self._watched, {}
            for reference in list(watched.values()):
                queue = reference()
                try:
                    if queue is not None and AUTOMATIC in vars(queue):
                        unwatch(queue)
                except Exception:  # the others are to be put back all the same
                    _log.warning("a queue could not be put back", exc_info=True)

    def _observer_for(self, *providers: Any) -> Observer | None:
        """The observer of these providers; the one of queues made by hand where none is given.

        One per set of providers, for a second would register every metric a second time.
        """
        if providers == (None, None, None):
            return None
        if providers not in self._observers:
            tracer, meter, logger = providers
            self._observers[providers] = OtelObserver(
                tracer_provider=tracer, meter_provider=meter, logger_provider=logger
            )
        return self._observers[providers]

    def _created(self, queue: "asyncio.Queue[Any]", _: None) -> None:
        """Watch a queue whose base constructor has returned, if it is one of those. Never raises."""
        try:
            site = None if isinstance(queue, Observed) else creation_site(queue)
            if site is None or site not in self._selection:
                return
            watch(queue, name=claim(site.name), observer=self._observer, **self._options)
            setattr(queue, AUTOMATIC, True)
            key, watched = id(queue), self._watched
            watched[key] = weakref.ref(queue, lambda _: watched.pop(key, None))
        except Exception:
            if not self._failed:
                self._failed = True
                _log.warning("a queue could not be watched; there may be more", exc_info=True)


def _checked_options(options: dict[str, Any], *, unknown_allowed: bool) -> dict[str, Any]:
    """Return the options that `watch()` takes: a distro hands every instrumentor the same arguments."""
    known = {field.name for field in fields(Options)}
    unknown = sorted(options.keys() - known)
    if unknown and not unknown_allowed:
        raise TypeError(f"instrument() takes no argument {unknown[0]!r}; it takes {', '.join(sorted(known))}")
    options = {name: value for name, value in options.items() if name in known}
    Options(**options)
    return options


def _mark(_: logging.Logger, record: logging.LogRecord) -> None:
    """Give a record that is made while a job runs the job's fields, and tell the job of the exception in it.

    It runs after `makeRecord`, not in a record factory: an `extra=` of the same name would be refused there.
    """
    with contextlib.suppress(Exception):  # logging it would come back here
        job = correlation()
        if "job_id" not in job:
            return
        for name, value in job.items():
            record.__dict__.setdefault(name, value)
        note_error(record.levelno, record.exc_info[1] if record.exc_info else None)
