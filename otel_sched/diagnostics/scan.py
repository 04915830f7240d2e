"""Floor 5: runs the detectors, about once a second, on the loop that they look at, a few milliseconds at a time.

On the loop: what another thread reads of asyncio's objects may change between two instructions. A look is cut into
steps of one task or one queue, and goes on later when it has taken `BUDGET` seconds of the loop's time.
"""

import asyncio
import contextvars
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

from .._core.census import arrivals, ledgers
from .._core.complaint import complain
from .._core.finding import Reporter
from .._core.repeats import Repeats
from .detectors.deadlock import DeadlockDetector
from .detectors.following import follower, release
from .detectors.history import History
from .detectors.lost_exception import LostException
from .detectors.origin import Origins
from .detectors.outlived import Outlived
from .detectors.scene import Detector, Found, Knowledge, Scene
from .detectors.seat import all_tasks, seat_of
from .detectors.slow_job import SlowJob
from .detectors.stuck_join import StuckJoin
from .detectors.swallowed_cancellation import SwallowedCancellation
from .telling import Telling

BUDGET = 0.004
"""Seconds of the loop's time after which a look makes way."""
PAUSE = 0.004
"""Seconds until it goes on."""
SHARE = 0.02
"""At most so much of the loop's time: with very many tasks there are more seconds between two looks."""

_at_work: "weakref.WeakKeyDictionary[Any, weakref.ref[Detectors]]" = weakref.WeakKeyDictionary()


