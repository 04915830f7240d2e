"""A million jobs through a pool, with many producers and workers: none lost, none twice, no memory kept."""

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter

from otel_sched import Queue, WorkerPool

from .residue import Residue
from .rounds import loop_factories
from .sdk import SAMPLERS, Sdk
from .tally import Auditor, Tally

PRODUCERS = 100
WORKERS = 100
MAXSIZE = 1000
WARM_UP = 10
"""One job in so many runs beforehand, so that what a process needs once is there before memory is compared."""


def main(jobs: int, loops: Sequence[str], telemetry: str) -> int:
    """Run each combination, print a line for each and the verdict; return the exit status."""
    kinds = ["off", "on"] if telemetry == "both" else [telemetry]
    complaints: list[str] = []
    print(f"{jobs} jobs, {PRODUCERS} producers, {WORKERS} workers; telemetry on: metrics and 1 % of spans\n")
    print(_row("loop", "telemetry", "jobs/s", "lost", "twice", "audits", "objects", "MB"))
    with _quiet():
        for loop in loops:
            for kind in kinds:
                complaints += [f"{loop}, telemetry {kind}: {each}" for each in soak(jobs, loop, telemetry=kind == "on")]
    missing = {"asyncio", "uvloop"} - set(loop_factories())
    print("".join(f"\n{name} is not installed: not run" for name in missing))
    print("\n".join(complaints) or "nothing lost, nothing twice, books balanced, memory back to where it was")
    return 1 if complaints else 0


def soak(jobs: int, loop: str, *, telemetry: bool) -> list[str]:
    """Send *jobs* through a pool on the event loop of that name, print the line, and return what was wrong."""
    _run(max(WORKERS, jobs // WARM_UP), loop, telemetry)
    tally = Tally(jobs)
    residue = Residue()
    seconds, auditor = _run(jobs, loop, telemetry, tally)
    residue.compare()
    numbers = (round(jobs / seconds), tally.lost, tally.twice, auditor.audits, residue.objects)
    print(_row(loop, "on" if telemetry else "off", *numbers, f"{residue.megabytes:.1f}"), flush=True)
    return [*tally.complaints(), *auditor.complaints, *residue.complaints(jobs)]


def _run(jobs: int, loop: str, telemetry: bool, tally: Tally | None = None) -> tuple[float, Auditor]:
    with asyncio.Runner(loop_factory=loop_factories()[loop]) as runner:
        return runner.run(_work(tally or Tally(jobs), telemetry))


async def _work(tally: Tally, telemetry: bool) -> tuple[float, Auditor]:
    """Return how long the jobs took, and the auditor of their queue's books, who has seen the end."""
    jobs = tally.jobs
    around: AbstractContextManager[Sdk | None] = Sdk(SAMPLERS["1pct"], fast=True) if telemetry else nullcontext()
    with around as sdk:
        observer = None if sdk is None else sdk.observer()
        queue: Queue[int] = Queue(MAXSIZE, name="soak", observer=observer)

        async def produce(first: int) -> None:
            for item in range(first, jobs, PRODUCERS):
                await queue.put(item)

        began = perf_counter()
        with Auditor(queue) as auditor:
            async with WorkerPool(queue, tally.handle, workers=WORKERS):
                await asyncio.gather(*(produce(first) for first in range(PRODUCERS)))
                await queue.join()
        took = perf_counter() - began
        auditor.close(tally)
    if sdk is not None:
        auditor.compare(sdk.counts, tally)
    return took, auditor


def _row(loop: object, telemetry: object, *numbers: object) -> str:
    return f"{loop:<9}{telemetry:<10}" + "".join(f"{number:>9}" for number in numbers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log lines of the jobs that are meant to fail off the terminal."""
    logger = logging.getLogger("otel_sched")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
        sys.stdout.flush()
