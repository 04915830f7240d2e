"""The standard library's logging: a filter puts trace and job on every line, a handler sends lines over OTLP.

The worker is the commonest of all: it logs its exception and swallows it. The job's outcome is "error" all the same.
"""

import asyncio
import logging

from shown import configure

from otel_sched import Queue

log = logging.getLogger("shop")


async def worker(orders: Queue[int]) -> None:
    while True:
        order = await orders.get()
        try:
            log.info("charging order %d", order)
            await asyncio.sleep(0.01)
            if order == 2:
                raise ConnectionError("the bank does not answer")
        except Exception:
            log.exception("order %d is not paid", order)
        finally:
            orders.task_done()


async def main() -> None:
    orders: Queue[int] = Queue(name="orders")
    task = asyncio.create_task(worker(orders))
    for order in (1, 2):
        orders.put_nowait(order)
    await orders.join()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print("outcomes:", orders.stats().outcomes)


if __name__ == "__main__":
    # The application's own format first. configure() then puts a JobFilter on this handler, which fills the fields in,
    # and an OtlpHandler on the root logger.
    form = "%(levelname)s %(message)s queue=%(queue)s job_id=%(job_id)s trace_id=%(trace_id)s"
    logging.basicConfig(format=form, level=logging.INFO)
    with configure():
        asyncio.run(main())
