"""What a waiting job takes in memory above the same item in asyncio.Queue, with telemetry on."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_sched import OtelObserver, Queue

from .rounds import Settings

JOBS = 20_000
WARM_UP = 20

AnyQueue = asyncio.Queue[object]
Around = Callable[[], AbstractContextManager[Any]]


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group.

    The tracer provider has no processor: the buffer of one would keep the spans, and what a job keeps is the question.
    """
    jobs = settings.jobs(JOBS)
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    meter_provider = MeterProvider(shutdown_on_exit=False)
    tracer = tracer_provider.get_tracer("shop")

    def ours() -> AnyQueue:
        observer = OtelObserver(tracer_provider=tracer_provider, meter_provider=meter_provider)
        return Queue(name="orders", observer=observer)

    def request() -> AbstractContextManager[Any]:
        return tracer.start_as_current_span("request")

    untraced = (_kept(ours, nullcontext, jobs) - _kept(asyncio.Queue, nullcontext, jobs)) / jobs
    traced = (_kept(ours, request, jobs) - _kept(asyncio.Queue, request, jobs)) / jobs
    return {"bytes_per_job": untraced, "bytes_per_job_traced": traced - untraced}


def _kept(make: Callable[[], AnyQueue], around: Around, jobs: int) -> int:
    """Return the bytes that stay allocated after *jobs* puts, each inside a span of its own if *around* is one."""
    items = [object() for _ in range(jobs + WARM_UP)]
    queue = make()
    _put(queue, items[:WARM_UP], around)
    rest = items[WARM_UP:]
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        _put(queue, rest, around)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert queue.qsize() == len(items)
    return after - before


def _put(queue: AnyQueue, items: list[object], around: Around) -> None:
    for item in items:
        with around():
            queue.put_nowait(item)
