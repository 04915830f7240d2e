"""Every instrument against a workload with known numbers, and books that balance at every collection."""

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_sched import LifoQueue, Listener, Observer, OtelObserver, PriorityQueue, Queue, WorkerPool, watch
from otel_sched._core import names
from otel_sched._core.ledger import MAX_JOB_NAMES, Ledger
from otel_sched.testing import InMemoryTelemetry, run
from tests.chains import Chain
from tests.conftest import ARun

Key = tuple[str, frozenset[tuple[str, Any]]]


class Boom(Exception):
    """What goes wrong in these tests."""


@pytest.fixture
def observer(telemetry: InMemoryTelemetry) -> OtelObserver:
    """Give an observer of the test's own providers."""
    return OtelObserver(**telemetry.providers)


def points(telemetry: InMemoryTelemetry) -> dict[Key, Any]:
    """Collect, and return each point's value, or count and sum, by instrument and short attributes."""
    return flat(telemetry.metrics())


def flat(metrics: dict[str, list[Any]]) -> dict[Key, Any]:
    found: dict[Key, Any] = {}
    for name, each in metrics.items():
        for point in each:
            attributes = frozenset((key.removeprefix("otel_sched."), value) for key, value in point.attributes.items())
            key = name.removeprefix("otel_sched."), attributes
            assert key not in found, f"{key} twice in one collection"
            found[key] = (point.count, point.sum) if hasattr(point, "bucket_counts") else point.value
    return found


def key(instrument: str, queue: str = "orders", **attributes: str) -> Key:
    """Return the key of a point: attributes with `__` for their dots."""
    pairs = {name.replace("__", "."): value for name, value in attributes.items()}
    return instrument, frozenset({"queue.name": queue, **pairs}.items())


def assert_balanced(found: dict[Key, Any]) -> None:
    """Assert the accounting identity for every queue name, and that nothing is below zero."""
    sums: dict[tuple[str, str], float] = {}
    for (instrument, attributes), value in found.items():
        if not isinstance(value, tuple):
            assert value >= 0, (instrument, attributes, value)
            where = dict(attributes)["queue.name"], instrument
            sums[where] = sums.get(where, 0) + value
    for queue, instrument in [each for each in sums if each[1] == "jobs.put"]:
        parts = [sums.get((queue, part), 0) for part in ("queue.size", "jobs.active", "jobs.finished", "jobs.dropped")]
        assert sums[queue, instrument] == sum(parts), (queue, parts)


