"""The public API as type checkers see it: checked by mypy --strict and pyright (`make lint`), never run.

Each use is one that a reader of the documentation would write. What must be an error carries an ignore, and both
checkers report one that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

import otel_sched
from otel_sched import (
    CancelReason,
    ConfigurationError,
    Job,
    LifoQueue,
    OtelObserver,
    OtelSchedError,
    Outcome,
    PriorityQueue,
    Queue,
    QueueShutDown,
    Stats,
    Telemetry,
    WorkerPool,
    configure,
    current_job,
    instrument,
    unwatch,
    watch,
)
from otel_sched.testing import (
    InMemoryTelemetry,
    Logs,
    RecordedJob,
    RecordingObserver,
    Spans,
    VirtualLoop,
    assert_loop_never_blocked,
    assert_no_leaked_jobs,
    run,
    virtual_time,
    wait_until,
    wait_until_sync,
)


@dataclass(order=True)
class Order:
    """What the shop of these examples sells."""

    number: int


# Queues: generic drop-ins.


async def queues_are_generic_in_their_items() -> None:
    orders: Queue[Order] = Queue(maxsize=100, name="orders")
    await orders.put(Order(1))
    orders.put_nowait(Order(2))
    assert_type(await orders.get(), Order)
    assert_type(orders.get_nowait(), Order)
    orders.put_nowait("no order")  # type: ignore[arg-type]
    assert_type(Queue[int](), Queue[int])
    assert_type(await PriorityQueue[tuple[int, str]](name="mail").get(), tuple[int, str])
    assert_type(await LifoQueue[bytes](10).get(), bytes)
    orders.task_done()
    await orders.join()
    orders.shutdown()
    orders.shutdown(immediate=True)


def ours_can_stand_wherever_asyncios_can() -> list[asyncio.Queue[int]]:
    def old_code(queue: asyncio.Queue[int]) -> int:
        return queue.qsize() + queue.maxsize + queue.empty() + queue.full()

    old_code(Queue[int]())
    priorities: asyncio.PriorityQueue[int] = PriorityQueue()
    stack: asyncio.LifoQueue[int] = LifoQueue()
    return [Queue[int](), priorities, stack]


def telemetry_arguments_are_checked() -> None:
    Queue[int](
        0,
        name="orders",
        settle="next_get",
        process_spans="always",
        correlation="link",
        producer_spans=False,
        carry="baggage",
        buckets=[0.1, 1.0],
        observer=OtelObserver(),
        clock=VirtualLoop().time,
    )
    Queue[int](settle="sometimes")  # type: ignore[arg-type]
    Queue[int](0, "orders")  # type: ignore[call-arg]


def stats_is_a_frozen_snapshot(queue: Queue[int]) -> None:
    stats = queue.stats()
    assert_type(stats, Stats)
    assert_type(stats.name, str)
    assert_type(stats.capacity, int | None)
    assert_type(stats.outcomes, dict[str, int])
    assert_type(stats.oldest_age, float)
    assert_type([stats.size, stats.put, stats.taken, stats.active, stats.finished, stats.dropped], list[int])
    stats.put = 3  # type: ignore[misc]


async def the_three_verbs_of_a_broker(queue: Queue[Order]) -> None:
    job = await queue.take()
    assert_type(job, Job[Order])
    assert_type(job.item, Order)
    queue.settle(job, Outcome.OK)


class Jobs(asyncio.Queue[bytes]):
    """A subclass of the application's."""

    def peek(self) -> bytes:
        """Be a method of its own."""
        return b""


async def a_watched_queue_has_stats_and_can_have_a_pool(shop: "Shop") -> None:
    orders = watch(asyncio.Queue[Order](), name="orders")
    assert_type(await orders.get(), Order)
    assert_type(orders.stats(), Stats)
    WorkerPool(orders, shop.sell)
    plain: asyncio.Queue[Order] = orders
    plain.task_done()
    watch([1, 2, 3])  # type: ignore[arg-type]


def a_queue_that_is_watched_where_it_stands_keeps_its_type() -> None:
    jobs = Jobs()
    watch(jobs, settle="task_done", correlation="parent")
    assert_type(jobs.peek(), bytes)
    assert_type(unwatch(jobs), Jobs)


# Jobs.


def what_a_job_tells() -> None:
    job = current_job()
    assert_type(job, Job[Any] | None)
    if job is None:
        return
    assert_type([job.name, job.queue, job.id], list[str])
    assert_type(job.attempt, int)
    assert_type(job.outcome, Outcome | None)
    assert_type(job.reason, CancelReason | None)
    assert_type(job.error, BaseException | None)
    assert_type(job.wait, float)
    outcome: str = Outcome.OK
    assert outcome == "ok"


