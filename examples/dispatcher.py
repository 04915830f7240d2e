"""A dispatcher takes every item and hands each to an asyncio task of its own, which calls task_done() in the end.

Each child inherits its item's job: its span, its log lines, and its end, in whatever order the children finish.
"""

import asyncio

from opentelemetry import trace
from shown import configure

from otel_sched import Queue, QueueShutDown, current_job

tracer = trace.get_tracer("shop")


async def handle(orders: Queue[int], order: int) -> None:
    job = current_job()
    try:
        with tracer.start_as_current_span(f"charge {order}"):  # a child of this order's job, not of another's
            await asyncio.sleep(0.03 / order)
        print(f"order {order} ran in the job of item {job.item if job else None}")
    finally:
        orders.task_done()


async def dispatch(orders: Queue[int]) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                order = await orders.get()
            except QueueShutDown:
                return
            group.create_task(handle(orders, order))


async def main() -> None:
    orders: Queue[int] = Queue(name="orders")
    for order in (1, 2, 3):
        orders.put_nowait(order)
    orders.shutdown()
    await asyncio.create_task(dispatch(orders))
    print("outcomes:", orders.stats().outcomes)


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
