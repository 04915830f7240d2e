"""What must not happen in production: failing telemetry or logging, odd subclasses and exceptions, crowds of tasks."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk.trace import SpanProcessor

from otel_sched import LifoQueue, OtelObserver, PriorityQueue, Queue, WorkerPool, watch
from otel_sched.telemetry import hub
from otel_sched.testing import InMemoryTelemetry
from tests.chains import Chain, no_span_here
from tests.conftest import ARun
from tests.support.otel_globals import as_new


class Boom(Exception):
    """What goes wrong in these tests."""


@pytest.fixture
def failing_filter() -> Iterator[None]:
    """Put a filter that raises before our logger, as a program's own would on its root handler."""

    def fails(_: logging.LogRecord) -> bool:
        raise LookupError("request_id")

    logger = logging.getLogger("otel_sched")
    logger.addFilter(fails)
    yield
    logger.removeFilter(fails)


def test_a_log_filter_that_raises_stops_no_worker(failing_filter: None, arun: ARun) -> None:
    """Each failing job would be logged; the jobs after it are worked on all the same."""

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders")
        seen = []

        async def handle(item: int) -> None:
            seen.append(item)
            raise Boom

        async with WorkerPool(queue, handle, workers=2):
            for item in range(5):
                await queue.put(item)
        assert seen == list(range(5))
        assert queue.stats().outcomes == {"error": 5}

    arun(main())


