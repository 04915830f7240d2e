"""An application that sets up its own OpenTelemetry SDK needs no configure(): its global providers are used.

Providers can be passed to one queue as well, through an `OtelObserver`.
"""

import asyncio

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sched import OtelObserver, Queue, WorkerPool


def provider_into(spans: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


async def handle(item: str) -> None:
    await asyncio.sleep(0.005)


async def main() -> None:
    early: Queue[str] = Queue(name="early")  # made before there is an SDK: observed from the first put after it

    everything, audited, reader = InMemorySpanExporter(), InMemorySpanExporter(), InMemoryMetricReader()
    trace.set_tracer_provider(provider_into(everything))
    metrics.set_meter_provider(MeterProvider([reader]))

    audit: Queue[str] = Queue(name="audit", observer=OtelObserver(tracer_provider=provider_into(audited)))
    for queue in (early, audit):
        async with WorkerPool(queue, handle, workers=1) as pool:
            await queue.put("an item")
            await pool.join()
    print("global provider:", [span.name for span in everything.get_finished_spans()])
    print("passed provider:", [span.name for span in audited.get_finished_spans()])
    data = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics if data is not None else []
    print("metrics:", sorted(metric.name for scope in found for metric in scope.metrics)[:3], "and more")


if __name__ == "__main__":
    asyncio.run(main())
