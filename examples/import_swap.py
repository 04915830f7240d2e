"""Way in 1, the import swap: one import changed, the rest is the code as it was.

Where it said `from asyncio import Queue` it says `from otel_sched import Queue`.
"""

import asyncio

from opentelemetry import trace
from shown import configure, print_metrics

from otel_sched import Queue

tracer = trace.get_tracer("shop")


async def worker(orders: Queue[int]) -> None:
    while True:
        order = await orders.get()
        try:
            with tracer.start_as_current_span("charge"):  # a child of the job's span, which is current by now
                await asyncio.sleep(0.01)
            if order == 3:
                raise ConnectionError("the bank does not answer")
        except ConnectionError as error:
            trace.get_current_span().record_exception(error)  # or log it: either makes the job's outcome "error"
        finally:
            orders.task_done()


async def main() -> None:
    orders: Queue[int] = Queue(maxsize=10, name="orders")
    workers = [asyncio.create_task(worker(orders)) for _ in range(2)]
    for order in (1, 2, 3):
        with tracer.start_as_current_span("POST /orders"):
            await orders.put(order)
    await orders.join()
    for each in workers:
        each.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    stats = orders.stats()
    print(f"{stats.name}: put {stats.put}, finished {stats.finished}, outcomes {stats.outcomes}")
    print_metrics("otel_sched.jobs.finished", "otel_sched.job.run.duration")


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
