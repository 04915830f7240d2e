"""Programs of queues, producers and handlers that are data, so that chance can write them and both paths run them.

All times are whole 64ths of a virtual second: sums of such are exact, so that two runs have the same times to the bit.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState

from otel_sched import LifoQueue, OtelObserver, PriorityQueue, Queue, WorkerPool, current_job, instrument, watch
from tests.support.both_paths import PathTelemetry
from tests.support.compare import Renamed, span_of

TICK = 1 / 64
LONG = 64.0
"""Virtual seconds after which all is done that will ever be."""

Step = tuple[str, Any]


class Boom(Exception):
    """What goes wrong in these programs."""


class Unspeakable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")


def error(kind: str) -> BaseException:
    """Return a new exception of that kind."""
    made = {"boom": Boom("no money"), "mute": Boom(), "unspeakable": Unspeakable(), "key": KeyError("k")}
    return made.get(kind) or {"timeout": TimeoutError(), "cancelled": asyncio.CancelledError()}[kind]


@dataclass(frozen=True)
class Line:
    """One queue and who consumes it."""

    kind: str = "fifo"
    consumer: str = "done"
    workers: int = 1
    maxsize: int = 0
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Put:
    """One producer: when, inside what, into which queue, and what the handlers of its items do."""

    items: tuple[tuple[Step, ...], ...]
    line: int = 0
    delay: int = 0
    inside: str = "recording"


@dataclass(frozen=True)
class Program:
    """A whole program."""

    lines: tuple[Line, ...]
    puts: tuple[Put, ...]


@dataclass(order=True)
class Item:
    """What is put into queues; in the order of its number."""

    number: int
    steps: tuple[Step, ...] = field(compare=False)


class Running:
    """One program at work."""

    def __init__(self, program: Program, telemetry: PathTelemetry, names: Renamed, clock: Any) -> None:
        self.telemetry = telemetry
        self.names = names
        self.seen: list[Any] = []
        """What user code could see of the telemetry, as it went on."""
        self.tracer = telemetry.tracer_provider.get_tracer("application")
        self.logger = logging.getLogger("application.programs")
        self.observer = OtelObserver(**telemetry.providers)
        self.program = program
        self.queues = [self._queue(index, line, clock) for index, line in enumerate(program.lines)]
        self.held: list[Any] = []
        self.lingering: list[asyncio.Task[Any]] = []
        self.items = 0
        self.over = False
        self.call = instrument(self._called, observer=self.observer)

    def _queue(self, index: int, line: Line, clock: Any) -> Any:
        told: Any = {"name": f"line {index}", "observer": self.observer, "clock": clock, **dict(line.options)}
        if line.kind == "watched":
            return watch(asyncio.Queue[Any](line.maxsize), **told)
        if line.kind == "watched priority":
            return watch(asyncio.PriorityQueue[Any](line.maxsize), **told)
        return {"fifo": Queue, "lifo": LifoQueue, "priority": PriorityQueue}[line.kind](line.maxsize, **told)

    async def main(self) -> None:
        """Run it until nothing can happen any more."""
        pools, tasks = [], []
        for index, line in enumerate(self.program.lines):
            if line.consumer == "pool":
                pool: Any = WorkerPool(self.queues[index], self.handle, workers=line.workers)
                pool.start()
                pools.append(pool)
            else:
                consume = getattr(self, f"_{line.consumer}")
                tasks += [asyncio.create_task(consume(self.queues[index])) for _ in range(line.workers)]
        producers = [asyncio.create_task(self._produce(each)) for each in self.program.puts]
        await asyncio.sleep(LONG)
        self.over = True
        for task in (*producers, *tasks, *self.lingering):
            task.cancel()
        await asyncio.gather(*producers, *tasks, *self.lingering, return_exceptions=True)
        for pool in pools:
            await pool.stop(grace=1)
        for span in self.held:
            span.set_attribute("too", "late")
            self.look(span)

    def new(self, steps: tuple[Step, ...]) -> Item:
        """Return an item of these steps."""
        self.items += 1
        return Item(self.items, steps)

    async def _produce(self, put: Put) -> None:
        await asyncio.sleep(put.delay * TICK)
        around = self._around(put.inside)
        if around is None:
            await self._put_all(put)
            return
        with trace.use_span(around, end_on_exit=put.inside == "recording"):
            if put.inside == "baggage":
                context.attach(baggage.set_baggage("plan", "gold"))
            await self._put_all(put)

    async def _put_all(self, put: Put) -> None:
        for steps in put.items:
            await self.queues[put.line].put(self.new(steps))

    def _around(self, inside: str) -> Any:
        """Return the span that a producer is in."""
        if inside == "none":
            return None
        if inside.startswith("remote"):
            flags = TraceFlags(3 if "random" in inside else 1) if "sampled" in inside else TraceFlags(0)
            state = TraceState([("vendor", "1")]) if "state" in inside else TraceState()
            return NonRecordingSpan(SpanContext(0x1234 << 64 | 0x77, 0x5678, True, flags, state))
        span = self.tracer.start_span("request")
        if inside == "ended":
            span.end()
        return span

    # Consumers

    async def _done(self, queue: Any) -> None:
        while True:
            item = await queue.get()
            try:
                try:
                    await self.handle(item)
                finally:
                    queue.task_done()
            except (Exception, asyncio.CancelledError) as wrong:
                self.look_error(wrong)
                if self.over or any(step[0] == "leave" for step in item.steps):
                    raise

    async def _forgetful(self, queue: Any) -> None:
        while True:
            item = await queue.get()
            try:
                await self.handle(item)
            except (Exception, asyncio.CancelledError) as wrong:
                self.look_error(wrong)
                if self.over:
                    raise

    async def _swallow(self, queue: Any) -> None:
        while True:
            item = await queue.get()
            try:
                await self.handle(item)
            except Exception:
                self.logger.exception("swallowed")
            finally:
                queue.task_done()

    async def _inside(self, queue: Any) -> None:
        with self.tracer.start_as_current_span("life"):
            await self._done(queue)

    async def _dispatch(self, queue: Any) -> None:
        async def child(item: Item) -> None:
            try:
                await self.handle(item)
            finally:
                queue.task_done()

        while True:
            self.lingering.append(asyncio.create_task(child(await queue.get())))

    async def _waiter(self, queue: Any) -> None:
        while True:
            item = await asyncio.create_task(queue.get())
            self.look(trace.get_current_span())
            await self.call(item)
            queue.task_done()

    async def _batch(self, queue: Any) -> None:
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < 3:
                batch.append(queue.get_nowait())
            for item in batch:
                try:
                    await self.handle(item)
                except (Exception, asyncio.CancelledError) as wrong:
                    self.look_error(wrong)
                    if self.over:
                        raise
                queue.task_done()

    # Handlers

    async def _called(self, item: Item) -> None:
        try:
            await self.handle(item)
        except Exception as wrong:
            self.look_error(wrong)

    async def handle(self, item: Item) -> None:
        """Do what an item says, step by step."""
        for step, argument in item.steps:
            await getattr(self, f"do_{step}")(argument)

    def look(self, span: Any) -> None:
        """Note all that user code can see of a span and of the current job."""
        job = current_job()
        self.seen.append(
            {
                "recording": span.is_recording(),
                "context": self.names.context(span.get_span_context()),
                "readable": isinstance(span, ReadableSpan),
                "said": span_of(span, self.names) if isinstance(span, ReadableSpan) else None,
                "job": None if job is None else [self.names.value(job.id), job.name, job.queue, job.wait, job.attempt],
                "baggage": self.names.attributes(baggage.get_all()),
            }
        )

    def look_error(self, wrong: BaseException) -> None:
        """Note what user code is given of an exception."""
        self.seen.append(["raised", type(wrong).__name__, len(getattr(wrong, "__notes__", ()))])

    async def do_look(self, _: Any) -> None:
        self.look(trace.get_current_span())

    async def do_sleep(self, ticks: int) -> None:
        await asyncio.sleep(ticks * TICK)

    async def do_attribute(self, pair: tuple[str, Any]) -> None:
        trace.get_current_span().set_attribute(*pair)

    async def do_attributes(self, pairs: tuple[tuple[str, Any], ...]) -> None:
        trace.get_current_span().set_attributes(dict(pairs))

    async def do_event(self, name: str) -> None:
        trace.get_current_span().add_event(name, {"size": len(name), "name": name})

    async def do_status(self, code: str) -> None:
        status = StatusCode[code]
        trace.get_current_span().set_status(Status(status, "user" if status is StatusCode.ERROR else None))

    async def do_rename(self, name: str) -> None:
        trace.get_current_span().update_name(name)

    async def do_link(self, _: Any) -> None:
        far = SpanContext(0xABC, 0xDEF, True, TraceFlags(1), TraceState([("far", "away")]))
        trace.get_current_span().add_link(far, {"why": "because"})

    async def do_record(self, kind: str) -> None:
        try:
            raise error(kind)
        except (Exception, asyncio.CancelledError) as wrong:
            trace.get_current_span().record_exception(wrong, {"by": "user"})

    async def do_log(self, level: int) -> None:
        self.logger.log(level, "a line")

    async def do_log_error(self, kind: str) -> None:
        try:
            raise error(kind)
        except (Exception, asyncio.CancelledError):
            self.logger.exception("an error")

    async def do_child(self, steps: tuple[Step, ...]) -> None:
        with self.tracer.start_as_current_span("child", attributes={"a": 1}, links=[Link(trace.INVALID_SPAN_CONTEXT)]):
            await self.handle(Item(0, steps))

    async def do_put(self, where: tuple[int, tuple[Step, ...]]) -> None:
        await self.queues[where[0] % len(self.queues)].put(self.new(where[1]))

    async def do_linger(self, given: tuple[int, tuple[Step, ...]]) -> None:
        async def linger() -> None:
            await asyncio.sleep(given[0] * TICK)
            await self.handle(Item(0, given[1]))

        self.lingering.append(asyncio.create_task(linger()))

    async def do_hold(self, _: Any) -> None:
        self.held.append(trace.get_current_span())

    async def do_end(self, _: Any) -> None:
        trace.get_current_span().end()

    async def do_call(self, steps: tuple[Step, ...]) -> None:
        await self.call(Item(0, steps))

    async def do_flush(self, _: Any) -> None:
        self.telemetry.meter_provider.force_flush()

    async def do_suppress(self, steps: tuple[Step, ...]) -> None:
        before = context.get_current()
        context.attach(context.set_value("suppress_instrumentation", True))
        try:
            await self.handle(Item(0, steps))
        finally:
            context.attach(before)

    async def do_raise(self, kind: str) -> None:
        raise error(kind)

    async def do_timeout(self, ticks: int) -> None:
        async with asyncio.timeout(ticks * TICK):
            await asyncio.sleep(LONG)

    async def do_cancel(self, _: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def do_leave(self, _: Any) -> None:
        raise Boom("the consumer leaves")
