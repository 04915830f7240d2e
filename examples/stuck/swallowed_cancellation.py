"""Stuck 5: a retry that catches everything catches its own cancellation, so that the program does not end."""

import asyncio
import os
import signal

from bounded import run

from otel_sched import Queue, diagnostics


async def send(mail: str) -> None:
    await asyncio.sleep(0.2)


async def worker(mails: Queue[str], retried: type[BaseException]) -> None:
    while True:
        mail = await mails.get()
        while True:
            try:
                await send(mail)
                break
            except retried:  # "whatever it is, try again"
                await asyncio.sleep(0.05)
        mails.task_done()


async def main(cured: bool) -> None:
    mails: Queue[str] = Queue(name="mails")
    diagnostics.start(patience=1.0)
    retried = Exception if cured else BaseException
    workers = [asyncio.create_task(worker(mails, retried), name=f"mailer-{number}") for number in range(2)]
    for number in range(8):
        mails.put_nowait(f"mail {number}")
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)  # a deployment, say
    await stop.wait()
    print("SIGTERM: going down")
    for each in workers:
        each.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print("down")


if __name__ == "__main__":
    run(main)
