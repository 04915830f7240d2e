"""Floor 6: assert_no_leaked_jobs: fails a test that leaves jobs, or what they have started, behind."""

import asyncio
import functools
import inspect
import math
import sys
import weakref
from collections.abc import Callable, Collection, Coroutine
from contextlib import ExitStack
from typing import Any, ParamSpec, Self, TypeVar

from .._core.job import Job
from .._core.ledger import Ledger, current
from .._core.observer import Listener, Observer
from .standing import standing_in

P = ParamSpec("P")
R = TypeVar("R")

TURNS = 10
"""How often `async with` lets the loop turn before it complains: what was cancelled has to hear of it."""
PAUSE = 0.01


class Ended:
    """The jobs that have ended and whose context somebody else still has: an asyncio task that they started."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[Any, str]] = {}  # by id(): a reference to what is gone has no hash

    def add(self, job: Job[Any]) -> None:
        """Take note of the end of a job."""
        ref = weakref.ref(job)
        if current.get() is ref:
            current.set(None)  # a task that is started here from now on is not started in this job
        if sys.getrefcount(ref) > 2:  # this name and the argument: contexts hold it
            by = f" ({job.name})" if job.name else ""
            self._words[id(ref)] = (ref, f"job {job.id} of queue {job.queue!r}{by}")

    def words(self, ref: Any) -> str | None:
        """Return what a job is called whose end was seen, by the reference that a context holds to it."""
        known = self._words.get(id(ref))
        return None if known is None or known[0] is not ref else known[1]


class Follows(Observer):
    """Has jobs followed, and knows the books of all queues that were made meanwhile."""

    def __init__(self) -> None:
        self.ledgers: list[Ledger] = []
        self.ended = Ended()

    def watch(self, ledger: Ledger) -> Listener:
        """Follow the jobs of one queue."""
        self.ledgers.append(ledger)
        return _Following(self.ended)


class _Following(Listener):
    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def settled(self, job: Job[Any]) -> None:
        self._ended.add(job)


class assert_no_leaked_jobs:
    """Fail when the block leaves something of a job behind, in the queues that were made or used in it.

    That is: a job that was taken and has not ended, one that still waits, an asyncio task that a job has started and
    that outlives it, and a `join()` that would not return. The failure lists them, with the task and the line where
    each stands.

    Use it as `with`, round `asyncio.run()` too; as `async with`, which lets the loop turn a few times first, so that
    what was just cancelled can end; or as a decorator of an async test, which is the same.

    Args:
        allow_waiting: True if jobs may be left waiting in their queues, or the names of the queues where they may.
        grace: Of `async with`: for how many seconds of the loop's time to wait for what is left to end.

    Raises:
        AssertionError: at the end. What the block itself raises comes first.
    """

    def __init__(self, *, allow_waiting: bool | Collection[str] = False, grace: float = 0.0) -> None:
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < math.inf:
            raise ValueError(f"grace must be 0 or more seconds, not {grace!r}")
        if isinstance(allow_waiting, str):
            raise TypeError(f"allow_waiting must be True or a collection of names: write [{allow_waiting!r}]")
        self._allow_waiting = allow_waiting
        self._grace = grace
        self._undo: ExitStack | None = None

    def __enter__(self) -> Self:
        """Have the jobs of all queues followed from here on."""
        from .left import Before

        if self._undo is not None:
            raise RuntimeError("it is in use already: make another one")
        self._follows = Follows()
        self._before = Before()
        self._undo = ExitStack()
        self._undo.enter_context(standing_in(self._follows, beside=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Fail if something is left."""
        undo, self._undo = self._undo, None
        if undo is not None:
            with undo:
                left = self._left() if kind is None else []
            if left:
                raise AssertionError("\n".join(["jobs were leaked:", *left]))

    async def __aenter__(self) -> Self:
        """Do as `with` does."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give what is left a moment to end, then do as `with` does."""
        try:
            if kind is None:
                await self._patiently()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        self.__exit__(kind)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Look at each call of a coroutine function."""
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"it decorates coroutine functions (async def), not {function!r}")

        @functools.wraps(function)
        async def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            async with type(self)(allow_waiting=self._allow_waiting, grace=self._grace):
                return await function(*args, **kwargs)

        return watched

    async def _patiently(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        for _ in range(TURNS):
            await asyncio.sleep(0)
        while self._left() and loop.time() < deadline:
            await asyncio.sleep(min(PAUSE, max(0.0, deadline - loop.time())))

    def _left(self) -> list[str]:
        from .left import left

        return left(self._before, self._follows.ledgers, self._follows.ended, self._allow_waiting)
