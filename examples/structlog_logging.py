"""structlog lines that carry trace and job, in a chain of processors of the application's own.

Where the application does not configure structlog itself, `configure()` does it, with the same two processors.
"""

import asyncio

import structlog
from shown import configure

from otel_sched import Queue, WorkerPool
from otel_sched.telemetry.structlog import OtlpProcessor, add_job_context

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        add_job_context,  # trace_id, span_id, trace_flags, queue, job_id, job_name, attempt
        OtlpProcessor(),  # every line to OpenTelemetry's log pipeline too
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=True),
    ]
)
log = structlog.get_logger()


async def charge(order: int) -> None:
    log.info("charging", order=order)
    await asyncio.sleep(0.01)


async def main() -> None:
    orders: Queue[int] = Queue(name="orders")
    log.info("outside of any job")
    async with WorkerPool(orders, charge, workers=1) as pool:
        await orders.put(17)
        await pool.join()


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