class Detectors:
    """Looks at one event loop about once a second, and tells of what is wrong with its jobs, tasks and queues.

    Without an SDK the queues of the loop only count; while detectors look, their jobs are followed. Start them before
    the consumers, where that is possible: of jobs that were taken before nothing is known but their number.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        every: float = 1.0,
        patience: float = 5.0,
        slow_factor: float = 5.0,
        reporter: Reporter | None = None,
    ) -> None:
        """Make detectors; they begin with `start()`, or with `with`.

        Args:
            loop: The loop to look at; by default the one that runs when they are started.
            every: Seconds between two looks; more where these would take more than 2 % of the loop's time.
            patience: Seconds that must pass without a change before something is taken for stuck.
            slow_factor: A job is slow when it runs for longer than this many times the p99 of its kind.
            reporter: Who is told; by default whoever `set_default_reporter` has set, else the logger `otel_sched`.

        Raises TypeError or ValueError for what is none of these.
        """
        if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an event loop or None for the running one, got {loop!r}")
        if reporter is not None and not isinstance(reporter, Reporter):
            raise TypeError(f"reporter must be an otel_sched Reporter, got {reporter!r}")
        self._every = _checked("every", every, 0.001)
        self._patience = _checked("patience", patience, 0.0)
        self._slow_factor = _checked("slow_factor", slow_factor, 1.0)
        self._loop: Any = _no_loop if loop is None else weakref.ref(loop)
        self._telling = Telling(reporter)
        self._repeats = Repeats()
        self._failed: set[str] = set()
        self._timer: asyncio.Handle | None = None
        self._steps: Iterator[None] | None = None
        self._running = False
        self._spent = 0.0
        self.looks = 0
        """How many looks were made to their end."""
        self.makes_way: Callable[[], None] | None = None
        """Stops these where the program wants others, of those that nobody in the program asked for."""

    def start(self) -> None:
        """Begin to look; from any thread if they were given a loop.

        Raises RuntimeError where no loop was given and none runs, and where detectors look at the loop already.
        """
        loop = self._loop()
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError("no event loop runs here: pass Detectors(loop), or start them in one") from None
            self._loop = weakref.ref(loop)
        known = _at_work.get(loop)
        other = None if known is None else known()
        if other is not None and other._running:
            if other.makes_way is None:
                raise RuntimeError(
                    "detectors look at this event loop already, perhaps those of diagnostics.start(): stop() them first"
                )
            other.makes_way()
        if _arrived not in arrivals:
            arrivals.append(_arrived)
        _at_work[loop] = weakref.ref(self)
        self._running = True
        self._knowledge = Knowledge(History(), Origins(), weakref.WeakKeyDictionary())
        self._lost = LostException(loop, self._knowledge.origins)
        self._detectors = (
            SlowJob(self._slow_factor),
            StuckJoin(self._patience),
            DeadlockDetector(self._patience),
            Outlived(self._patience),
            SwallowedCancellation(self._patience),
            self._lost,
        )
        self._of_tasks = [each for each in self._detectors if type(each).task is not Detector.task]
        _call(loop, self._begin)

    def stop(self) -> None:
        """Look no more, and give back what was there before; a second call does nothing."""
        if self._running:
            self._running = False
            loop = self._loop()
            if loop is not None:
                _at_work.pop(loop, None)
                _call(loop, self._end)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> None:
        if self._running:
            self._lost.stand_in()
            scene, until = self._scene(), time.perf_counter() + BUDGET
            for ledger in ledgers():
                self._ask(self._follow, scene, ledger)
                if time.perf_counter() >= until:
                    return self._later(PAUSE)  # the rest with the first look, which makes way
            self._later(self._every)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._steps = None
        self._lost.stand_back()
        self._tell(self._ask(self._lost.end, self._scene()))
        loop = self._loop()
        if loop is not None:
            release(loop)

    def _later(self, seconds: float) -> None:
        loop = self._loop()
        if self._running and loop is not None and not loop.is_closed():
            # An empty context: that of start() would live as long as the loop, and the spans in it.
            self._timer = loop.call_later(seconds, self._go_on, context=contextvars.Context())

    def _go_on(self) -> None:
        """Take steps of a look until the budget is spent."""
        began = time.perf_counter()
        until = began + BUDGET
        steps = self._steps = self._look() if self._steps is None else self._steps
        try:
            for _ in steps:
                if time.perf_counter() >= until:
                    self._spent += time.perf_counter() - began
                    self._later(PAUSE)
                    return
        except Exception as error:
            self._complain("a look of the detectors failed; they look on", error)
        self.looks += 1
        self._steps = None
        spent, self._spent = self._spent + time.perf_counter() - began, 0.0
        self._later(max(self._every, spent / SHARE))

    def _look(self) -> Iterator[None]:
        """Look once at everything; between two steps the program may run. No local here holds a task, job or queue."""
        self._ask(self._lost.stand_in)
        scene = self._scene()
        queues = [weakref.ref(each) for each in ledgers()]
        for queue in queues:
            self._ask(self._follow, scene, queue())
            yield
        loop = self._loop()
        tasks = [] if loop is None else all_tasks(loop)
        del loop
        for task in tasks:
            self._ask(self._see_task, scene, task)
            yield
        for queue in queues:
            self._ask(self._see_queue, scene, queue())
            yield
        for detector in self._detectors:
            self._tell(self._ask(detector.end, scene))
            yield

    def _scene(self) -> Scene:
        loop = self._loop()
        now = 0.0 if loop is None else loop.time()
        return Scene(now, self._knowledge, self._follower, lambda key: self._repeats.allow(key, now))

    def _follower(self, ledger: Any) -> Any:
        return follower(ledger, self._loop())

    def _follow(self, scene: Scene, ledger: Any) -> None:
        known = None if ledger is None else self._follower(ledger)
        if known is not None and ledger is not None:
            queue = ledger.queue()
            known.follow(queue)
            ended = known.note(ledger, queue)
            self._knowledge.history.fold(ledger.name, ended)
            self._knowledge.origins.fold(ledger.name, ended)
            scene.see_queue(ledger)

    def _see_task(self, scene: Scene, weak: "weakref.ref[asyncio.Task[Any]]") -> None:
        task = weak()
        if task is None or task.done() or task.get_loop() is not self._loop():
            return
        seat = seat_of(task, scene.waits_at(task))
        if seat is not None:
            seat.weak = weak
            scene.see_task(seat)
            for detector in self._of_tasks:
                self._tell(self._ask(detector.task, scene, seat))

    def _see_queue(self, scene: Scene, ledger: Any) -> None:
        if ledger is not None and self._follower(ledger) is not None:
            for detector in self._detectors:
                self._tell(self._ask(detector.queue, scene, ledger))

    def _ask(self, look: Any, *args: Any) -> list[Found]:
        """Call one step; what it raises is logged once and goes no further."""
        try:
            return look(*args) or []
        except Exception as error:
            self._complain(f"a detector failed in {look.__qualname__}() and is passed over", error)
            return []

    def _tell(self, told: list[Found]) -> None:
        for finding, job in told:
            self._telling.finding(finding, job)

    def _complain(self, message: str, error: Exception) -> None:
        if message not in self._failed:
            self._failed.add(message)
            complain(logging.ERROR, "%s", message, error=error)


def _arrived(ledger: Any) -> None:
    """Follow a new queue from its first job on, where detectors look at the loop that makes it."""
    loop = asyncio._get_running_loop()
    known = None if loop is None else _at_work.get(loop)
    detectors = None if known is None else known()
    if detectors is not None and detectors._running:
        detectors._ask(detectors._follow, detectors._scene(), ledger)


def _call(loop: asyncio.AbstractEventLoop, function: Any) -> None:
    """Call *function* in the thread of *loop*: at once where this is it, or where the loop is closed."""
    if loop.is_closed() or asyncio._get_running_loop() is loop:
        function()
    else:
        loop.call_soon_threadsafe(function, context=contextvars.Context())


def _checked(what: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number, got {value!r}")
    if not least <= value < float("inf"):
        raise ValueError(f"{what} must be {least:g} or more and finite, got {value!r}")
    return float(value)


def _no_loop() -> None:
    return None
