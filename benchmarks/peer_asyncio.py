"""opentelemetry-instrumentation-asyncio, OpenTelemetry's own: it watches asyncio tasks, and knows of no queue.

Workers that live as long as the program are one measurement each, when they end. A job is only seen if it runs in an
asyncio task of its own, by the name of its coroutine; then its run is known, but not its wait, its queue or its
producer, and nothing links the two.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from time import perf_counter
from typing import Any

from .baseline import MAXSIZE, WORKERS, handler, raw, stop
from .sdk import SAMPLERS, Sdk

NAMES = "OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE"


@contextmanager
def instrumented(sdk: Sdk, traced: str) -> Iterator[None]:
    """Have asyncio's functions wrapped, with spans for coroutines of the name *traced*."""
    package: Any = import_module("opentelemetry.instrumentation.asyncio")
    instrumentor = package.AsyncioInstrumentor()
    os.environ[NAMES] = traced
    instrumentor.instrument(tracer_provider=sdk.tracer_provider, meter_provider=sdk.meter_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        del os.environ[NAMES]


async def watched_workers(jobs: int) -> float:
    """Return the seconds of one job through the plain loop of `baseline.raw` while asyncio is instrumented."""
    with Sdk(SAMPLERS["all"]) as sdk, instrumented(sdk, "work"):
        took = await raw(jobs)
    sdk.expect(spans=WORKERS, asyncio_process_created=WORKERS)
    return took


async def task_each(jobs: int) -> float:
    """Return the seconds of one job where the workers run each in an asyncio task, as the package needs it."""
    queue: asyncio.Queue[int] = asyncio.Queue(MAXSIZE)

    async def work() -> None:
        while True:
            item = await queue.get()
            try:
                await asyncio.create_task(handler(item))
            finally:
                queue.task_done()

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    began = perf_counter()
    for item in range(jobs):
        await queue.put(item)
    await queue.join()
    took = perf_counter() - began
    await stop(workers)
    return took / jobs


async def watched_tasks(sampler: str, jobs: int) -> float:
    """Return the same while asyncio is instrumented, with a span for the handler."""
    with Sdk(SAMPLERS[sampler]) as sdk, instrumented(sdk, "handler"):
        took = await task_each(jobs)
    sdk.expect(asyncio_process_created=jobs + WORKERS, **({"spans": jobs} if sampler == "all" else {}))
    return took
