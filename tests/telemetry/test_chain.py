"""Every way in which a job can go through a bare queue: the right parents, links, trace ids and outcome."""

import asyncio
import contextlib
import gc
import sys
import weakref
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Sampler

from otel_sched import OtelObserver, Queue, QueueShutDown, current_job, instrument, watch
from otel_sched.testing import InMemoryTelemetry
from tests.chains import Chain, ids, no_span_here, outer_exception
from tests.conftest import ARun
from tests.support.otel_globals import as_new


class Boom(Exception):
    """What goes wrong in these tests."""


@pytest.fixture(params=["drop-in", "watched"])
def chain(request: pytest.FixtureRequest, telemetry: InMemoryTelemetry) -> Chain:
    """Give the chain once with our queue and once with a watched asyncio queue."""
    if request.param == "drop-in":
        return Chain(telemetry)
    return Chain(telemetry, lambda observer: watch(asyncio.Queue(), name="orders", observer=observer))


async def finish(task: "asyncio.Task[Any]") -> None:
    """Cancel a worker and wait until it is gone, callbacks included."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)


def test_success_is_tied_from_request_to_log_line(chain: Chain, arun: ARun) -> None:
    """The process span is current from get() to task_done() and nothing is current after it."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await chain.queue.get()
            job = current_job()
            assert job is not None
            assert (job.item, job.name, job.queue) == (item, "worker", "orders")
            await chain.work(item)
            chain.queue.task_done()
            assert no_span_here()
            assert current_job() is None

        await asyncio.create_task(worker())
        await chain.queue.join()

    arun(main())
    chain.assert_tied("a")
    assert chain.outcomes() == ["ok"]
    assert chain.processed()[0].status.is_unset
    assert (chain.processed()[0].attributes or {})["otel_sched.correlation"] == "parent"
    assert chain.total("otel_sched.job.run.duration", job__outcome="ok") == 1
    assert chain.total("otel_sched.job.wait.duration") == 1
    chain.assert_books_balance()


def test_an_exception_in_flight_at_task_done_is_the_outcome(chain: Chain, arun: ARun) -> None:
    """`finally: task_done()` while an exception passes through: error, with status, type and one log record."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await chain.queue.get()
            try:
                await chain.work(item)
                raise Boom("no money")
            finally:
                chain.queue.task_done()

        with pytest.raises(Boom):
            await asyncio.create_task(worker())

    arun(main())
    chain.assert_tied("a")
    assert chain.outcomes() == ["error"]
    span = chain.processed()[0]
    assert not span.status.is_ok
    assert span.status.description == "no money"
    assert str((span.attributes or {})["error.type"]).endswith("test_chain.Boom")
    assert not span.events, "with a logger provider the exception goes out as a log record only"
    (record,) = [each for each in chain.lines("failed") if each.event_name == "otel_sched.job.exception"]
    assert (record.trace_id, record.span_id) == ids(span.context)
    assert "raise Boom" in record.attributes["exception.stacktrace"]
    chain.assert_books_balance()


def test_cancelled_while_waiting_in_get_there_is_no_job(chain: Chain, arun: ARun) -> None:
    """A consumer that is cancelled in get() has no job to end, and the next item is lost to nobody."""

    async def main() -> None:
        waiting = asyncio.create_task(chain.queue.get())
        await asyncio.sleep(0)
        await finish(waiting)
        await chain.put("a")
        assert chain.queue.qsize() == 1

    arun(main())
    assert chain.processed() == []
    chain.assert_books_balance()


def test_cancelled_while_running_says_so_and_is_no_error(chain: Chain, arun: ARun) -> None:
    """The consumer's own cancellation: outcome cancelled, reason consumer, status unset, one DEBUG record."""

    async def main() -> None:
        await chain.put("a")
        running = asyncio.Event()

        async def worker() -> None:
            item = await chain.queue.get()
            try:
                await chain.work(item)
                running.set()
                await asyncio.Event().wait()
            finally:
                chain.queue.task_done()

        task = asyncio.create_task(worker())
        await running.wait()
        await finish(task)

    arun(main())
    chain.assert_tied("a")
    assert chain.outcomes() == ["cancelled"]
    span = chain.processed()[0]
    assert span.status.is_unset
    assert (span.attributes or {})["otel_sched.cancel.reason"] == "consumer"
    assert "error.type" not in (span.attributes or {})
    assert chain.total("otel_sched.jobs.cancelled", cancel__state="running", cancel__reason="consumer") == 1
    (record,) = chain.lines("was cancelled")
    assert record.severity_text == "DEBUG"
    chain.assert_books_balance()


