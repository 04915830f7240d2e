"""Health over HTTP: probes that answer while the event loop hangs, and numbers for an autoscaler."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from otel_sched import Queue, WorkerPool
from otel_sched.health import HealthApp, HealthServer, Objective


def ask(server: HealthServer, path: str) -> tuple[int, Any]:
    """Ask as a probe does, from outside of the event loop."""
    try:
        with urllib.request.urlopen(server.url + path, timeout=2) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def show(server: HealthServer, path: str) -> None:
    """Print the status of an answer, and the reasons that it gives."""
    status, body = ask(server, path)
    print(path, status, *body["reasons"])


def probe(server: HealthServer, seconds: float) -> None:
    """Ask /livez again and again, and print each status that is another than the one before."""
    began, last = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        status, body = ask(server, "/livez")
        if status != last:
            print("/livez", status, *(reason.partition(" for ")[0] for reason in body["reasons"]))
        last = status
        time.sleep(0.1)


async def charge(order: int) -> None:
    """Handle one order; number 1 blocks the event loop, as it should not."""
    if order == 1:
        time.sleep(2)  # noqa: ASYNC251
    await asyncio.sleep(0.1)


async def main() -> None:
    app = HealthApp(objectives={"orders": Objective(oldest_age=0.5)})
    database_is_up = threading.Event()
    app.add_check("database", database_is_up.is_set, cache=0)
    orders: Queue[int] = Queue(name="orders")
    async with HealthServer(app, port=0) as server:  # in Kubernetes: host="0.0.0.0", port=8081
        await asyncio.to_thread(show, server, "/startupz")
        await asyncio.to_thread(show, server, "/readyz")
        database_is_up.set()
        await asyncio.to_thread(show, server, "/readyz")
        async with WorkerPool(orders, charge, workers=1):
            for order in range(12):
                orders.put_nowait(order)
            await asyncio.to_thread(probe, server, 2.3)
            await asyncio.to_thread(show, server, "/readyz")
            _, numbers = await asyncio.to_thread(ask, server, "/scale?queue=orders")
            print("/scale", {key: numbers[key] for key in ("size", "active", "workers", "utilization")})
        await asyncio.to_thread(show, server, "/readyz")


if __name__ == "__main__":
    asyncio.run(main())
