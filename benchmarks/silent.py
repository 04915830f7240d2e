"""What a queue and a pool cost while nobody listens: no SDK, no observer."""

import asyncio
from functools import partial
from time import perf_counter

from opentelemetry import metrics, trace

from otel_sched import Queue

from . import ours
from .baseline import raw
from .rounds import Settings, Variant, interleave

OPERATIONS = 4000
FILL = 500
JOBS = 6000


def one_by_one(jobs: int) -> float:
    """Return the seconds of one put_nowait, get_nowait and task_done of asyncio.Queue."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    began = perf_counter()
    for item in range(jobs):
        queue.put_nowait(item)
        queue.get_nowait()
        queue.task_done()
    return (perf_counter() - began) / jobs


def our_one_by_one(jobs: int) -> float:
    """Return the same of our Queue; written out for the reason that `ours` gives."""
    queue: Queue[int] = Queue(name="orders")
    began = perf_counter()
    for item in range(jobs):
        queue.put_nowait(item)
        queue.get_nowait()
        queue.task_done()
    return (perf_counter() - began) / jobs


def filled(jobs: int) -> float:
    """Return the seconds of the three calls of asyncio.Queue where hundreds of jobs wait between put and get."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    began = perf_counter()
    for _ in range(0, jobs, FILL):
        for item in range(FILL):
            queue.put_nowait(item)
        for _ in range(FILL):
            queue.get_nowait()
            queue.task_done()
    return (perf_counter() - began) / jobs


def our_filled(jobs: int) -> float:
    """Return the same of our Queue."""
    queue: Queue[int] = Queue(name="orders")
    began = perf_counter()
    for _ in range(0, jobs, FILL):
        for item in range(FILL):
            queue.put_nowait(item)
        for _ in range(FILL):
            queue.get_nowait()
            queue.task_done()
    return (perf_counter() - began) / jobs


def measure(settings: Settings) -> dict[str, float]:
    """Return the figures of this group.

    Raises RuntimeError if a global provider is set: then our queue would not be silent.
    """
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    if not all("Proxy" in type(each).__name__ for each in providers):
        raise RuntimeError("a global OpenTelemetry provider is set; run the benchmarks in a process of their own")
    operations, jobs = settings.jobs(OPERATIONS), settings.jobs(JOBS)
    calls: dict[str, Variant] = {
        each.__name__: partial(each, operations) for each in (one_by_one, our_one_by_one, filled, our_filled)
    }
    quick = interleave(calls, 3 * settings.rounds)
    on_loops: dict[str, Variant] = {
        "raw": lambda: settings.run(raw(jobs)),
        "loop": lambda: settings.run(ours.loop(jobs)),
        "pool": lambda: settings.run(ours.pool(jobs)),
    }
    loops = interleave(on_loops, settings.rounds)
    return {
        "silent_queue": quick.ratio("our_one_by_one", "one_by_one"),
        "silent_queue_filled": quick.ratio("our_filled", "filled"),
        "silent_pool": loops.ratio("pool", "raw"),
        "silent_loop": loops.ratio("loop", "raw"),
        "queue_us": quick.median("one_by_one") * 1e6,
        "raw_us": loops.median("raw") * 1e6,
    }