# instrument(): the signature stays.


@instrument
async def resize(image: bytes, *, width: int = 800) -> bytes:
    """Be decorated bare."""
    return image[:width]


@instrument(name="charge")
async def charge(order: Order, attempts: int = 3) -> str:
    """Be decorated with arguments."""
    return f"{order.number} in {attempts}"


class Shop:
    """Methods can be decorated too."""

    @instrument
    async def sell(self, order: Order) -> int:
        """Be a method."""
        return order.number


async def an_instrumented_function_keeps_its_signature(shop: Shop) -> None:
    assert_type(await resize(b"..."), bytes)
    assert_type(await resize(b"...", width=3), bytes)
    assert_type(await charge(Order(1), attempts=2), str)
    assert_type(await shop.sell(Order(1)), int)
    await resize("...")  # type: ignore[arg-type]
    await resize(b"...", height=3)  # type: ignore[call-arg]
    handler: Callable[[Order], Coroutine[Any, Any, str]] = charge
    await handler(Order(2))


def a_plain_function_is_refused() -> None:
    def plain(order: Order) -> int:
        return order.number

    instrument(plain)  # type: ignore[arg-type]


# WorkerPool.


class Handler:
    """An object with an async __call__ is a handler."""

    async def __call__(self, order: Order) -> None:
        """Handle one order."""


async def pools_take_every_kind_of_handler(orders: Queue[Order], shop: Shop) -> None:
    async with WorkerPool(orders, charge, workers=8, name="till", grace=5.0) as pool:
        assert_type(pool, WorkerPool[Order])
        pool.resize(2)
        await pool.join()
        pool.stats()
    WorkerPool(orders, shop.sell)
    WorkerPool(orders, Handler())
    WorkerPool(orders, functools.partial(charge, attempts=1))
    WorkerPool(PriorityQueue[Order](), Handler(), grace=None)
    later = WorkerPool(orders, charge)
    later.start()
    await later.stop()


# configure() and the errors.


async def configure_returns_a_handle() -> None:
    telemetry = configure(service_name="shop", endpoint="http://localhost:4318", protocol="http/protobuf")
    assert_type(telemetry, Telemetry)
    assert_type(await telemetry.flush(), bool)
    assert_type(await telemetry.shutdown(timeout=2.0), bool)
    assert_type(telemetry.close(), bool)
    async with configure(sampling_ratio=0.1, headers={"authorization": "..."}) as handle:
        assert_type(handle, Telemetry)
    configure("shop")  # type: ignore[call-arg]


def errors_are_what_their_names_say() -> None:
    error: OtelSchedError = ConfigurationError("no")
    value_error: ValueError = ConfigurationError("no")
    shut: Exception = QueueShutDown()
    print(error, value_error, shut)


def a_misspelt_name_is_an_error() -> None:
    otel_sched.Quue()  # type: ignore[attr-defined]


# The test kit.


async def the_test_kit_keeps_types() -> None:
    async def answer() -> int:
        return 42

    assert_type(run(answer()), int)
    assert_type(await wait_until(lambda: [1], timeout=1.0, description="one"), list[int])
    assert_type(wait_until_sync(lambda: "x"), str)
    assert_type(VirtualLoop().time(), float)
    telemetry = InMemoryTelemetry()
    assert_type(telemetry.spans.named("process orders").with_outcome(Outcome.ERROR), Spans)
    span = telemetry.spans.one()
    telemetry.spans.linked_to(span).none()
    print(span.name)
    assert_type(telemetry.logs.of_span(span).at_least(30), Logs)
    assert_type(telemetry.metric("otel_sched.jobs.put", queue="orders").value, float)
    Queue[int](observer=telemetry.observer)
    with RecordingObserver().as_default() as recorder, telemetry.as_default():
        assert_type(recorder, RecordingObserver)
    assert_type(recorder.jobs("orders").in_state("ended").one(), RecordedJob)
    assert_type(recorder.outcomes(), dict[str, int])


async def assertions_decorate_and_surround() -> None:
    @assert_loop_never_blocked(0.05)
    @assert_no_leaked_jobs(allow_waiting=["orders"], grace=1.0)
    async def answer(number: int) -> int:
        return number

    assert_type(await answer(1), int)
    await answer("1")  # type: ignore[arg-type]
    assert_type(virtual_time(answer)(1), int)
    with assert_loop_never_blocked(), assert_no_leaked_jobs():
        pass
    async with assert_no_leaked_jobs(allow_waiting=True):
        pass
