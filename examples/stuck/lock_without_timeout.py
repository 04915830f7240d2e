"""Stuck 4: one job waits for ever for an answer while it holds a lock, and all others wait for the lock."""

import asyncio
import os
import signal
import sys
import threading

from bounded import run

from otel_sched import Queue, WorkerPool, diagnostics


class Client:
    """Talks to a partner with a token that is renewed now and then, by one job at a time."""

    def __init__(self, port: int, timeout: float | None) -> None:
        self._port = port
        self._timeout = timeout
        self._renewing = asyncio.Lock()
        self._uses_left = 0

    async def send(self, order: int) -> None:
        async with self._renewing:
            while not self._uses_left:
                try:
                    async with asyncio.timeout(self._timeout):
                        self._uses_left = await self._renew()
                except TimeoutError:
                    print("no token yet, once more")
            self._uses_left -= 1
        await asyncio.sleep(0.001)

    async def _renew(self) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            return int(await reader.readline())
        finally:
            writer.close()


async def main(cured: bool) -> None:
    connections = 0

    async def issuer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Issue tokens for 150 uses; accept the second connection, and forget it."""
        nonlocal connections
        connections += 1
        if connections == 2:
            await reader.read()  # until the client hangs up
        else:
            writer.write(b"150\n")
        writer.close()

    orders: Queue[int] = Queue(name="orders")
    diagnostics.start(dump_signal=signal.SIGUSR1, dump_file=sys.stdout)
    if not cured:
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGUSR1)).start()  # in a shell: kill -USR1 <pid>
    async with await asyncio.start_server(issuer, "127.0.0.1", 0) as server:
        client = Client(server.sockets[0].getsockname()[1], timeout=0.2 if cured else None)
        async with WorkerPool(orders, client.send, workers=3, grace=0) as pool:
            for order in range(200):
                orders.put_nowait(order)
            await pool.join()
            print("all orders are sent")


if __name__ == "__main__":
    run(main)
