"""No swap at all: `watch()` observes a queue object that exists already, here one that somebody else's class makes."""

import asyncio

from shown import configure

from otel_sched import unwatch, watch


class Mailer:
    """Code that nobody wants to touch."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        while True:
            text = await self.outbox.get()
            await asyncio.sleep(0.005)
            print("sent:", text)
            self.outbox.task_done()


async def main() -> None:
    mailer = Mailer()
    mailer.outbox.put_nowait("put before it was watched")
    queue = watch(mailer.outbox, name="mails")
    print("the same object:", queue is mailer.outbox, "- still an asyncio.Queue:", isinstance(queue, asyncio.Queue))
    task = asyncio.create_task(mailer.run())
    queue.put_nowait("put while it is watched")
    await queue.join()
    unwatch(queue)
    print("unwatched, a plain queue again:", type(queue) is asyncio.Queue)
    queue.put_nowait("nobody watches this one")
    await queue.join()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
