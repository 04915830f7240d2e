"""The work of `baseline.raw`, done with otel_sched.

It is written out once more rather than shared: code that two kinds of queue run through is slower for both.
"""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

from otel_sched import Observer, Queue, WorkerPool

from .baseline import MAXSIZE, WORKERS, handler, stop

Around = AbstractContextManager[Any]


async def loop(jobs: int, observer: Observer | None = None, around: Around | None = None) -> float:
    """Return the seconds that one job takes through our queue and the user's own loop.

    Args:
        jobs: How many go through.
        observer: Who is told; by default OpenTelemetry's global providers, of which a benchmark has none.
        around: What the producer is in while it puts: its own span, say.
    """
    queue: Queue[int] = Queue(MAXSIZE, name="orders", observer=observer)

    async def work() -> None:
        while True:
            item = await queue.get()
            try:
                await handler(item)
            finally:
                queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    began = perf_counter()
    with around or nullcontext():
        for item in range(jobs):
            await queue.put(item)
    await queue.join()
    took = perf_counter() - began
    await stop(workers)
    return took / jobs


async def pool(jobs: int, observer: Observer | None = None, around: Around | None = None) -> float:
    """Return the seconds that one job takes through our queue and a pool; the arguments are those of `loop`."""
    queue: Queue[int] = Queue(MAXSIZE, name="orders", observer=observer)
    async with WorkerPool(queue, handler, workers=WORKERS):
        began = perf_counter()
        with around or nullcontext():
            for item in range(jobs):
                await queue.put(item)
        await queue.join()
        took = perf_counter() - began
    return took / jobs
