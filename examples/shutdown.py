"""shutdown() on every Python: 3.13's own there, one that behaves the same on 3.11 and 3.12."""

import asyncio

from shown import configure, print_metrics

from otel_sched import Queue, QueueShutDown


async def worker(name: str, orders: Queue[int]) -> None:
    try:
        while True:
            order = await orders.get()
            await asyncio.sleep(0.01)
            print(name, "has done", order)
            orders.task_done()
    except QueueShutDown:
        print(name, "goes home")


async def main() -> None:
    gently: Queue[int] = Queue(name="gently")
    at_once: Queue[int] = Queue(name="at_once")
    for order in range(4):
        gently.put_nowait(order)
        at_once.put_nowait(order)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker("gentle worker", gently))
        gently.shutdown()  # puts are refused from now on, what waits is still handed out
        group.create_task(worker("interrupted worker", at_once))
        await asyncio.sleep(0.005)
        at_once.shutdown(immediate=True)  # what waits is cancelled, what runs goes on
    try:
        gently.put_nowait(5)
    except QueueShutDown:
        print("no more orders")
    for queue in (gently, at_once):
        print(queue.name, queue.stats().outcomes)
    print_metrics("otel_sched.jobs.cancelled")


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