def test_a_hook_that_fails_while_logging_fails_loses_no_item(
    failing_filter: None, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """The item is put although both its telemetry and the line about that fail."""
    chain = Chain(telemetry)

    def fails(*_: Any) -> Any:
        raise Boom

    chain.queue._otel_queued = fails

    async def main() -> None:
        await chain.queue.put("a")
        assert await chain.queue.get() == "a"

    arun(main())
    assert chain.queue.stats().put == 1


@pytest.mark.parametrize("others", [0, 600], ids=["few tasks", "many tasks"])
def test_a_dispatcher_with_slow_children_keeps_their_outcomes(
    telemetry: InMemoryTelemetry, arun: ARun, others: int
) -> None:
    """150 children under way before the first task_done() do not look like a consumer that never calls it."""
    chain = Chain(telemetry)

    async def main() -> None:
        gate = asyncio.Event()
        crowd = [asyncio.create_task(gate.wait()) for _ in range(others)]

        async def handle(item: int) -> None:
            try:
                await gate.wait()
                if item % 2:
                    raise Boom
            finally:
                chain.queue.task_done()

        for item in range(150):
            chain.queue.put_nowait(item)

        async def dispatcher() -> None:
            children = [asyncio.create_task(handle(await chain.queue.get())) for _ in range(150)]
            gate.set()
            await asyncio.gather(*children, *crowd, return_exceptions=True)

        await asyncio.create_task(dispatcher())

    arun(main())
    assert chain.queue.stats().outcomes == {"ok": 75, "error": 75}


class UnwrappingPriorities(PriorityQueue[Any]):
    """Adds a rank on the way in and takes it off on the way out."""

    def put_nowait(self, item: Any) -> None:
        super().put_nowait((0, item))

    def get_nowait(self) -> Any:
        return super().get_nowait()[1]


class UnwrappingQueue(Queue[Any]):
    """The same for the FIFO."""

    def put_nowait(self, item: Any) -> None:
        super().put_nowait((0, item))

    def get_nowait(self) -> Any:
        return super().get_nowait()[1]


class UnwrappingLifo(LifoQueue[Any]):
    """The same for the stack."""

    def put_nowait(self, item: Any) -> None:
        super().put_nowait((0, item))

    def get_nowait(self) -> Any:
        return super().get_nowait()[1]


class UnwrappingOwn(asyncio.Queue[Any]):
    """The same for a class that knows nothing of us."""

    def put_nowait(self, item: Any) -> None:
        super().put_nowait((0, item))

    def get_nowait(self) -> Any:
        return super().get_nowait()[1]


@pytest.mark.parametrize("kind", [UnwrappingQueue, UnwrappingPriorities, UnwrappingLifo, UnwrappingOwn])
def test_a_pool_takes_items_as_a_subclass_gives_them(kind: type[Any], arun: ARun) -> None:
    """A get_nowait() of the program's own is on the pool's way too."""

    async def main() -> None:
        queue: Any = watch(kind(), name="orders") if kind is UnwrappingOwn else kind(name="orders")
        seen = []

        async def handle(item: str) -> None:
            seen.append(item)

        async with WorkerPool(queue, handle, workers=1):
            for item in "abc":
                await queue.put(item)
        assert sorted(seen) == ["a", "b", "c"]
        assert queue.stats().outcomes == {"ok": 3}

    arun(main())


def test_a_handler_with_its_producers_context_begins_before_it_can_be_cancelled(arun: ARun) -> None:
    """It runs in its worker's asyncio task: what was taken is begun, and its own stop() is refused."""

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", carry="context")
        refused = []

        async def handle(item: int) -> None:
            with pytest.raises(RuntimeError) as refusal:
                await pool.stop()
            refused.append(str(refusal.value))

        async with WorkerPool(queue, handle, workers=1) as pool:
            await queue.put(1)
        assert len(refused) == 1

    arun(main())


def test_a_hook_that_fails_leaves_no_other_jobs_span_open(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """A span processor that raises once: the jobs that had begun end their spans, and nothing stays current."""

    class Fails(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.name.startswith("process") and span.attributes["otel_sched.job.name"] == "last":
                raise Boom

    telemetry.tracer_provider.add_span_processor(Fails())
    chain = Chain(telemetry)

    async def main() -> None:
        gate = asyncio.Event()
        for item in range(3):
            chain.queue.put_nowait(item)

        async def first() -> None:
            await chain.queue.get()
            await gate.wait()
            chain.queue.task_done()
            assert no_span_here()

        async def last() -> None:
            await chain.queue.get()
            chain.queue.task_done()

        begun = [asyncio.create_task(first()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.create_task(last())
        gate.set()
        await asyncio.gather(*begun)

    arun(main())
    assert chain.outcomes() == ["ok", "ok"]
    assert chain.queue.stats().outcomes == {"ok": 3}


def test_a_histogram_that_fails_leaves_no_span_open(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """The span ends and is taken back although the run could not be recorded."""
    chain = Chain(telemetry)

    class Fails:
        def record(self, *_: Any, **__: Any) -> None:
            raise Boom

    async def main() -> None:
        await chain.queue.put("a")
        chain.queue._otel_tracker.listener._run = Fails()  # type: ignore[union-attr]
        await chain.queue.get()
        chain.queue.task_done()
        assert no_span_here()

    arun(main())
    assert chain.outcomes() == ["ok"]


def test_leaving_an_async_generator_early_is_no_cancellation(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """`break` out of `async for` closes the generator; its job went well and no loop was closed."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.queue.put("a")

        async def items() -> Any:
            while True:
                item = await chain.queue.get()
                try:
                    yield item
                finally:
                    chain.queue.task_done()

        generator = items()
        async for _ in generator:
            break
        await generator.aclose()

    arun(main())
    assert chain.outcomes() == ["ok"]


def test_a_base_exception_of_a_handlers_own_ends_its_job_alone(arun: ARun) -> None:
    """Only what ends the program, or the worker's own cancellation, ends a worker."""

    class Abort(BaseException):
        pass

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders")

        async def handle(item: int) -> None:
            if item < 3:
                raise Abort

        async with WorkerPool(queue, handle, workers=1) as pool:
            for item in range(5):
                await queue.put(item)
            await pool.join()
            assert pool.stats().replaced == 0
        assert queue.stats().outcomes == {"error": 3, "ok": 2}

    arun(main())


def test_jobs_of_closed_loops_end_with_the_next_consumer(telemetry: InMemoryTelemetry) -> None:
    """With no metric reader and no flush, the next asyncio task that takes a job settles what closed loops left."""
    observer = OtelObserver(tracer_provider=telemetry.tracer_provider)
    queue: Queue[int] = Queue(name="orders", observer=observer)
    for _ in range(5):
        loop = asyncio.SelectorEventLoop()

        async def worker() -> None:
            await queue.get()
            await asyncio.Event().wait()

        queue.put_nowait(1)
        task: Any = loop.create_task(worker())
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()
        del task, loop

    async def last() -> None:
        queue.put_nowait(2)
        await queue.get()
        queue.task_done()

    gc.collect()
    asyncio.run(last())
    assert queue.stats().outcomes == {"cancelled": 5, "ok": 1}
    assert sum(span.name == "process orders" for span in telemetry.spans) == 6
    assert not trace.get_current_span().is_recording()


def test_a_program_that_exports_nothing_but_logs_is_told_of_failures(
    telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global logger provider alone wakes the observer: the failed job has its record."""
    monkeypatch.setattr(hub, "_hubs", {})  # the one of earlier tests has looked its logger up
    with as_new():
        set_logger_provider(telemetry.logger_provider)
        queue: Queue[int] = Queue(name="orders", observer=OtelObserver())

        async def main() -> None:
            async def handle(item: int) -> None:
                raise Boom

            async with WorkerPool(queue, handle, workers=1):
                await queue.put(1)

        asyncio.run(main())
    assert [record.log_record.event_name for record in telemetry.logs] == ["otel_sched.job.exception"]


def test_a_get_outside_of_any_task_belongs_to_none(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """Driven by hand, in the context of an asyncio task that has ended: nobody could ever settle what it takes."""
    chain = Chain(telemetry)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[None] = loop.create_future()

        def by_hand() -> None:
            with pytest.raises(StopIteration):
                chain.queue.get().send(None)
            taken.set_result(None)

        async def worker() -> None:
            await chain.queue.get()
            chain.queue.task_done()
            loop.call_soon(loop.call_soon, by_hand)

        for item in ("a", "b"):
            await chain.queue.put(item)
        task = asyncio.create_task(worker())
        await task
        del task
        gc.collect()
        await taken
        assert chain.queue.stats().active == 0

    arun(main())
    assert chain.queue.stats().outcomes == {"ok": 1, "unobserved": 1}
