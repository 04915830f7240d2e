"""Stuck 2: an exception ends the consumers one by one and skips task_done(), so that join() never returns."""

import asyncio
import logging

from bounded import run

from otel_sched import Queue, diagnostics

log = logging.getLogger("shop")


async def send(invoice: str) -> None:
    await asyncio.sleep(0.05)
    if "@" not in invoice:
        raise ValueError(f"no address: {invoice!r}")


async def worker(invoices: Queue[str]) -> None:
    """Do it as the example in asyncio's documentation does."""
    while True:
        invoice = await invoices.get()
        await send(invoice)
        invoices.task_done()


async def worker_cured(invoices: Queue[str]) -> None:
    while True:
        invoice = await invoices.get()
        try:
            await send(invoice)
        except Exception as error:
            log.error("not sent: %s", error)
        finally:
            invoices.task_done()


async def main(cured: bool) -> None:
    invoices: Queue[str] = Queue(name="invoices")
    diagnostics.start(patience=1.0)
    work = worker_cured if cured else worker
    workers = [asyncio.create_task(work(invoices), name=f"worker-{number}") for number in range(2)]
    for invoice in ("ann@example.org", "bob", "carl@example.org", "dora", "emma@example.org", "fred@example.org"):
        invoices.put_nowait(invoice)
    await invoices.join()
    print("every invoice was tried")
    for each in workers:
        each.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


if __name__ == "__main__":
    run(main)
