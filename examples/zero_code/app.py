"""A plain asyncio program: two queues, three workers, the standard library's logging. It knows nothing of us.

Run it as it is, or observed: `opentelemetry-instrument --distro otel_sched python app.py`.
"""

import asyncio
import logging
import random
from dataclasses import dataclass, field

log = logging.getLogger("shop")


@dataclass
class Order:
    number: int
    amount: float


@dataclass
class Shop:
    """Orders are charged, and each customer gets a mail."""

    orders: asyncio.Queue[Order] = field(default_factory=asyncio.Queue)
    mail: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(maxsize=10))

    async def charge(self) -> None:
        while True:
            order = await self.orders.get()
            try:
                await asyncio.sleep(random.uniform(0.005, 0.02))
                if order.number % 7 == 0:
                    raise ConnectionError(f"the bank did not answer for order {order.number}")
                await self.mail.put(f"order {order.number}: {order.amount:.2f} paid")
            except ConnectionError:
                log.exception("order %d is not paid", order.number)
            finally:
                self.orders.task_done()

    async def send(self) -> None:
        while True:
            text = await self.mail.get()
            await asyncio.sleep(0.002)
            log.info("sent: %s", text)
            self.mail.task_done()


async def main() -> None:
    shop = Shop()
    workers = [asyncio.create_task(work()) for work in (shop.charge, shop.charge, shop.send)]
    for number in range(1, 21):
        await shop.orders.put(Order(number, random.uniform(5, 50)))
    await shop.orders.join()
    await shop.mail.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(main())
