"""Stuck 1: a client library that is not asynchronous stops all workers, not one."""

import asyncio
import http.client
import http.server
import threading
import time

from bounded import run

from otel_sched import Queue, WorkerPool, diagnostics


class SlowBank(http.server.BaseHTTPRequestHandler):
    """Somebody else's service, on a bad day."""

    def do_GET(self) -> None:
        time.sleep(0.5)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


bank = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowBank)


def ask_bank(order: int) -> int:
    """Do what a client library does; `requests` and most database drivers look no different."""
    connection = http.client.HTTPConnection("127.0.0.1", bank.server_port, timeout=10)
    try:
        connection.request("GET", f"/charge/{order}")
        return connection.getresponse().status
    finally:
        connection.close()


async def charge(order: int) -> None:
    ask_bank(order)


async def charge_cured(order: int) -> None:
    await asyncio.to_thread(ask_bank, order)


async def main(cured: bool) -> None:
    orders: Queue[int] = Queue(name="orders")
    diagnostics.start()
    began = time.monotonic()
    async with WorkerPool(orders, charge_cured if cured else charge, workers=4) as pool:
        for order in range(4):
            orders.put_nowait(order)
        await pool.join()
    print(f"4 orders, 4 workers, 0.5 s each: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    threading.Thread(target=bank.serve_forever, daemon=True).start()
    run(main)
