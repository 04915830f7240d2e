"""What the producer knows, in the consumer: OpenTelemetry's baggage, or the producer's context variables."""

import asyncio
from contextvars import ContextVar

from opentelemetry import baggage, context
from shown import configure

from otel_sched import Queue, WorkerPool, current_job

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def produce(queue: Queue[int]) -> None:
    tenant.set("acme")
    context.attach(baggage.set_baggage("plan", "gold"))
    await queue.put(1)


async def consume(queue: Queue[int]) -> None:
    await queue.get()
    job = current_job()
    producer = job.producer_context if job is not None else None
    there = producer[tenant] if producer is not None else "not carried"
    print(f"{queue.name}: baggage plan={baggage.get_baggage('plan')}, the producer's tenant={there}")
    queue.task_done()


async def handle(item: int) -> None:
    """In a pool of a queue with carry="context" the handler runs with the producer's variables."""
    print(f"in the pool: tenant={tenant.get()}, plan={baggage.get_baggage('plan')}")


async def main() -> None:
    queues: list[Queue[int]] = [
        Queue(name="nothing"),
        Queue(name="baggage", carry="baggage"),
        Queue(name="context", carry="context"),
    ]
    for queue in queues:
        await asyncio.create_task(produce(queue))
        await asyncio.create_task(consume(queue))
    async with WorkerPool(queues[-1], handle, workers=1) as pool:
        await asyncio.create_task(produce(queues[-1]))
        await pool.join()


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
