"""Floor 5: blocking calls of the SDK with a bound on the wait, from a coroutine or from plain code.

The threads are daemons and exist before they are needed: Python 3.12 and later start no thread once the
interpreter is on its way out, and an executor's threads would be joined there for as long as a dead collector
pleases.
"""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue

Call = Callable[[], bool]
Done = Callable[[bool], None]

_log = logging.getLogger("otel_sched")


class Lane:
    """One daemon thread that runs one signal's blocking calls in turn; equal calls that wait become one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(self._start)
            os.register_at_fork(after_in_child=lambda: (start := again()) and start())

    def _start(self) -> None:
        """Start the thread; in a forked child too, where the parent's thread and locks are of no use."""
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: dict[str, list[Done]] = {}
        self._calls: SimpleQueue[tuple[str, Call] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"otel-sched-{self.name}", daemon=True).start()

    def submit(self, key: str, call: Call, done: Done) -> None:
        """Have *call* run and *done* told its result, in the lane's thread; *key* says which calls are equal.

        On a lane that was stopped, *done* is told False at once.
        """
        with self._lock:
            if not self._stopped:
                waiting = self._waiting.setdefault(key, [])
                waiting.append(done)
                if len(waiting) == 1:
                    self._calls.put((key, call))
                return
        done(False)

    def stop(self) -> None:
        """End the thread once all that was submitted has run."""
        with self._lock:
            self._stopped = True
            self._calls.put(None)

    def _serve(self) -> None:
        calls, lock, waiting = self._calls, self._lock, self._waiting
        while (request := calls.get()) is not None:
            key, call = request
            with lock:
                told = waiting.pop(key)
            try:
                result = call()
            except Exception as error:
                _log.warning("%s of %s failed: %s", key, self.name, error)
                result = False
            for done in told:
                done(result)


def run_blocking(key: str, calls: Mapping[Lane, Call], timeout: float) -> bool:
    """Run *calls*, each in its lane, for at most *timeout* seconds; True when all ended in time and well."""
    results: SimpleQueue[bool] = SimpleQueue()
    for lane, call in calls.items():
        lane.submit(key, call, results.put)
    deadline = time.monotonic() + timeout
    well = True
    for _ in calls:
        try:
            well &= results.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return False
    return well


async def run_async(key: str, calls: Mapping[Lane, Call], timeout: float) -> bool:
    """Do as `run_blocking` does without blocking the event loop."""
    if not calls:
        return True
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in calls]

    def tell(future: asyncio.Future[bool]) -> Done:
        def done(result: bool) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(resolve, future, result)

        return done

    for future, (lane, call) in zip(futures, calls.items(), strict=True):
        lane.submit(key, call, tell(future))
    await asyncio.wait(futures, timeout=timeout)
    return all(future.done() and future.result() for future in futures)


def resolve(future: "asyncio.Future[bool]", result: bool) -> None:
    """Set *result* unless whoever waited has gone."""
    if not future.done():
        future.set_result(result)