def test_asyncio_timeout_is_a_timeout(chain: Chain, arun: ARun) -> None:
    """TimeoutError in sight at task_done(): outcome timeout, status error."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await chain.queue.get()
            try:
                async with asyncio.timeout(0.001):
                    await chain.work(item)
                    await asyncio.Event().wait()
            finally:
                chain.queue.task_done()

        with pytest.raises(TimeoutError):
            await asyncio.create_task(worker())

    arun(main())
    chain.assert_tied("a")
    assert chain.outcomes() == ["timeout"]
    assert not chain.processed()[0].status.is_ok
    chain.assert_books_balance()


def test_wait_for_get_is_tied_where_python_runs_it_in_the_same_task(chain: Chain, arun: ARun) -> None:
    """`wait_for(queue.get(), t)`: tied from 3.12 on; on 3.11 it is another asyncio task, so wait-only."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await asyncio.wait_for(chain.queue.get(), 1)
            await chain.work(item)
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    if sys.version_info >= (3, 12):
        chain.assert_tied("a")
        assert chain.outcomes() == ["ok"]
    else:
        assert chain.processed() == []
        assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 1
        assert chain.total("otel_sched.job.wait.duration") == 1
    chain.assert_books_balance()


def test_get_in_a_task_of_its_own_is_wait_only(chain: Chain, arun: ARun) -> None:
    """create_task(queue.get()), gather and shield: the wait is recorded, nothing is made current anywhere."""

    async def main() -> None:
        await chain.put("a", "b", "c")

        async def worker() -> None:
            await asyncio.create_task(chain.queue.get())
            assert no_span_here()
            await asyncio.gather(chain.queue.get())
            await asyncio.shield(chain.queue.get())
            assert no_span_here()
            for _ in range(3):
                chain.queue.task_done()

        await asyncio.create_task(worker())
        await chain.queue.join()

    arun(main())
    assert chain.processed() == []
    assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 3
    assert chain.total("otel_sched.job.wait.duration") == 3
    chain.assert_books_balance()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from 3.12 on")
