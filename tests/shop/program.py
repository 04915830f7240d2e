"""The shop as a program; `launch.run` starts it. Its arguments: endpoint, protocol, event loop, service name."""

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import structlog
from opentelemetry import baggage, context, trace

import otel_sched
from tests.shop.plan import BUCKETS, CAPACITY, GROUP, JOBS, OUTSIDE, WORKERS, numbered, put, tenant

tracer = trace.get_tracer("shop")
lines = logging.getLogger("shop")
events = structlog.get_logger()


def main() -> None:
    """Run the shop; the last line of standard output is its report in JSON, those before it are its log."""
    endpoint, protocol, loop, service = sys.argv[1:]
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    telemetry = otel_sched.configure(service_name=service, endpoint=endpoint, protocol=protocol)
    with asyncio.Runner(loop_factory=factory) as runner:
        report = runner.run(Shop().open(telemetry))
    print(json.dumps(report))


@contextmanager
def span_for(number: int, name: str) -> Iterator[None]:
    """Be in a span of the application, with a tenant in the baggage."""
    token = context.attach(baggage.set_baggage("tenant", tenant(number)))
    try:
        with tracer.start_as_current_span(name, attributes={"shop.first": number}):
            yield
    finally:
        context.detach(token)


@otel_sched.instrument
async def charge(kind: str, number: int) -> None:
    """Work on an order as its kind says."""
    if kind == "ok":
        (lines.info if number % 2 else events.info)(f"charged {number}")
    elif kind == "logged":
        raise ValueError(f"order {number} has no address")
    elif kind == "error":
        raise RuntimeError(f"order {number} broke the till")
    elif kind == "timeout":
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    else:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)


@otel_sched.instrument(name="answer")
async def reply(number: int) -> int:
    """Answer a request; its queue cannot see this."""
    return number


async def pay(job: tuple[str, int, int]) -> None:
    """Handle a payment as its kind says."""
    kind, number, order = job
    if kind == "ok":
        who = str(baggage.get_baggage("tenant"))
        with tracer.start_as_current_span("ledger", attributes={"shop.order": order, "shop.tenant": who}):
            lines.info("paid %d", number, extra={"amount": number * 0.5})
    elif kind == "error":
        raise ValueError(f"payment {number} is not covered")
    elif kind == "timeout":
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    elif kind == "cancelled":
        raise asyncio.CancelledError
    else:
        await asyncio.sleep(60)


async def render(job: tuple[int, int, str]) -> None:
    """Render a report."""
    _, number, kind = job
    if kind == "error":
        raise ZeroDivisionError(f"report {number} has no rows")


class Shop:
    """The queues and what happens on them."""

    def __init__(self) -> None:
        self.orders = otel_sched.Queue[tuple[str, int]](CAPACITY["orders"], name="orders", carry="baggage")
        self.payments = otel_sched.Queue[tuple[str, int, int]](name="payments", carry="baggage")
        self.reports = otel_sched.PriorityQueue[tuple[int, int, str]](
            name="reports", correlation="link", buckets=BUCKETS
        )
        self.replies = otel_sched.Queue[int](name="replies")
        self.closing = otel_sched.LifoQueue[int](name="closing")
        self.left = otel_sched.Queue[str](CAPACITY["left"], name="left")
        self.bills = iter(numbered("payments"))
        self.seen: Counter[str] = Counter()

    async def open(self, telemetry: otel_sched.Telemetry) -> dict[str, Any]:
        """Run the whole day, export it, and return what happened."""
        lines.info("opened")
        holders = await self.leave_some()
        async with otel_sched.WorkerPool(self.payments, pay, workers=WORKERS["payments"], grace=0.05):
            async with otel_sched.WorkerPool(self.reports, render, workers=WORKERS["reports"], name="printers"):
                requests = (self.request(number) for number in range(put("replies")))
                await asyncio.gather(self.take_orders(), self.order_reports(), *requests)
                await telemetry.flush(20.0)  # one export at least while both pools run
            while self.payments.stats().finished < put("payments") - JOBS["payments"]["hung"]:
                await asyncio.sleep(0.01)
        queues = (self.orders, self.payments, self.reports, self.replies, self.closing, self.left)
        stats = {queue.name: asdict(queue.stats()) for queue in queues}
        flushed = await telemetry.flush(20.0)
        complete = await telemetry.shutdown(20.0)
        del holders
        return {
            "flushed": flushed,
            "complete": complete,
            "queues": stats,
            "seen": self.seen,
            "exported": {each.signal: asdict(each) for each in telemetry.stats()},
        }

    async def take_orders(self) -> None:
        """Put all orders, a group in one span, and have them handled by consumers of the plain kind."""
        # A cancelled job takes its consumer along.
        consumers = [asyncio.create_task(self.consume()) for _ in range(4 + JOBS["orders"]["cancelled"])]
        jobs = numbered("orders")
        await asyncio.gather(*(self.check_out(jobs[first : first + GROUP]) for first in range(0, len(jobs), GROUP)))
        await self.orders.join()
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)

    async def check_out(self, jobs: list[tuple[str, int]]) -> None:
        inside = [job for job in jobs if job[1] % OUTSIDE]
        with span_for(jobs[0][1], "checkout"):
            for job in inside:
                await self.orders.put(job)
        for job in jobs:
            if job not in inside:
                await self.orders.put(job)

    async def consume(self) -> None:
        """Take orders until cancelled, as programs do: some failures are logged, some just passed on."""
        while True:
            with suppress(RuntimeError, TimeoutError):
                kind, number = await self.orders.get()
                try:
                    await charge(kind, number)
                    bill, its_number = next(self.bills)
                    await self.payments.put((bill, its_number, number))
                except ValueError:
                    write = lines.exception if number % 2 else events.exception
                    write(f"refused {number}")
                finally:
                    self.seen[kind] += 1
                    self.orders.task_done()

    async def order_reports(self) -> None:
        jobs = numbered("reports")
        for first in range(0, len(jobs), GROUP):
            with span_for(first, "checkout"):
                for kind, number in jobs[first : first + GROUP]:
                    await self.reports.put((number % 5, number, kind))

    async def request(self, number: int) -> None:
        """Wait for a reply inside a span that a queue must not cover with its own."""
        with span_for(number, "request"):
            self.replies.put_nowait(number)
            await reply(await self.replies.get())
            self.replies.task_done()

    async def leave_some(self) -> list[asyncio.Task[str]]:
        """Shut one queue down with jobs in it; leave another with jobs active, thrown out and waiting."""

        async def hold() -> str:
            item = await self.left.get()
            await asyncio.Event().wait()
            return item

        with span_for(0, "closing time"):
            for number in range(put("closing")):
                self.closing.put_nowait(number)
            for kind in ("active", "cleared"):
                for _ in range(JOBS["left"][kind]):
                    self.left.put_nowait(kind)
        holders = [asyncio.create_task(hold()) for _ in range(JOBS["left"]["active"])]
        await asyncio.sleep(0)
        self.left._queue.clear()
        with span_for(0, "closing time"):
            for _ in range(JOBS["left"]["waiting"]):
                self.left.put_nowait("waiting")
        self.closing.shutdown(immediate=True)
        return holders
