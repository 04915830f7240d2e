"""PriorityQueue and LifoQueue: the same swap, the same telemetry, another order."""

import asyncio

from shown import configure

from otel_sched import LifoQueue, PriorityQueue


async def main() -> None:
    mails: PriorityQueue[tuple[int, str]] = PriorityQueue(name="mails")
    for mail in ((5, "newsletter"), (1, "password reset"), (3, "receipt")):
        mails.put_nowait(mail)
    undo: LifoQueue[str] = LifoQueue(name="undo")
    for step in ("type", "paste", "delete"):
        undo.put_nowait(step)
    await asyncio.sleep(0.01)
    print(f"{mails.qsize()} mails wait, the oldest for {mails.stats().oldest_age * 1000:.0f} ms")

    async def worker() -> None:
        while not mails.empty():
            print("mail:", await mails.get())
            mails.task_done()
        while not undo.empty():
            print("undo:", await undo.get())
            undo.task_done()

    await asyncio.create_task(worker())
    print("outcomes:", mails.stats().outcomes, undo.stats().outcomes)


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
