"""What a dump of very many asyncio tasks takes, and for how long it keeps the event loop from turning."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from otel_sched import Queue
from otel_sched.diagnostics import dump_tasks, dump_tasks_async

from .rounds import Settings, interleave

TASKS = 10_000
ROUNDS = 5
"""At most."""
TICK = 0.001
AFTERWARDS = 0.05

Make = Callable[[], Coroutine[Any, Any, Any]]


async def crowd(tasks: int) -> list["asyncio.Task[Any]"]:
    """Return that many tasks that wait as those of programs do: for queues, timers, locks, events and each other."""
    orders: Queue[int] = Queue(name="orders")
    lock, event = asyncio.Lock(), asyncio.Event()
    await lock.acquire()

    async def consume() -> None:
        await orders.get()

    async def pause() -> None:
        await asyncio.sleep(3600)

    async def enter() -> None:
        async with lock:
            pass

    async def listen() -> None:
        await event.wait()

    async def handle(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await serve(wait)

    async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await wait()

    async def gather() -> None:
        await asyncio.gather(*(handle(wait) for wait in (consume, pause, enter, listen)))

    made = [asyncio.create_task(gather()) for _ in range(max(1, tasks // 5))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return made


async def measured(tasks: int, make: Make) -> tuple[float, float]:
    """Return the seconds that a dump takes, and the longest for which the loop did not turn meanwhile."""
    made = await crowd(tasks)
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            longest, last = max(longest, now - last - TICK), now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(20 * TICK)
    longest = 0.0
    began = time.perf_counter()
    found = await make()
    took = time.perf_counter() - began
    await asyncio.sleep(AFTERWARDS)  # the tick that was held up last, and what the dump leaves to the collector
    if found.tasks.total < tasks:
        raise RuntimeError(f"the dump has {found.tasks.total} tasks of {tasks}: it did not do all of the work")
    for each in (*made, ticker):
        each.cancel()
    await asyncio.gather(*made, ticker, return_exceptions=True)
    return took, longest


async def at_once() -> Any:
    """Make the dump in the loop's own thread."""
    return dump_tasks()


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group."""
    tasks = settings.jobs(TASKS)
    stops: dict[str, list[float]] = {"at_once": [], "in_thread": []}

    def variant(name: str, make: Make) -> Callable[[], float]:
        def run() -> float:
            async def work() -> float:
                took, longest = await measured(tasks, make)
                stops[name].append(longest)
                return took

            return settings.run(work())

        return run

    rounds = interleave(
        {"at_once": variant("at_once", at_once), "in_thread": variant("in_thread", dump_tasks_async)},
        min(settings.rounds, ROUNDS),
    )
    return {
        "dump_ms": rounds.median("at_once") * 1e3,
        "dump_async_ms": rounds.median("in_thread") * 1e3,
        "dump_stop_ms": max(stops["in_thread"][1:]) * 1e3,
    }