def test_every_instrument_of_a_known_workload(telemetry: InMemoryTelemetry) -> None:
    """In virtual time: each point of each instrument has the number that the program made, and there are no others."""
    halfway: dict[Key, Any] = {}

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        queue: Queue[str] = Queue(5, name="orders", observer=OtelObserver(**telemetry.providers), clock=clock)

        async def charge(item: str) -> None:
            await asyncio.sleep(4)
            if item == "bad":
                raise Boom
            if item == "late":
                raise TimeoutError
            if item == "hangs":
                await asyncio.sleep(1000)

        for item in ("good", "bad", "late", "fine", "nice"):
            await queue.put(item)
        await asyncio.sleep(2)
        producer = asyncio.create_task(queue.put("hangs"))
        await asyncio.sleep(1)  # time 3: the pool starts, one worker takes one job
        pool = WorkerPool(queue, charge, workers=1, grace=0)
        pool.start()
        await asyncio.sleep(4 * 5 + 2)  # time 25: five are done, "hangs" has been running for 2 s
        await producer
        for item in ("a", "b", "c"):
            await queue.put(item)
        await asyncio.sleep(3)  # time 28
        queue._queue.pop()
        getter_less = [asyncio.create_task(queue.put(item)) for item in ("d", "e", "f", "g")]
        await asyncio.sleep(0.5)
        halfway.update(points(telemetry))
        for task in getter_less:
            task.cancel()
        await asyncio.gather(*getter_less, return_exceptions=True)
        await pool.stop(0)
        queue.shutdown(immediate=True)

    run(main())
    job = {"job__name": "charge"}
    failed, late = f"{__name__}.Boom", "TimeoutError"
    assert halfway == {
        key("jobs.put"): 12,
        key("jobs.taken"): 6,
        key("jobs.finished", **job, job__outcome="ok"): 3,
        key("jobs.finished", **job, job__outcome="error"): 1,
        key("jobs.finished", **job, job__outcome="timeout"): 1,
        key("jobs.active", **job): 1,
        key("jobs.dropped", drop__reason="cleared"): 1,
        key("queue.size"): 5,
        key("queue.capacity"): 5,
        key("queue.oldest_job.age"): 3.5,
        key("job.oldest_active.age", **job): 5.5,
        key("queue.puts.waiting"): 1,
        key("queue.gets.waiting"): 0,
        key("workers.limit", **job): 1,
        key("workers.busy", **job): 1,
        key("job.wait.duration"): (6, 3 + 7 + 11 + 15 + 19 + 20),
        key("job.run.duration", **job, job__outcome="ok"): (3, 12.0),
        key("job.run.duration", **job, job__outcome="error", **{"error.type": failed}): (1, 4.0),
        key("job.run.duration", **job, job__outcome="timeout", **{"error.type": late}): (1, 4.0),
        key("queue.put.blocked.duration"): (1, 1.0),
    }
    assert_balanced(halfway)
    after = points(telemetry)
    assert after[key("jobs.cancelled", **job, cancel__state="running", cancel__reason="shutdown")] == 1
    assert after[key("jobs.cancelled", cancel__state="queued", cancel__reason="shutdown")] == 5
    assert after[key("jobs.finished", **job, job__outcome="cancelled")] == 1
    assert after[key("jobs.finished", job__outcome="cancelled")] == 5
    assert after[key("queue.size")] == after[key("jobs.active", **job)] == 0
    assert key("workers.limit", **job) not in after
    assert_balanced(after)