def test_get_in_an_eager_task_is_wait_only(chain: Chain) -> None:
    """An eager task that is nothing but get() runs inside its creator, and is still another task.

    On asyncio alone: uvloop's create_task() cannot make eager ones.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        await chain.put("a")
        assert await loop.create_task(chain.queue.get()) == "a"
        assert no_span_here()

    asyncio.run(main())
    assert chain.processed() == []


def test_get_nowait_outside_any_task_is_wait_only(chain: Chain, arun: ARun) -> None:
    """A callback of the loop takes an item: there is no asyncio task that could run it."""

    async def main() -> None:
        await chain.put("a")
        asyncio.get_running_loop().call_soon(chain.queue.get_nowait)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert chain.queue.empty()

    arun(main())
    assert chain.processed() == []
    assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 1
    chain.assert_books_balance()


@pytest.mark.parametrize("items", [5, 250], ids=["few", "many"])
def test_a_consumer_that_never_calls_task_done(chain: Chain, arun: ARun, items: int) -> None:
    """Each job ends where its consumer went on to the next get(), with the time it really had."""

    async def main() -> None:
        await chain.put(*range(items))

        async def worker() -> None:
            while True:
                item = await chain.queue.get()
                await chain.work(item)

        task = asyncio.create_task(worker())
        while not chain.queue.empty():
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        await finish(task)

    arun(main())
    spans = chain.processed()
    assert chain.outcomes() == ["ok"] * items
    for item, span in enumerate(spans):
        assert ids(chain.one(f"charge {item}").parent) == ids(span.context)
    slack = 2_000_000  # the wall clock and the monotonic one are read at different moments
    for before, after in pairwise(spans):
        assert (before.end_time or 0) <= (after.start_time or 0) + slack
    assert chain.total("otel_sched.job.run.duration", job__outcome="ok") == items
    chain.assert_books_balance()


def test_a_batch_consumer_takes_n_then_calls_task_done_n_times(chain: Chain, arun: ARun) -> None:
    """The oldest job held ends first; every span ends; the last one taken stays current until the last ends."""

    async def main() -> None:
        await chain.put(*range(4))

        async def worker() -> None:
            batch = [await chain.queue.get()] + [chain.queue.get_nowait() for _ in range(3)]
            await chain.work(tuple(batch))
            for _ in batch:
                assert not no_span_here()
                chain.queue.task_done()
            assert no_span_here()

        await asyncio.create_task(worker())
        await chain.queue.join()

    arun(main())
    assert chain.outcomes() == ["ok"] * 4
    ends = [span.end_time or 0 for span in chain.processed()]
    assert ends == sorted(ends)
    assert ids(chain.one("charge (0, 1, 2, 3)").parent) == ids(chain.processed()[3].context)
    chain.assert_books_balance()


def test_a_batch_larger_than_undecided_awaited_one_by_one_still_ends_by_task_done(chain: Chain, arun: ARun) -> None:
    """Awaiting get() for each of a batch looks like "never calls task_done" until it does."""

    async def main() -> None:
        await chain.put(*range(20))

        async def worker() -> None:
            for _ in range(2):
                batch = [await chain.queue.get() for _ in range(10)]
                await chain.work(tuple(batch))
                for _ in batch:
                    chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.outcomes() == ["ok"] * 20
    first_charge = chain.one(f"charge {tuple(range(10))}")
    assert all((span.end_time or 0) >= (first_charge.end_time or 0) for span in chain.processed())
    chain.assert_books_balance()


def test_a_consumer_that_exits_early_ends_its_job_as_it_ended(chain: Chain, arun: ARun) -> None:
    """Returned without task_done(): ok. Raised: error, and asyncio still says that nobody retrieved it."""
    complaints: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, info: complaints.append(info["message"]))
        await chain.put("a", "b")

        async def worker(fail: bool) -> None:
            await chain.work(await chain.queue.get())
            if fail:
                raise Boom

        await asyncio.create_task(worker(False))
        failing = asyncio.create_task(worker(True))
        while not failing.done():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        del failing
        gc.collect()

    arun(main())
    assert chain.outcomes() == ["ok", "error"]
    assert any("never retrieved" in each for each in complaints)
    chain.assert_books_balance()


def test_one_asyncio_task_on_two_queues(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """In turn: each job runs. Inside another's job: wait-only, so that the first keeps its trace."""
    chain = Chain(telemetry)
    replies: Queue[str] = Queue(name="replies", observer=chain.observer)

    async def main() -> None:
        await chain.put("a")
        replies.put_nowait("early")
        replies.put_nowait("inside")

        async def worker() -> None:
            await replies.get()
            replies.task_done()
            item = await chain.queue.get()
            ours = trace.get_current_span()
            assert await replies.get() == "inside"
            assert trace.get_current_span() is ours
            await chain.work(item)
            replies.task_done()
            assert trace.get_current_span() is ours
            chain.queue.task_done()
            assert no_span_here()

        await asyncio.create_task(worker())

    arun(main())
    chain.assert_tied("a")
    assert len(chain.named("process replies")) == 1
    chain.assert_books_balance()


