"""taskiq with its OpenTelemetry middleware, on the broker that runs everything in the process.

A task queue does more than a queue: it serialises the call, finds the function by name, fills in its dependencies and
keeps the result. Only what the middleware adds to that can be compared. Its in-memory broker has no queue either: a
task starts as soon as the loop gets to it, and at most thirty run at once.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter
from typing import Any

from .sdk import SAMPLERS, Sdk

AT_ONCE = 1000
"""How many are sent before the sender waits for them, as a full queue would make it: the broker has no bound."""


async def taskiq_raw(jobs: int, middlewares: Sequence[Any] = ()) -> float:
    """Return the seconds of one job that is sent to taskiq and run by it."""
    taskiq: Any = import_module("taskiq")
    broker = taskiq.InMemoryBroker()
    broker.add_middlewares(*middlewares)

    async def handler(item: int) -> None:  # one of its own: taskiq renames what it registers
        pass

    task = broker.register_task(handler, task_name="handler")
    await broker.startup()
    began = perf_counter()
    for first in range(0, jobs, AT_ONCE):
        for item in range(first, min(jobs, first + AT_ONCE)):
            await task.kiq(item)
        await broker.wait_all()
        await asyncio.sleep(0)
    took = perf_counter() - began
    await broker.shutdown()
    return took / jobs


async def taskiq_watched(sampler: str, jobs: int) -> float:
    """Return the same with the middleware, which makes two spans and five measurements for a task."""
    module: Any = import_module("taskiq.middlewares.opentelemetry_middleware")
    with Sdk(SAMPLERS[sampler]) as sdk:
        middleware = module.OpenTelemetryMiddleware(sdk.tracer_provider, sdk.meter_provider)
        took = await taskiq_raw(jobs, [middleware])
    sdk.expect(
        tasks_sent=jobs,
        task_success=jobs,
        task_execution_time=jobs,
        task_wait_time=jobs,
        **({"spans": 2 * jobs} if sampler == "all" else {}),
    )
    return took
