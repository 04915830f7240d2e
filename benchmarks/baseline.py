"""What our figures are ratios of: a plain queue nobody watches, and one watched the way it is done without us.

The work is that of a careful engineer: a span where a job is sent and one where it is processed, the trace carried
through the queue, histograms of waiting and running, counters of jobs sent and done, and how many are in the queue.
"""

import asyncio
from time import perf_counter

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind

from .sdk import Sdk

WORKERS = 10
MAXSIZE = 1000
LABELS = {"queue": "orders", "job": "handler"}
SPAN_ATTRIBUTES = {
    "messaging.system": "otel_sched",
    "messaging.destination.name": "orders",
    "messaging.operation.type": "process",
}


async def handler(item: int) -> None:
    """Do nothing, so that nothing but the queue and the watching takes time."""


async def stop(workers: list[asyncio.Task[None]]) -> None:
    """End workers that would go on for ever."""
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def raw(jobs: int) -> float:
    """Return the seconds that one job takes through asyncio.Queue and a plain loop, with nobody watching."""
    queue: asyncio.Queue[int] = asyncio.Queue(MAXSIZE)

    async def work() -> None:
        while True:
            item = await queue.get()
            try:
                await handler(item)
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


async def handwritten(jobs: int, sampler: Sampler) -> float:
    """Return the seconds that one job takes when the same loop calls OpenTelemetry itself."""
    queue: asyncio.Queue[tuple[float, dict[str, str], int]] = asyncio.Queue(MAXSIZE)
    with Sdk(sampler) as sdk:
        tracer = sdk.tracer_provider.get_tracer("by-hand")
        meter = sdk.meter_provider.get_meter("by-hand")
        waited, ran = (meter.create_histogram(name, unit="s") for name in ("job.wait", "job.run"))
        sent, done = meter.create_counter("jobs.sent"), meter.create_counter("jobs.done")
        depth = meter.create_up_down_counter("queue.depth")

        async def work() -> None:
            while True:
                put_at, carrier, item = await queue.get()
                taken_at = perf_counter()
                depth.add(-1, LABELS)
                waited.record(taken_at - put_at, LABELS)
                producer = propagate.extract(carrier)
                with tracer.start_as_current_span(
                    "process orders", context=producer, kind=SpanKind.CONSUMER, attributes=SPAN_ATTRIBUTES
                ):
                    try:
                        await handler(item)
                    finally:
                        queue.task_done()
                ran.record(perf_counter() - taken_at, LABELS)
                done.add(1, LABELS)

        workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
        began = perf_counter()
        for item in range(jobs):
            with tracer.start_as_current_span("send orders", kind=SpanKind.PRODUCER, attributes=SPAN_ATTRIBUTES):
                carrier: dict[str, str] = {}
                propagate.inject(carrier)
                await queue.put((perf_counter(), carrier, item))
            sent.add(1, LABELS)
            depth.add(1, LABELS)
        await queue.join()
        took = perf_counter() - began
        await stop(workers)
    sdk.expect(job_wait=jobs, job_run=jobs, jobs_sent=jobs, jobs_done=jobs)
    return took / jobs


def encode(spans: int) -> float:
    """Return the seconds that the SDK's OTLP encoder takes for one span of the handwritten kind."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("by-hand")
    batch: list[ReadableSpan] = []
    for _ in range(spans):
        span = tracer.start_span("process orders", kind=SpanKind.CONSUMER, attributes=SPAN_ATTRIBUTES)
        span.end()
        assert isinstance(span, ReadableSpan)
        batch.append(span)
    began = perf_counter()
    encode_spans(batch).SerializeToString()
    return (perf_counter() - began) / spans