def test_gather_of_two_handlers_under_one_job(chain: Chain, arun: ARun) -> None:
    """Both children see the job's span; the job ends once, when its consumer says so."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            await asyncio.gather(chain.work("a1"), chain.work("a2"))
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    (process,) = chain.processed()
    assert ids(chain.one("charge a1").parent) == ids(process.context) == ids(chain.one("charge a2").parent)
    assert chain.outcomes() == ["ok"]
    chain.assert_books_balance()


def test_a_dispatcher_whose_children_call_task_done(chain: Chain, arun: ARun) -> None:
    """Each child works and ends under its own item's span, though the dispatcher took them all."""

    async def main() -> None:
        await chain.put("a", "b", "c")
        gates = {item: asyncio.Event() for item in "abc"}

        async def handle(item: str) -> None:
            await gates[item].wait()
            try:
                await chain.work(item)
                if item == "b":
                    raise Boom
            except Boom:
                chain.logger.exception("handler failed")
            finally:
                chain.queue.task_done()

        async def dispatcher() -> None:
            children = [asyncio.create_task(handle(await chain.queue.get())) for _ in range(3)]
            for item in "cba":
                gates[item].set()
                await asyncio.sleep(0)
            await asyncio.gather(*children)

        await asyncio.create_task(dispatcher())
        await chain.queue.join()

    arun(main())
    for item, span in zip("abc", chain.processed(), strict=True):
        assert ids(chain.one(f"charge {item}").parent) == ids(span.context)
    assert chain.outcomes() == ["ok", "error", "ok"]
    chain.assert_books_balance()


def test_a_dispatcher_that_ends_its_sentinel_itself_leaves_the_children_their_jobs(chain: Chain, arun: ARun) -> None:
    """Its task_done() is for the sentinel, not for the oldest job, on which a child still works."""

    async def main() -> None:
        await chain.put("a", "b", None)
        gate = asyncio.Event()

        async def handle(item: str) -> None:
            await gate.wait()
            try:
                if item == "a":
                    raise Boom
            finally:
                chain.queue.task_done()

        async def dispatcher() -> None:
            children = []
            while (item := await chain.queue.get()) is not None:
                children.append(asyncio.create_task(handle(item)))
            chain.queue.task_done()
            gate.set()
            await asyncio.gather(*children, return_exceptions=True)

        await asyncio.create_task(dispatcher())
        await chain.queue.join()

    arun(main())
    assert chain.outcomes() == ["error", "ok", "ok"]
    chain.assert_books_balance()


