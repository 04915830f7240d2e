"""Way in 2, the wrapped worker: `@instrument` gives each call of a coroutine function a span.

In a running job it is a child of the job's span. Where get() was called inside a span of the application's own, the
job has no span, for that trace is not to be captured: the next call is taken for the job's run and gets its process
span, linked to whoever queued the item.
"""

import asyncio

from opentelemetry import trace
from shown import configure

from otel_sched import Queue, instrument

tracer = trace.get_tracer("shop")


@instrument
async def resize(image: str, *, width: int = 800) -> str:
    """Do the work; the signature stays as it is for callers and type checkers."""
    await asyncio.sleep(0.01)
    return f"{image}@{width}"


async def worker(images: Queue[str]) -> None:
    image = await images.get()
    print("in a job:", await resize(image))
    images.task_done()


async def session(images: Queue[str]) -> None:
    with tracer.start_as_current_span("session"):
        image = await images.get()
        print("in a span of its own:", await resize(image, width=100))
        images.task_done()


async def main() -> None:
    images: Queue[str] = Queue(name="images")
    for consumer in (worker, session):
        with tracer.start_as_current_span("upload"):
            await images.put("cat.png")
        await asyncio.create_task(consumer(images))
    print("outcomes:", images.stats().outcomes)


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
