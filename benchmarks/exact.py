"""How much the fast path's metrics differ from the plain path's, of the same work in virtual time."""

import asyncio
import logging
import random
from typing import Any

from otel_sched import Queue, WorkerPool
from otel_sched.testing import run

from .sdk import SAMPLERS, Sdk

JOBS = 3000
SEED = 7
DURATIONS = ("otel_sched.job.wait.duration", "otel_sched.job.run.duration", "otel_sched.queue.put.blocked.duration")

Points = dict[tuple[str, Any], list[float]]


class Refused(Exception):
    """What some of the jobs raise."""


async def work(sdk: Sdk) -> None:
    """Send jobs of random length, of which some fail, time out or are cancelled, through a pool and a bare queue."""
    lots = random.Random(SEED)
    clock = asyncio.get_running_loop().time
    observer = sdk.observer()
    pooled: Queue[float] = Queue(20, name="orders", observer=observer, clock=clock)
    bare: Queue[float] = Queue(20, name="invoices", observer=observer, clock=clock)

    async def handle(seconds: float) -> None:
        await asyncio.sleep(seconds)
        what = lots.random()
        if what < 0.03:
            raise Refused
        if what < 0.05:
            raise TimeoutError
        if what < 0.06:
            raise asyncio.CancelledError

    async def consume() -> None:
        while True:
            seconds = await bare.get()
            try:
                await asyncio.sleep(seconds)
            finally:
                bare.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    async with WorkerPool(pooled, handle, workers=4):
        for _ in range(JOBS):
            await asyncio.sleep(lots.expovariate(4000))
            await pooled.put(lots.expovariate(1000))
            await bare.put(lots.expovariate(1000))
        await pooled.join()
    await bare.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)


def points(*, fast: bool) -> Points:
    """Return what was exported of the work: for each series its count, sum, least, greatest and buckets, or value."""
    logger = logging.getLogger("otel_sched")
    before, logger.disabled = logger.disabled, True  # of the jobs that are meant to fail
    try:
        with Sdk(SAMPLERS["1pct"], fast=fast) as sdk:
            run(work(sdk))
    finally:
        logger.disabled = before
    missing = [name for name in DURATIONS if not sdk.counts.get(name)]
    if missing:
        raise RuntimeError(f"nothing was told of {missing}")
    return {
        (metric.name, frozenset((point.attributes or {}).items())): _numbers(point)
        for metric in sdk.metrics
        for point in metric.data.data_points
    }


def _numbers(point: Any) -> list[float]:
    if hasattr(point, "bucket_counts"):
        return [point.count, point.sum, point.min, point.max, *point.bucket_counts]
    return [point.value]


def difference() -> float:
    """Return the sum of all differences between the two; a series that one of them lacks counts in full."""
    fast, plain = points(fast=True), points(fast=False)
    total = 0.0
    for key in fast.keys() | plain.keys():
        ours, theirs = fast.get(key, []), plain.get(key, [])
        width = max(len(ours), len(theirs))
        pairs = zip(ours + [0.0] * (width - len(ours)), theirs + [0.0] * (width - len(theirs)), strict=True)
        total += sum(abs(a - b) for a, b in pairs)
    return total