@pytest.mark.parametrize("settle", ["auto", "next_get"])
def test_a_dispatcher_whose_children_never_call_task_done(
    telemetry: InMemoryTelemetry, arun: ARun, settle: Any
) -> None:
    """A job that a child inherited goes on until that child ends, and ends as it did."""
    chain = Chain(telemetry, settle=settle)

    async def main() -> None:
        await chain.put("a", "b")
        gate = asyncio.Event()

        async def handle(item: str) -> None:
            await gate.wait()
            await chain.work(item)
            if item == "b":
                raise Boom

        async def dispatcher() -> None:
            children = [asyncio.create_task(handle(await chain.queue.get())) for _ in range(2)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await chain.queue.get()
            gate.set()
            await asyncio.gather(*children, return_exceptions=True)
            await asyncio.sleep(0)

        await asyncio.create_task(dispatcher())
        await asyncio.sleep(0)

    arun(main())
    if settle == "next_get":
        assert chain.outcomes() == ["ok", "error"]
        for item, span in zip("ab", chain.processed(), strict=True):
            assert (span.end_time or 0) >= (chain.one(f"charge {item}").end_time or 0)
    else:
        assert len(chain.outcomes()) == 2
    chain.assert_books_balance()


def test_a_worker_that_logs_and_swallows_its_exception(chain: Chain, arun: ARun) -> None:
    """The commonest worker of all: error, and its own log line is the one record of it."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await chain.queue.get()
            try:
                await chain.work(item)
                raise Boom("swallowed")
            except Exception:
                chain.logger.exception("could not charge")
            finally:
                chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    chain.assert_tied("a")
    assert chain.outcomes() == ["error"]
    (line,) = chain.lines("could not charge")
    assert (line.trace_id, line.span_id) == ids(chain.processed()[0].context)
    exceptions = [each for each in telemetry_logs(chain) if "exception.type" in (each.attributes or {})]
    assert exceptions == [line], "the same exception goes out once"
    chain.assert_books_balance()


def telemetry_logs(chain: Chain) -> list[Any]:
    """Return all log records."""
    return [each.log_record for each in chain.telemetry.logs]


def test_an_exception_recorded_on_the_span_and_swallowed(chain: Chain, arun: ARun) -> None:
    """record_exception on the job's span counts, and is not told a second time."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            try:
                raise Boom
            except Boom as error:
                trace.get_current_span().record_exception(error)
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.outcomes() == ["error"]
    assert len(chain.processed()[0].events) == 1
    assert chain.lines("failed") == []


def test_a_warning_with_its_exception_is_no_failure(chain: Chain, arun: ARun) -> None:
    """An attempt that is logged below ERROR and then made good leaves the job ok."""

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            try:
                raise Boom
            except Boom:
                chain.logger.warning("trying again", exc_info=True)
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.outcomes() == ["ok"]


def test_get_inside_a_span_of_the_users_own_is_wait_only(chain: Chain, arun: ARun) -> None:
    """A request that awaits a reply queue keeps its trace; process_spans="always" says otherwise."""

    async def main() -> None:
        await chain.put("a")
        with chain.tracer.start_as_current_span("other request") as other:
            item = await chain.queue.get()
            assert trace.get_current_span() is other
            await chain.work(item)
            chain.queue.task_done()

    arun(main())
    assert chain.processed() == []
    assert ids(chain.one("charge a").parent) == ids(chain.one("other request").context)
    assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 1
    chain.assert_books_balance()


@pytest.mark.parametrize(("process_spans", "spans"), [("always", 1), ("never", 0)])
def test_process_spans_can_be_forced_and_forbidden(
    telemetry: InMemoryTelemetry, arun: ARun, process_spans: Any, spans: int
) -> None:
    """A worker that runs its whole life in a span says "always", and gets its own span back after each job."""
    chain = Chain(telemetry, process_spans=process_spans)

    async def main() -> None:
        await chain.put("a")
        with chain.tracer.start_as_current_span("life") as life:
            await chain.queue.get()
            chain.queue.task_done()
            assert trace.get_current_span() is life

    arun(main())
    assert len(chain.processed()) == spans
    chain.assert_books_balance()


def test_an_ended_span_round_the_consumer_is_no_span(chain: Chain, arun: ARun) -> None:
    """A worker started inside a span that has ended since runs its jobs as if there were none."""

    async def main() -> None:
        async def worker() -> None:
            item = await chain.queue.get()
            await chain.work(item)
            chain.queue.task_done()

        with chain.tracer.start_as_current_span("start-up"):
            task = asyncio.create_task(worker())
        await chain.put("a")
        await task

    arun(main())
    chain.assert_tied("a")


def test_an_ended_span_round_the_producer_is_no_producer(chain: Chain, arun: ARun) -> None:
    """A put after its request has ended is linked to nothing."""

    async def main() -> None:
        with chain.tracer.start_as_current_span("request") as request:
            pass
        with trace.use_span(request, end_on_exit=False):
            chain.queue.put_nowait("a")

        async def worker() -> None:
            await chain.queue.get()
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    (span,) = chain.processed()
    assert span.parent is None
    assert not span.links
    assert (span.attributes or {})["otel_sched.correlation"] == "none"


def test_a_worker_inside_an_outer_except(chain: Chain, arun: ARun) -> None:
    """The exception that was being handled before get() says nothing about the job; a new one does."""

    async def main() -> None:
        await chain.put("a", "b")

        async def worker() -> None:
            with outer_exception(KeyError("old")):
                await chain.queue.get()
                chain.queue.task_done()
                await chain.queue.get()
                try:
                    raise Boom
                except Boom:
                    chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.outcomes() == ["ok", "error"]


def test_a_put_that_is_tried_again_is_one_job(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """QueueFull leaves no trace; a put that waited has a span as long as its wait, and one that gives up none."""
    chain = Chain(telemetry, maxsize=1)

    async def main() -> None:
        chain.queue.put_nowait("first")
        given_up = asyncio.Event()

        async def producer() -> None:
            with chain.tracer.start_as_current_span("request"):
                with pytest.raises(asyncio.QueueFull):
                    chain.queue.put_nowait("a")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(chain.queue.put("a"), 0.001)
                given_up.set()
                await chain.queue.put("a")

        task = asyncio.create_task(producer())
        await given_up.wait()
        while not chain.queue.stats().puts_waiting or not chain.total("otel_sched.queue.puts.waiting"):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        for _ in range(2):
            item = await chain.queue.get()
            await chain.work(item)
            chain.queue.task_done()
        await task

    arun(main())
    put = chain.one("put orders")
    assert (put.end_time or 0) - (put.start_time or 0) >= 5_000_000
    assert chain.total("otel_sched.queue.put.blocked.duration") == 1
    assert chain.queue.stats().put == 2
    chain.assert_books_balance()


def test_a_loop_closed_with_jobs_in_flight(chain: Chain, loop_kind: str) -> None:
    """No done-callback runs there: the job ends cancelled, loop_closed, when telemetry is next collected."""
    from tests.conftest import LOOPS

    loop = LOOPS[loop_kind]()

    async def worker() -> None:
        await chain.queue.get()
        await asyncio.Event().wait()

    task = loop.create_task(worker())
    loop.run_until_complete(chain.put("a"))
    loop.run_until_complete(asyncio.sleep(0))
    assert chain.queue.stats().active == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test means to destroy it
    loop.close()
    assert chain.total("otel_sched.jobs.cancelled", cancel__reason="loop_closed") == 1
    assert chain.outcomes() == ["cancelled"]
    assert chain.queue.stats().active == 0
    chain.assert_books_balance()


def test_a_destroyed_task_leaves_its_job_abandoned(chain: Chain, arun: ARun) -> None:
    """An asyncio task that nobody holds and the collector takes: nothing is known of its job's end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            await asyncio.get_running_loop().create_future()

        task: Any = loop.create_task(worker())
        await asyncio.sleep(0)
        gone = weakref.ref(task)
        del task
        gc.collect()
        assert gone() is None

    arun(main())
    chain.telemetry.metrics()
    # Destroying the coroutine closes it, and what it held is settled by whoever looks first.
    assert chain.outcomes() == ["abandoned"]
    chain.assert_books_balance()


def test_shutdown_at_once_cancels_what_waits(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """Drained jobs are cancelled in the queue, never taken and never current."""
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a", "b")
        chain.queue.shutdown(immediate=True)
        with pytest.raises(QueueShutDown):
            await chain.queue.get()

    arun(main())
    assert chain.processed() == []
    assert chain.total("otel_sched.jobs.cancelled", cancel__state="queued", cancel__reason="shutdown") == 2
    assert chain.total("otel_sched.jobs.taken") == 0
    chain.assert_books_balance()


def test_nothing_holds_a_job_after_it_is_settled(chain: Chain, arun: ARun) -> None:
    """Not the consumer's context, not one that a callback or a child inherited, not the queue."""

    class Item:
        pass

    async def main() -> None:
        item = Item()
        gone = weakref.ref(item)
        await chain.queue.put(item)
        del item
        jobs: list[weakref.ref[Any]] = []

        async def worker() -> None:
            async def linger() -> None:
                await stop.wait()

            taken = await chain.queue.get()
            jobs.append(weakref.ref(current_job()))
            asyncio.get_running_loop().call_later(60, print)
            children.append(asyncio.create_task(linger()))
            del taken
            chain.queue.task_done()
            await stop.wait()

        stop, children = asyncio.Event(), list[Any]()
        task = asyncio.create_task(worker())
        await chain.queue.join()
        gc.collect()
        assert jobs[0]() is None
        assert gone() is None
        stop.set()
        await asyncio.gather(task, *children)

    arun(main())


def test_the_first_jobs_of_undecided_consumers_end_at_the_latest_with_them(chain: Chain, arun: ARun) -> None:
    """No span is left open by a consumer that neither called task_done() nor reached the cap."""

    async def main() -> None:
        await chain.put(*range(3))

        async def worker() -> None:
            for _ in range(3):
                await chain.work(await chain.queue.get())

        await asyncio.create_task(worker())
        await asyncio.sleep(0)
        assert chain.queue.stats().active == 0

    arun(main())
    assert chain.outcomes() == ["ok"] * 3


def test_an_observer_that_fails_is_taken_out_and_the_work_goes_on(arun: ARun, caplog: pytest.LogCaptureFixture) -> None:
    """One log line, one counted error, and every item is handled."""

    class Broken(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> Any:
            raise Boom("sampler")

        def get_description(self) -> str:
            return "broken"

    chain = Chain(InMemoryTelemetry(Broken()))

    async def main() -> None:
        handled = []
        for item in range(5):
            await chain.queue.put(item)
            handled.append(await chain.queue.get())
            chain.queue.task_done()
        assert handled == list(range(5))

    arun(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert chain.total("otel_sched.telemetry.errors") == 1
    chain.assert_books_balance()


def test_baggage_and_context_variables_of_the_producer_on_request(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """carry="baggage" makes it current; carry="context" shows the producer's variables as well."""
    import contextvars

    from opentelemetry import baggage, context

    tenant = contextvars.ContextVar("tenant", default="nobody")
    observer = OtelObserver(**telemetry.providers)

    async def main() -> None:
        for carry, seen in ((None, None), ("baggage", "gold"), ("context", "gold")):
            queue: Queue[str] = Queue(name="orders", observer=observer, carry=carry)  # type: ignore[arg-type]

            async def producer(queue: Queue[str] = queue) -> None:
                tenant.set("acme")
                context.attach(baggage.set_baggage("plan", "gold"))
                await queue.put("a")

            await asyncio.create_task(producer())
            await queue.get()
            job = current_job()
            assert job is not None
            assert baggage.get_baggage("plan") == seen
            assert tenant.get() == "nobody"
            where = job.producer_context
            assert (None if where is None else where[tenant]) == ("acme" if carry == "context" else None)
            queue.task_done()
            assert baggage.get_baggage("plan") is None

    arun(main())


class Order:
    """An item that can be referred to weakly, as an application's own classes can."""


def test_an_instrumented_call_claims_the_job_of_the_item_it_is_given(chain: Chain, arun: ARun) -> None:
    """create_task(queue.get()) is wait-only: the call that gets the item is its process span, linked, once."""

    @instrument(observer=chain.observer)
    async def handle(order: Order) -> None:
        await chain.work("x")

    @instrument(observer=chain.observer)
    async def unrelated(order: Order) -> None:
        pass

    async def main() -> None:
        await chain.put(Order())
        order = await asyncio.create_task(chain.queue.get())
        await unrelated(Order())
        await asyncio.gather(handle(order), unrelated(order))
        chain.queue.task_done()

    arun(main())
    put, process = chain.one("put orders"), chain.one("process orders")
    assert [ids(link.context) for link in process.links] == [ids(put.context)]
    assert ids(chain.one("charge x").parent) == ids(process.context)
    assert (process.attributes or {})["otel_sched.job.id"] == (put.attributes or {})["otel_sched.job.id"]
    assert (process.attributes or {})["otel_sched.job.outcome"] == "ok"
    assert not any(span.links for span in chain.telemetry.spans if span.name == "unrelated")
    chain.assert_books_balance()


def test_an_instrumented_call_after_task_done_claims_nothing(chain: Chain, arun: ARun) -> None:
    """The job is done, whatever is called next with the same value."""

    @instrument(observer=chain.observer)
    async def later(item: str) -> None:
        pass

    async def main() -> None:
        await chain.put("a")
        with chain.tracer.start_as_current_span("other request"):
            item = await chain.queue.get()
            chain.queue.task_done()
            await later(item)

    arun(main())
    assert chain.processed() == []
    assert not chain.one("later").links


def test_jobs_taken_before_there_was_an_sdk_are_finished_by_their_task_done(telemetry: InMemoryTelemetry) -> None:
    """A provider that is set while a job runs silently: the job is counted to its end."""
    with as_new():
        queue: Queue[int] = Queue(name="orders")

        async def main() -> None:
            await queue.put(1)
            await queue.get()
            trace.set_tracer_provider(telemetry.tracer_provider)
            await queue.put(2)
            queue.task_done()
            assert queue.stats().active == 0
            await queue.get()
            queue.task_done()
            assert queue.stats().outcomes == {"ok": 2}

        asyncio.run(main())
    assert [span.name for span in telemetry.spans] == ["process orders"]
