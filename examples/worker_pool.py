"""Way in 2, a pool: N workers that pull jobs when they are free, and that no exception stops."""

import asyncio
import logging

from shown import configure

from otel_sched import Queue, WorkerPool

log = logging.getLogger("shop")


async def charge(order: int) -> None:
    """Handle one order; what it raises ends this job and nothing else."""
    log.info("charging order %d", order)
    await asyncio.sleep(30 if order == 7 else 0.01)
    if order == 3:
        raise ValueError("the card has expired")
    if order == 4:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)


async def main() -> None:
    orders: Queue[int] = Queue(name="orders")
    async with WorkerPool(orders, charge, workers=2, grace=0.1) as pool:
        for order in range(1, 7):
            await orders.put(order)
        pool.resize(4)
        await pool.join()
        print("joined:", orders.stats().outcomes, "-", pool.stats())
        await orders.put(7)  # takes longer than the grace: leaving the block cancels it and says so
        await asyncio.sleep(0.01)
    print("left:", orders.stats().outcomes)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s [trace_id=%(trace_id)s job_id=%(job_id)s]", level="INFO")
    with configure():
        asyncio.run(main())
