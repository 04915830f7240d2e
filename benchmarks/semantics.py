"""What a job must find on the fast path before its figures count: a fast path that left it out would be no path."""

import asyncio
from typing import Any

from opentelemetry import trace

from otel_sched import Queue, WorkerPool, current_job

from .rounds import Settings
from .sdk import SAMPLERS, Sdk

JOBS = 20


def check(settings: Settings) -> None:
    """Raise RuntimeError unless jobs have their context, their identity and their own trace, sampled or not."""
    for sampler in ("all", "off"):
        settings.run(_check(sampler))


async def _check(sampler: str) -> float:
    seen: list[tuple[Any, Any, str]] = []
    with Sdk(SAMPLERS[sampler], fast=True) as sdk:
        tracer = sdk.tracer_provider.get_tracer("shop")

        def look() -> None:
            job = current_job()
            with tracer.start_as_current_span("inner") as inner:
                seen.append((trace.get_current_span().get_span_context(), inner, "" if job is None else job.id))
            seen[-1] = (trace.get_current_span().get_span_context(), inner.get_span_context(), seen[-1][2])

        await _through_pool(sdk, look)
        await _through_loop(sdk, look)
    for context, inner, _ in seen:
        if not context.is_valid or inner.trace_id != context.trace_id:
            raise RuntimeError("a job ran outside of its span's context")
        if context.trace_flags.sampled != (sampler == "all"):
            raise RuntimeError("a job's span was not sampled as its sampler said")
    if not len({job for _, _, job in seen}) == len({context.span_id for context, _, _ in seen}) == 2 * JOBS:
        raise RuntimeError("jobs share an id or a span")
    spans = 4 * JOBS if sampler == "all" else 0
    sdk.expect(spans=spans, otel_sched_job_wait_duration=2 * JOBS, otel_sched_job_run_duration=2 * JOBS)
    return 0.0


async def _through_pool(sdk: Sdk, look: Any) -> None:
    queue: Queue[int] = Queue(name="orders", observer=sdk.observer())

    async def handle(item: int) -> None:
        look()

    async with WorkerPool(queue, handle, workers=2):
        for item in range(JOBS):
            await queue.put(item)
        await queue.join()


async def _through_loop(sdk: Sdk, look: Any) -> None:
    queue: Queue[int] = Queue(name="orders", observer=sdk.observer())

    async def work() -> None:
        for _ in range(JOBS):
            await queue.get()
            look()
            queue.task_done()

    worker = asyncio.create_task(work())
    for item in range(JOBS):
        await queue.put(item)
    await worker
