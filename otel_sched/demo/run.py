"""Floor 6: the run: puts the shop, the pipeline and the view together, and ends all of them in time."""

import asyncio
import json
import math
import os
import random
import sys
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TextIO

from .. import Telemetry, __version__, configure
from .board import Board
from .destination import NOWHERE, Destination, apply, choose
from .interrupts import Interrupts
from .lines import BOLD, FAINT, Line
from .logbook import Logbook
from .orders import Arrivals
from .output import Output, Paper, Screen, Silence, write
from .recorder import Recorder
from .shop import Shop
from .summary import export_lines, export_summary, queue_summary
from .trees import tree

GRACE = 5.0
"""Seconds that orders may take to get through once no more come in."""
EXPORT_TIME = 3.0
"""Seconds that the last export may take."""
SAMPLING = 0.1
"""Seconds between two looks at the queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    seconds: float | None = None
    """How long orders come in; None until somebody interrupts."""
    rate: float = 20.0
    seed: int | None = None
    plain: bool = False
    json: bool = False
    endpoint: str | None = None
    protocol: str | None = None


def run(wanted: Wanted, interrupts: Interrupts, stdout: TextIO) -> int:
    """Run the demo; return the exit code.

    It is 0, also after one Ctrl-C, 130 when a second one cut the end short, 1 when the summary could not be written.

    Raises ConfigurationError for an endpoint that is none, and the like.
    """
    destination = choose(wanted.endpoint, wanted.protocol, os.environ)
    apply(destination)
    output: Output
    if wanted.json:
        output = Silence()
        if not destination.shown:
            print(NOWHERE, file=sys.stderr)
    elif wanted.plain or not stdout.isatty():
        output = Paper(stdout, interrupts.request)
    else:
        output = Screen()
    recorder, logbook = Recorder(), Logbook()
    logbook.install()
    telemetry = configure(
        service_name=None if _service_is_named() else "otel-sched-demo",
        endpoint=destination.endpoint,
        protocol=destination.protocol,
        metric_interval=None if os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") else 5.0,
        span_processors=[recorder],
        log_processors=[recorder],
    )
    demo = Demo(wanted, destination, recorder, logbook, telemetry, output, interrupts)
    asyncio.run(demo.run())
    code = 130 if interrupts.count > 1 else 0
    if wanted.json:
        if not write(f"{json.dumps(demo.summary(), indent=2)}\n", stdout):
            code = 1
    else:
        output.report(demo.report())
    interrupts.ignore()
    return code


class Demo:
    """One run."""

    def __init__(
        self,
        wanted: Wanted,
        destination: Destination,
        recorder: Recorder,
        logbook: Logbook,
        telemetry: Telemetry,
        output: Output,
        interrupts: Interrupts,
    ) -> None:
        self._destination = destination
        self._recorder = recorder
        self._logbook = logbook
        self._telemetry = telemetry
        self._output = output
        self._interrupts = interrupts
        self._seed = random.randrange(10_000) if wanted.seed is None else wanted.seed
        seconds = math.inf if wanted.seconds is None else wanted.seconds
        self._seconds = seconds
        self._arrivals = Arrivals(rate=wanted.rate, seconds=seconds, seed=self._seed)
        self._shop = Shop(self._arrivals)
        self._board = Board(self._shop.queues, recorder)
        self._requests: set[asyncio.Task[None]] = set()
        self._accepted = 0
        self._ending = False
        self._complete = False
        self._started = time.monotonic()
        self._spent = 0.0

    async def run(self) -> None:
        """Let orders come in, let them get through, end everything. Takes at most a stated time more."""
        self._interrupts.bind()
        first, second = self._interrupts.first, self._interrupts.second
        self._logbook.told = self._output.line
        self._shop.open()
        screen: AbstractContextManager[Any] = self._output if isinstance(self._output, Screen) else nullcontext()
        with screen:
            view = asyncio.create_task(self._view())
            await until(self._come_in(), first)
            self._ending = True
            if isinstance(self._output, Screen):
                self._show()  # whoever pressed Ctrl-C wants to see that it was heard
            self._spent = time.monotonic() - self._started
            await until(self._get_through(), second, GRACE)
            await self._close()
            view.cancel()
            await asyncio.wait([view])
        if not view.cancelled():
            view.result()
        self._board.sample()
        self._logbook.close()
        await until(self._export(), second)
        self._interrupts.release()

    async def _come_in(self) -> None:
        """Start a request for every order, at its time."""
        for at, order in self._arrivals:
            delay = self._started + at - time.monotonic()
            await asyncio.sleep(max(0.0, delay))
            if delay < -1.0 and time.monotonic() - self._started > self._seconds:
                return  # the machine cannot keep up
            request = asyncio.create_task(self._shop.request(order))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            self._accepted += 1
        await asyncio.sleep(max(0.0, self._started + self._seconds - time.monotonic()))

    async def _get_through(self) -> None:
        """Return when every customer and every order is served."""
        if self._requests:
            await asyncio.wait(set(self._requests))
        await self._shop.join()

    async def _close(self) -> None:
        requests = set(self._requests)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await self._shop.close()

    async def _export(self) -> None:
        self._complete = await self._telemetry.shutdown(EXPORT_TIME)

    async def _view(self) -> None:
        """Look at the queues several times a second, and show them as often as the output wants."""
        self._board.sample()
        due = time.monotonic() + self._output.interval
        while True:
            if time.monotonic() >= due:
                self._show()
                due += self._output.interval
            await asyncio.sleep(SAMPLING)
            self._board.sample()

    def _show(self) -> None:
        self._output.update(self._now(), self._trees(), self._logbook.tail)

    def _now(self) -> list[Line]:
        """Return the head of the view."""
        spent = time.monotonic() - self._started
        if self._ending:
            state = f"ending: {self._board.open_jobs} jobs to go, Ctrl-C again to cut it short"
        elif self._seconds < math.inf:
            state = f"{spent:.0f} of {self._seconds:g} s, Ctrl-C to end"
        else:
            state = f"{spent:.0f} s, Ctrl-C to end"
        title: Line = [("otel-sched demo", BOLD), (f"  {self._arrivals.rate:g} orders/s  {state}", "")]
        where = f"exporting to {self._destination.shown}" if self._destination.shown else NOWHERE
        return [title, [(where, FAINT)], [], *self._board.lines()]

    def _trees(self) -> list[list[Line]]:
        """Return the failed and the slowest job's order as trees."""
        stories = self._recorder.stories
        width = self._output.width
        failed, slowest = stories.failed(), stories.slowest()
        trees = [] if failed is None else [tree("failed", failed, width)]
        return trees if slowest is None else [*trees, tree("slowest", slowest, width)]

    def report(self) -> list[Line]:
        """Return what is printed at the end."""
        title: Line = [("otel-sched demo", BOLD), (f"  {self._accepted} orders in {self._spent:.1f} s", "")]
        title.append((f"  (--seed {self._seed})", FAINT))
        trees = [line for each in self._trees() for line in ([], *each)]
        exported = export_lines(self._recorder, self._exported())
        return [title, [], *self._board.lines(), *self._board.backlog(), *trees, [], *exported]

    def summary(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "version": __version__,
            "seconds": round(self._spent, 3),
            "rate": self._arrivals.rate,
            "seed": self._seed,
            "interrupted": self._interrupts.count > 0,
            "orders": self._accepted,
            "queues": {
                queue.ledger.name: queue_summary(queue, self._recorder, self._board) for queue in self._shop.queues
            },
            "spans": self._recorder.spans,
            "log_records": self._recorder.log_records,
            "export": self._exported(),
        }

    def _exported(self) -> dict[str, Any]:
        return export_summary(self._telemetry.stats(), self._destination, self._complete)


async def until(work: Coroutine[Any, Any, None], stop: asyncio.Event, timeout: float | None = None) -> None:
    """Run *work* to its end, but no longer than until *stop* is set or *timeout* seconds have passed."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for each in (task, stopped):
        each.cancel()
    await asyncio.wait([task, stopped])
    if not task.cancelled():
        task.result()


def _service_is_named() -> bool:
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
