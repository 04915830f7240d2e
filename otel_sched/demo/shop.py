"""Floor 6: the application: orders, payments and mails, each a queue with its workers. What users would write.

Three ways to have a queue observed: `orders` is a bounded Queue with a worker loop of its own, `payments` a
PriorityQueue under a WorkerPool, `mails` an asyncio.Queue that is watched, in traces of its own.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from .. import PriorityQueue, Queue, WorkerPool, instrument, watch
from .._core.observed import Observed
from .orders import PAYMENT_TIMEOUT, Arrivals, Fate, Order

log = structlog.get_logger("shop")
tracer = trace.get_tracer("otel_sched.demo")


class SoldOut(Exception):
    """Nothing is left of what was ordered."""


class CardDeclined(Exception):
    """The bank said no."""


class MailBounced(Exception):
    """The customer's mail server said no."""


@dataclass(order=True, slots=True)
class Payment:
    """An order to be charged; the urgent ones first."""

    rank: tuple[bool, int]
    order: Order = field(compare=False)


@instrument
async def reserve(order: Order) -> None:
    """Take the goods off the shelf."""
    await asyncio.sleep(order.reserve)
    if order.fate is Fate.SOLD_OUT:
        raise SoldOut(f"order {order.number}: nothing left")


@instrument
async def send(order: Order) -> None:
    """Send the mail that says thank you."""
    await asyncio.sleep(order.mail)
    if order.fate is Fate.BOUNCED:
        raise MailBounced(f"no such mailbox at {order.tenant}")


async def provider(order: Order) -> None:
    """The payment provider, somewhere else."""
    await asyncio.sleep(3600.0 if math.isinf(order.charge) else order.charge)
    if order.fate is Fate.DECLINED:
        raise CardDeclined(f"order {order.number}: card declined")


class Shop:
    """The queues and those who work on them."""

    def __init__(self, arrivals: Arrivals) -> None:
        """Make a shop whose workers keep up with the steady stream of *arrivals*, but not with a burst."""
        rate = arrivals.rate
        self.orders: Queue[Order] = Queue(maxsize=max(4, arrivals.burst // 3), name="orders")
        self.payments: PriorityQueue[Payment] = PriorityQueue(name="payments")
        self.mails: Observed[Order] = watch(asyncio.Queue(), name="mails", correlation="link")
        self.pool = WorkerPool(self.payments, self.charge, workers=_workers(0.13 * rate, spare=1.6), grace=0.0)
        self._clerks = _workers(0.02 * rate, spare=5.0)
        self._mailers = _workers(0.04 * rate, spare=3.0)
        self._workers: set[asyncio.Task[None]] = set()
        self._open = True

    @property
    def queues(self) -> tuple[Observed[Any], ...]:
        """The three queues, in the order in which an order passes them."""
        return self.orders, self.payments, self.mails

    def open(self) -> None:
        """Start the workers."""
        for n in range(self._clerks):
            self._start(self.take_orders, f"orders-{n}")
        self.pool.start()
        for n in range(self._mailers):
            self._start(self.send_mails, f"mails-{n}")

    async def request(self, order: Order) -> None:
        """Take an order as a web server would; while the queue of orders is full the customer waits."""
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.route": order.endpoint.partition(" ")[2],
            "shop.tenant": order.tenant,
            "shop.order": order.number,
        }
        with tracer.start_as_current_span(order.endpoint, kind=SpanKind.SERVER, attributes=attributes) as span:
            await self.orders.put(order)
            span.set_attribute("http.response.status_code", 202)
            log.info("order accepted", order=order.number, tenant=order.tenant)

    async def take_orders(self) -> None:
        """Work on orders; a failure is logged and swallowed, as most workers do."""
        while True:
            order = await self.orders.get()
            try:
                if order.fate is Fate.RESTARTED:
                    _cancel_later(asyncio.current_task(), order.reserve / 2)
                await reserve(order)
                await self.payments.put(Payment((not order.urgent, order.number), order))
            except SoldOut:
                log.exception("order rejected", order=order.number, tenant=order.tenant)
            finally:
                self.orders.task_done()

    async def charge(self, payment: Payment) -> None:
        """Charge one order: what a pool's worker does; whatever it raises is the job's outcome."""
        order = payment.order
        async with asyncio.timeout(PAYMENT_TIMEOUT):
            with tracer.start_as_current_span("charge card", kind=SpanKind.CLIENT):
                paying = asyncio.create_task(provider(order))
                if order.fate is Fate.WITHDRAWN:
                    _cancel_later(paying, order.charge / 2)
                await paying
        log.info("order paid", order=order.number, tenant=order.tenant)
        await self.mails.put(order)

    async def send_mails(self) -> None:
        """Send mails, one after the other."""
        while True:
            order = await self.mails.get()
            try:
                await send(order)
                log.info("mail sent", order=order.number, tenant=order.tenant)
            except MailBounced:
                log.exception("mail bounced", order=order.number, tenant=order.tenant)
            finally:
                self.mails.task_done()

    async def join(self) -> None:
        """Return when every order is through."""
        for queue in self.queues:
            await queue.join()

    async def close(self) -> None:
        """End at once: cancel what runs, and what waits where the queue can be shut down."""
        self._open = False
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self.pool.stop()
        self.orders.shutdown(immediate=True)
        self.payments.shutdown(immediate=True)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        worker = asyncio.create_task(work(), name=name)
        self._workers.add(worker)
        worker.add_done_callback(partial(self._ended, work, name))

    def _ended(self, work: Callable[[], Coroutine[Any, Any, None]], name: str, worker: "asyncio.Task[None]") -> None:
        """Start a worker again that was restarted; one that died of a bug stays dead, and asyncio says so."""
        self._workers.discard(worker)
        if self._open and worker.cancelled():
            log.warning("worker restarted", worker=name)
            self._start(work, name)


def _cancel_later(task: "asyncio.Task[Any] | None", delay: float) -> None:
    assert task is not None
    asyncio.get_running_loop().call_later(delay, task.cancel)


def _workers(busy: float, *, spare: float) -> int:
    """Return how many workers it takes when *busy* of them would be at work all the time."""
    return max(2, math.ceil(busy * spare))
