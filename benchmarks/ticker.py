"""How late an event loop is while 10 000 jobs a second go through a pool; a program for one run, begun by `delay`.

Prints one JSON object: the ticker's lateness at its 99.9th percentile in milliseconds, the jobs per second that went
through, and how many spans were lost on their way.
"""

import argparse
import asyncio
import json
import sys
from contextlib import nullcontext
from typing import Any

from otel_sched import Observer, Queue, WorkerPool, configure

from .rounds import loop_factories

RATE = 10_000
BATCH = 0.002
"""Seconds between two visits of the producer, who then puts all that is due: 20 jobs at a time."""
TICK = 0.005
WARM_UP = 1.0
PERCENTILE = 0.999
DRAIN = 30.0
"""Seconds that the exporters get at the end: what is lost then was dropped, not cut off."""


async def handler(item: int) -> None:
    """Do nothing, but not at once: others run in between, as in a real handler."""
    await asyncio.sleep(0)


async def tick(lateness: list[float]) -> None:
    """Note how late each wake-up comes, until cancelled; what it missed meanwhile is not made up for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += TICK
        await asyncio.sleep(due - loop.time())
        now = loop.time()
        lateness.append(now - due)
        due = max(due, now - TICK)


async def produce(queue: Queue[int], seconds: float) -> float:
    """Put jobs at the rate for so long, each when it is due; return how many a second were put."""
    loop = asyncio.get_running_loop()
    began, put = loop.time(), 0
    while (now := loop.time()) < began + seconds:
        for _ in range(int((now - began) * RATE) - put):
            await queue.put(put)
            put += 1
        await asyncio.sleep(BATCH)
    await queue.join()
    return put / (loop.time() - began)


async def work(seconds: float, observer: Observer | None, around: Any) -> dict[str, float]:
    """Return lateness and rate of one run, after one that warms up."""
    queue: Queue[int] = Queue(1000, name="orders", observer=observer)
    lateness: list[float] = []
    async with WorkerPool(queue, handler, workers=10):
        with around:
            await produce(queue, min(WARM_UP, seconds))
            ticker = asyncio.create_task(tick(lateness))
            rate = await produce(queue, seconds)
            ticker.cancel()
    lateness.sort()
    return {"late_ms": lateness[int(len(lateness) * PERCENTILE)] * 1e3, "jobs_per_s": rate, "lost": 0}


def observed(seconds: float, endpoint: str) -> Any:
    """Return the work with everything exported to *endpoint*: both spans of each job, metrics each second, logs."""
    telemetry = configure(endpoint=endpoint, protocol="http/protobuf", metric_interval=1.0, sampling_ratio=1.0)
    tracer = telemetry.tracer_provider.get_tracer("shop")

    async def run() -> dict[str, float]:
        result = await work(seconds, None, tracer.start_as_current_span("produce"))
        await telemetry.shutdown(DRAIN)
        spans = [each for each in telemetry.stats() if each.signal == "traces"]
        return {**result, "lost": sum(each.handed - each.exported for each in spans)}

    return run()


def main() -> int:
    """Do one run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--loop", choices=list(loop_factories()), default="asyncio")
    parser.add_argument("--endpoint", help="where to export everything to; without it there is no telemetry")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factories()[options.loop]) as runner:
        if options.endpoint:
            result = runner.run(observed(options.seconds, options.endpoint))
        else:
            result = runner.run(work(options.seconds, None, nullcontext()))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