def test_points_carry_the_attributes_of_the_contract_and_no_others(
    telemetry: InMemoryTelemetry, observer: OtelObserver
) -> None:
    """For every instrument: the queue's name, and some of what names.py lists for it; kinds and units as there."""

    class Breaks(Listener):
        def queued(self, job: Any) -> None:
            raise Boom

    class BreakingObserver(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            observer.watch(ledger)
            return Breaks()

    async def main() -> None:
        queue: Queue[int] = Queue(2, name="orders", observer=observer)
        broken: Queue[int] = Queue(name="broken", observer=BreakingObserver())
        broken.put_nowait(1)

        async def fails(item: int) -> None:
            raise Boom

        async with WorkerPool(queue, fails, workers=1) as pool:
            for item in range(9):
                await queue.put(item)
            await pool.join()
            for _ in range(2):
                queue.put_nowait(1)
            queue._queue.pop()
            queue.shutdown(immediate=True)
            await asyncio.sleep(0)
            collected = telemetry.metrics()
        seen.update(collected)

    seen: dict[str, list[Any]] = {}
    run(main())
    contract = {instrument.name: instrument for instrument in names.INSTRUMENTS}
    assert set(seen) <= set(contract)
    missing = set(contract) - set(seen)
    of_pools = {names.WORKERS_LIMIT.name, names.WORKERS_BUSY.name}
    of_the_export = {each.name for each in names.OF_THE_EXPORT}
    of_diagnostics = {each.name for each in names.OF_DIAGNOSTICS}
    assert missing <= of_pools | of_the_export | of_diagnostics, "the workload leaves no instrument out"
    for name, each in seen.items():
        allowed = {names.QUEUE_NAME, *contract[name].attributes}
        for point in each:
            assert names.QUEUE_NAME in point.attributes
            assert set(point.attributes) <= allowed, name


def test_a_hook_that_raised_is_counted_by_reason(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """telemetry.errors, per queue; the series appears with the first error."""

    class Fails(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            observer.watch(ledger)
            return Broken()

    class Broken(Listener):
        def queued(self, job: Any) -> None:
            raise Boom

    queue: Queue[int] = Queue(name="orders", observer=Fails())
    assert key("telemetry.errors", telemetry__reason="observer") not in points(telemetry)
    queue.put_nowait(1)
    queue.put_nowait(2)
    assert points(telemetry)[key("telemetry.errors", telemetry__reason="observer")] == 1


def test_an_unbounded_queue_has_no_capacity(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """No series, rather than a zero; one bounded queue of the name makes one."""
    one: Queue[int] = Queue(name="orders", observer=observer)
    assert key("queue.capacity") not in points(telemetry)
    two: Queue[int] = Queue(7, name="orders", observer=observer)
    assert points(telemetry)[key("queue.capacity")] == 7
    assert (one.stats().capacity, two.stats().capacity) == (None, 7)


def test_two_queues_of_one_name_are_one_series(telemetry: InMemoryTelemetry) -> None:
    """Counts, sizes and capacities add up, ages take the maximum, whoever waits is summed."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        observer = OtelObserver(**telemetry.providers)
        queues: list[Any] = [
            kind(2, name="orders", observer=observer, clock=clock) for kind in (Queue, LifoQueue, PriorityQueue)
        ]
        other: Queue[int] = Queue(name="other", observer=observer, clock=clock)
        for number, queue in enumerate(queues):
            await queue.put(number)
            await asyncio.sleep(3)
        await other.put(1)
        waiting = [asyncio.create_task(queue.join()) for queue in queues]
        found = points(telemetry)
        assert found[key("jobs.put")] == found[key("queue.size")] == 3
        assert found[key("queue.capacity")] == 6
        assert found[key("queue.oldest_job.age")] == 9.0
        assert found[key("jobs.put", "other")] == 1
        assert found[key("queue.oldest_job.age", "other")] == 0.0
        assert_balanced(found)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(main())


def test_a_queue_that_is_gone_leaves_its_totals(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """Counters never go back: what waited counts as dropped, and size and capacity go."""

    async def live(kind: Any) -> None:
        queue = kind(10, name="orders", observer=observer)
        for item in range(3):
            await queue.put(item)
        await queue.get()
        queue.task_done()

    before: dict[Key, Any] = {}
    for number, kind in enumerate((Queue, PriorityQueue, LifoQueue), start=1):
        run(live(kind))
        gc.collect()
        found = points(telemetry)
        assert found[key("jobs.put")] == 3 * number
        assert found[key("jobs.taken")] == number
        assert found[key("jobs.dropped", drop__reason="collected")] == 2 * number
        assert found[key("queue.size")] == 0
        assert key("queue.capacity") not in found
        assert_balanced(found)
        assert_no_counter_went_back(before, found)
        before = found


def test_a_job_that_is_still_running_when_its_queue_is_gone_is_counted_when_it_ends(
    telemetry: InMemoryTelemetry, observer: OtelObserver
) -> None:
    """Active in between, finished after it, once."""

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=observer)
        gate = asyncio.Event()

        async def worker(queue: Queue[int]) -> None:
            await queue.get()
            del queue
            await gate.wait()

        await queue.put(1)
        task = asyncio.create_task(worker(queue))
        await asyncio.sleep(0)
        del queue
        gc.collect()
        found = points(telemetry)
        assert found[key("jobs.active", job__name="worker")] == 1
        assert_balanced(found)
        gate.set()
        await task
        await asyncio.sleep(0)
        for _ in range(2):
            found = points(telemetry)
            assert found[key("jobs.active", job__name="worker")] == 0
            assert found[key("jobs.finished", job__name="worker", job__outcome="ok")] == 1
            assert_balanced(found)

    run(main())


COUNTERS = ("jobs.put", "jobs.taken", "jobs.finished", "jobs.cancelled", "jobs.dropped", "telemetry.dropped")


def assert_no_counter_went_back(before: dict[Key, Any], after: dict[Key, Any]) -> None:
    """Assert that every counter and histogram count is still there and has not become smaller."""
    for where, value in before.items():
        if where[0] in COUNTERS:
            assert after[where] >= value, where
        elif isinstance(value, tuple):
            assert after[where][0] >= value[0], where


@pytest.fixture
def hammered(telemetry: InMemoryTelemetry) -> Iterator[list[dict[Key, Any]]]:
    """Collect again and again from another thread, while the test's body runs; give what was collected."""
    collected: list[dict[str, list[Any]]] = []
    over = threading.Event()
    failed: list[BaseException] = []

    def hammer() -> None:
        try:
            while not over.is_set() and len(collected) < 400:
                collected.append(telemetry.metrics())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=hammer)
    result: list[dict[Key, Any]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns in the middle of everything
    thread.start()
    try:
        yield result
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()
    assert failed == []
    before: dict[Key, Any] = {}
    for each in [*collected, telemetry.metrics()]:
        found = flat(each)
        assert_balanced(found)
        assert_no_counter_went_back(before, found)
        before = found


def test_the_books_balance_at_every_collection_from_another_thread(
    hammered: list[Any], observer: OtelObserver, arun: ARun
) -> None:
    """Pools, bare consumers, two queues of one name, queues that come and go, clears and shutdowns, all at once."""

    async def handler(item: int) -> None:
        if item % 5 == 0:
            await asyncio.sleep(0)
        if item % 7 == 0:
            raise Boom

    async def passing(number: int) -> None:
        for _ in range(number):
            queue: Any = PriorityQueue(name="orders", observer=observer)
            queue.put_nowait(2)
            queue.put_nowait(1)
            await queue.get()
            queue.task_done()
            await asyncio.sleep(0)

    async def bare(queue: Any, number: int) -> None:
        for _ in range(number):
            await queue.get()
            queue.task_done()

    async def main() -> None:
        pooled: Queue[int] = Queue(20, name="orders", observer=observer)
        watched = watch(asyncio.Queue[int](20), name="watched", observer=observer)
        consumer = asyncio.create_task(bare(watched, 300))
        others = asyncio.create_task(passing(60))
        async with WorkerPool(pooled, handler, workers=4) as pool:
            for item in range(300):
                await pooled.put(item)
                await watched.put(item)
                if item % 60 == 0:
                    pooled._queue.clear()
                    pooled._unfinished_tasks = pool.stats().busy  # as the one who clears has to, for join()
        await consumer
        await others
        for item in range(10):
            pooled.put_nowait(item)
        pooled.shutdown(immediate=True)

    arun(main())


def test_two_readers_see_the_same_books(observer: OtelObserver) -> None:
    """A second reader has its own callbacks: each sees every count, neither takes any from the other."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    queue: Queue[int] = Queue(name="orders", observer=OtelObserver(meter_provider=provider))
    for number in range(1, 4):
        queue.put_nowait(number)
        for reader in readers:
            found = flat(metrics_of(reader))
            assert found[key("jobs.put")] == found[key("queue.size")] == number
            assert_balanced(found)
    results: list[dict[Key, Any]] = []

    def read(reader: InMemoryMetricReader) -> None:
        results.extend(flat(metrics_of(reader)) for _ in range(40))

    threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for number in range(2000):
        queue.put_nowait(number)
        queue.get_nowait()
    for thread in threads:
        thread.join()
    for found in results:
        assert_balanced(found)
    provider.shutdown()


def metrics_of(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Collect from one reader."""
    data = reader.get_metrics_data()
    resources = data.resource_metrics if data is not None else ()
    scopes = [scope for resource in resources for scope in resource.scope_metrics]
    found: dict[str, list[Any]] = {}
    for scope in scopes:
        for metric in scope.metrics:
            found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


def test_two_observers_of_the_same_providers_share_their_series(telemetry: InMemoryTelemetry) -> None:
    """No duplicate instrument, no point twice: their queues of one name are one series."""
    queues = [Queue[int](name="orders", observer=OtelObserver(**telemetry.providers)) for _ in range(2)]
    for queue in queues:
        queue.put_nowait(1)
    assert points(telemetry)[key("jobs.put")] == 2


def test_first_queues_made_at_once_by_several_threads_share_their_series() -> None:
    """Whichever thread comes first: the instruments are made once, and every queue's counts go out."""
    for _ in range(10):
        telemetry = InMemoryTelemetry()
        start = threading.Barrier(4)
        queues: list[Queue[int]] = []

        def make(telemetry: Any = telemetry, start: Any = start, queues: Any = queues) -> None:
            start.wait()
            queue: Queue[int] = Queue(name="orders", observer=OtelObserver(**telemetry.providers))
            queue.put_nowait(1)
            queues.append(queue)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert points(telemetry)[key("jobs.put")] == 4
        telemetry.close()


def test_exemplars_carry_the_trace_of_their_job(arun: ARun) -> None:
    """Waits, runs and blocked puts are recorded under a span, so that a dashboard's dot leads to the trace."""
    telemetry = InMemoryTelemetry()
    reader = InMemoryMetricReader()
    telemetry.meter_provider = MeterProvider(
        [reader], exemplar_filter=TraceBasedExemplarFilter(), shutdown_on_exit=False
    )
    chain = Chain(telemetry)

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await chain.queue.get()
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    (process,) = chain.processed()
    assert process.context is not None
    collected = metrics_of(reader)
    for instrument in (names.WAIT_DURATION, names.RUN_DURATION):
        (point,) = collected[instrument.name]
        (exemplar,) = point.exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (process.context.trace_id, process.context.span_id)
    telemetry.close()


def test_the_wait_of_a_job_that_nobody_sees_run_leads_to_its_producer(arun: ARun) -> None:
    """process_spans="never": the exemplar of its wait carries the producer's trace."""
    telemetry = InMemoryTelemetry()
    reader = InMemoryMetricReader()
    telemetry.meter_provider = MeterProvider(
        [reader], exemplar_filter=TraceBasedExemplarFilter(), shutdown_on_exit=False
    )
    chain = Chain(telemetry, process_spans="never")

    async def main() -> None:
        await chain.put("a")
        await chain.queue.get()

    arun(main())
    put = chain.one("put orders")
    assert put.context is not None
    (point,) = metrics_of(reader)[names.WAIT_DURATION.name]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [put.context.trace_id]
    telemetry.close()


def test_a_queue_may_have_buckets_of_its_own(telemetry: InMemoryTelemetry) -> None:
    """Its histograms have them; those of other queues keep the usual ones; both are one metric by name."""

    async def main() -> None:
        observer = OtelObserver(**telemetry.providers)
        clock = asyncio.get_running_loop().time
        coarse: Queue[int] = Queue(name="coarse", observer=observer, buckets=[60, 3600], clock=clock)
        usual: Queue[int] = Queue(name="usual", observer=observer, clock=clock)
        again: Queue[int] = Queue(name="coarse", observer=observer, buckets=[60, 3600], clock=clock)

        async def take(queue: Queue[int]) -> None:
            await queue.get()
            queue.task_done()

        for queue in (coarse, usual, again):
            await queue.put(1)
            await asyncio.sleep(100)
            await asyncio.create_task(take(queue))

    run(main())
    waits = all_points(telemetry, names.WAIT_DURATION.name)
    bounds = {point.attributes[names.QUEUE_NAME]: tuple(point.explicit_bounds) for point in waits}
    assert bounds == {"coarse": (60.0, 3600.0), "usual": names.BUCKETS}
    counts = {point.attributes[names.QUEUE_NAME]: list(point.bucket_counts) for point in waits}
    assert counts["coarse"] == [0, 2, 0]
    runs = all_points(telemetry, names.RUN_DURATION.name)
    assert {len(point.explicit_bounds) for point in runs} == {2, len(names.BUCKETS)}


def all_points(telemetry: InMemoryTelemetry, name: str) -> list[Any]:
    """Return the points of one metric from every scope."""
    return metrics_of(telemetry._reader)[name]


def test_buckets_cover_a_tenth_of_a_millisecond_to_an_hour(
    telemetry: InMemoryTelemetry, observer: OtelObserver, arun: ARun
) -> None:
    """The advice reaches the SDK for all three histograms."""

    async def main() -> None:
        queue: Queue[int] = Queue(1, name="orders", observer=observer)
        await queue.put(1)
        putter = asyncio.create_task(queue.put(2))
        await asyncio.sleep(0)
        await queue.get()
        queue.task_done()
        await putter

    arun(main())
    for instrument in (names.WAIT_DURATION, names.RUN_DURATION, names.PUT_BLOCKED):
        (point,) = telemetry.metrics()[instrument.name]
        assert tuple(point.explicit_bounds) == names.BUCKETS


def test_job_names_beyond_the_hundredth_are_other(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """Names are labels: a program that makes functions without end makes no series without end."""

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=observer)
        for number in range(MAX_JOB_NAMES + 20):

            async def worker() -> None:
                await queue.get()
                queue.task_done()

            worker.__qualname__ = f"worker_{number}"
            await queue.put(1)
            await asyncio.create_task(worker())

    run(main())
    found = points(telemetry)
    finished = {
        dict(attributes)["job.name"]: value for (name, attributes), value in found.items() if name == "jobs.finished"
    }
    assert len(finished) <= MAX_JOB_NAMES + 1
    assert finished["other"] >= 20
    assert sum(finished.values()) == MAX_JOB_NAMES + 20
    runs = [attributes for name, attributes in found if name == "job.run.duration"]
    assert len(runs) <= MAX_JOB_NAMES + 1
    assert_balanced(found)


def test_error_types_beyond_the_hundredth_are_other(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """Generated exception classes make no series without end either; every failure still counts."""

    async def handler(item: int) -> None:
        raise type(f"Generated{item}", (Exception,), {})

    async def main() -> None:
        queue: Queue[int] = Queue(name="orders", observer=observer)
        async with WorkerPool(queue, handler, workers=1):
            for item in range(130):
                await queue.put(item)

    run(main())
    types = {
        dict(attributes)["error.type"]: value
        for (name, attributes), value in points(telemetry).items()
        if name == "job.run.duration"
    }
    assert len(types) == 101
    assert types["_OTHER"][0] == 30
    assert sum(count for count, _ in types.values()) == 130


def test_a_collection_settles_what_can_never_end(telemetry: InMemoryTelemetry, observer: OtelObserver) -> None:
    """Jobs of a loop that was closed under them are cancelled in the very collection that finds them."""

    async def worker(queue: Queue[int]) -> None:
        await queue.get()
        await asyncio.Event().wait()

    queue: Queue[int] = Queue(name="orders", observer=observer)
    queue.put_nowait(1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(worker(queue))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert points(telemetry)[key("jobs.active", job__name="worker")] == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the loop is closed on purpose
    loop.close()
    found = points(telemetry)
    assert found[key("jobs.active", job__name="worker")] == 0
    assert found[key("jobs.cancelled", job__name="worker", cancel__state="running", cancel__reason="loop_closed")] == 1
    assert_balanced(found)
    del task
    gc.collect()


def test_a_queue_that_goes_while_it_is_collected_balances(
    telemetry: InMemoryTelemetry, observer: OtelObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes in one thread and is collected in another: its totals are taken for final when they are, not before."""
    queue: Queue[int] = Queue(name="orders", observer=observer)
    queue.put_nowait(1)
    meanwhile: list[dict[Key, Any]] = []
    lose = Ledger.lose

    def lose_and_be_collected(*arguments: Any) -> None:
        meanwhile.append(points(telemetry))
        lose(*arguments)

    monkeypatch.setattr(Ledger, "lose", lose_and_be_collected)
    del queue
    gc.collect()
    after = points(telemetry)
    assert len(meanwhile) == 1
    assert_balanced(after)
    assert after[key("jobs.dropped", drop__reason="collected")] == 1
