"""A consumer that takes n items, works on them together, and then calls task_done() n times: n spans, n outcomes.

`settle="task_done"` says that get() is not the end of the job before it. Without it the queue finds out by itself.
"""

import asyncio

from shown import configure

from otel_sched import Queue


async def insert_rows(rows: Queue[int], size: int) -> None:
    while True:
        batch = [await rows.get()]
        while len(batch) < size and not rows.empty():
            batch.append(rows.get_nowait())
        await asyncio.sleep(0.01)
        print("inserted", batch)
        for _ in batch:
            rows.task_done()


async def main() -> None:
    rows: Queue[int] = Queue(name="rows", settle="task_done")
    for row in range(6):
        rows.put_nowait(row)
    task = asyncio.create_task(insert_rows(rows, size=4))
    await rows.join()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print("outcomes:", rows.stats().outcomes)


if __name__ == "__main__":
    with configure():
        asyncio.run(main())
