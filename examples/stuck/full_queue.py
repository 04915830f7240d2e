"""Stuck 3: consumers that put follow-up jobs into their own bounded queue wait for room that only they could make."""

import asyncio

from bounded import run

from otel_sched import Queue, WorkerPool, diagnostics

DEPTH = 4


async def main(cured: bool) -> None:
    pages: Queue[str] = Queue(name="pages", maxsize=0 if cured else 8)
    diagnostics.start(patience=1.0)
    visited = 0

    async def visit(page: str) -> None:
        nonlocal visited
        await asyncio.sleep(0.01)
        visited += 1
        if page.count("/") < DEPTH:
            for link in ("a", "b", "c"):
                await pages.put(f"{page}/{link}")

    async with WorkerPool(pages, visit, workers=3, grace=0) as pool:
        await pages.put("shop")
        await pool.join()
    print("visited all", visited, "pages")


if __name__ == "__main__":
    run(main)
