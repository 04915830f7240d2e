"""What is seen of the queues: readiness, numbers for autoscalers, and the pace they are worked at."""

import asyncio
import gc
import math
import weakref
from typing import Any

import pytest

from otel_sched import Observer, OtelObserver, Queue, WorkerPool, watch
from otel_sched.health import HealthApp, Objective
from otel_sched.health.pace import KEPT, Odometer, Pace, Reading, backlog_seconds
from otel_sched.health.queues import Queues
from otel_sched.testing import InMemoryTelemetry, run
from tests.conftest import ARun
from tests.health.asking import ask

SILENT = Observer()


async def failing(app: HealthApp) -> list[str]:
    """Return the reasons that /readyz has, and hold its status against them."""
    reply = await ask(app, "/readyz")
    reasons: list[str] = reply.json["reasons"]
    assert reply.status == (503 if reasons else 200)
    assert reply.json["status"] == ("failing" if reasons else "ok")
    return reasons


def test_a_process_without_queues_is_ready(arun: ARun) -> None:
    """Nothing was asked of it."""
    assert arun(failing(HealthApp())) == []


def test_a_queue_that_is_shut_down_takes_no_jobs(arun: ARun) -> None:
    """On every Python, and for every kind of queue; one that is gone is no matter any more."""

    async def main() -> None:
        app = HealthApp()
        orders, mails = Queue[int](name="orders"), Queue[int](name="mails")
        assert await failing(app) == []
        orders.shutdown()
        assert await failing(app) == ["queue 'orders' is shut down: it takes no more jobs"]
        assert await failing(HealthApp(queues=["mails"])) == []
        del orders
        gc.collect()
        assert await failing(app) == []
        assert mails.empty()

    arun(main())


def test_a_required_queue_has_to_exist(arun: ARun) -> None:
    """A misspelt name would else be an objective that always holds."""

    async def main() -> None:
        app = HealthApp(queues=["mails"], objectives={"orders": Objective(oldest_age=1)})
        assert await failing(app) == ["queue 'mails' does not exist (yet)", "queue 'orders' does not exist (yet)"]
        kept = [Queue[int](name="orders"), watch(asyncio.Queue[int](), name="mails")]
        assert await failing(app) == []
        assert len(kept) == 2

    arun(main())


def test_jobs_that_wait_too_long_make_it_unready() -> None:
    """At the objective it is ready still; beyond it the answer has both numbers."""

    async def main() -> None:
        now = asyncio.get_running_loop().time
        orders = Queue[int](name="orders", clock=now)
        app = HealthApp(objectives={"orders": Objective(oldest_age=30)}, clock=now)
        orders.put_nowait(1)
        await asyncio.sleep(30)
        assert await failing(app) == []
        await asyncio.sleep(0.5)
        assert await failing(app) == ["queue 'orders': the oldest job has waited 30.5 s, more than 30 s"]
        await orders.get()
        assert await failing(app) == []

    run(main())


def test_a_backlog_that_takes_too_long_makes_it_unready() -> None:
    """Counted in seconds at the pace of the last moments, not in jobs."""

    async def handle(_: int) -> None:
        await asyncio.sleep(1)

    async def main() -> None:
        now = asyncio.get_running_loop().time
        orders = Queue[int](name="orders", clock=now)
        app = HealthApp(objectives={"orders": Objective(backlog=10)}, clock=now, window=10)
        async with WorkerPool(orders, handle, workers=2, grace=None) as pool:
            for number in range(100):
                orders.put_nowait(number)
            await asyncio.sleep(10.5)
            assert await failing(app) == ["queue 'orders': the 78 waiting jobs take 40.95 s, more than 10 s"]
            pool.resize(8)
            await asyncio.sleep(7)
            assert await failing(app) == []
            await pool.join()

    run(main())


@pytest.mark.parametrize("limits", [{}, {"oldest_age": None}])
def test_an_objective_without_a_limit_is_refused(limits: Any) -> None:
    """It would hold for ever."""
    with pytest.raises(ValueError, match="needs a limit"):
        Objective(**limits)


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_a_limit_has_to_be_a_time(limit: float) -> None:
    """More than nothing, and less than for ever."""
    with pytest.raises(ValueError, match="backlog must be more than 0 s and finite"):
        Objective(backlog=limit)


def test_a_limit_has_to_be_a_number() -> None:
    """Not a string from the environment."""
    with pytest.raises(TypeError, match="oldest_age must be a number of seconds, got '30'"):
        Objective(oldest_age="30")  # type: ignore[arg-type]


def test_scale_has_each_queue_and_all_together() -> None:
    """The numbers of each under its name; sums of what adds up and the worst of what does not."""

    async def handle(_: int) -> None:
        await asyncio.sleep(4)

    async def main() -> None:
        now = asyncio.get_running_loop().time
        orders, mails = Queue[int](name="orders", clock=now), Queue[int](name="mails", clock=now)
        app = HealthApp(clock=now, window=10)
        async with WorkerPool(orders, handle, workers=4, grace=None) as pool:
            for number in range(15):
                orders.put_nowait(number)
            mails.put_nowait(1)
            await ask(app, "/scale")
            await asyncio.sleep(10)
            reply = (await ask(app, "/scale")).json
            assert reply["queues"]["orders"] == {
                "size": 3,
                "oldest_age_seconds": 10.0,
                "backlog_seconds": 3.75,
                "utilization": 1.0,
                "active": 4,
                "workers": 4,
                "jobs_per_second": 0.8,
            }
            assert reply["queues"]["mails"] == {
                "size": 1,
                "oldest_age_seconds": 10.0,
                "backlog_seconds": 10.0,
                "utilization": None,
                "active": 0,
                "workers": None,
                "jobs_per_second": 0.0,
            }
            assert reply["all"] == {
                "size": 4,
                "oldest_age_seconds": 10.0,
                "backlog_seconds": 10.0,
                "utilization": 1.0,
                "active": 4,
                "workers": 4,
            }
            await pool.join()
            assert (await ask(app, "/scale", query="queue=orders")).json["utilization"] == 0.0

    run(main())


def test_scale_of_no_queue_is_zero(arun: ARun) -> None:
    """An autoscaler that asks before the first queue is made reads a number."""
    reply = arun(ask(HealthApp(), "/scale")).json
    assert reply == {
        "queues": {},
        "all": {
            "size": 0,
            "oldest_age_seconds": 0,
            "backlog_seconds": 0,
            "utilization": None,
            "active": 0,
            "workers": None,
        },
    }


def test_scale_of_one_queue_is_flat(arun: ARun) -> None:
    """A name with dots needs no escaping in a path to the value then."""

    async def main() -> None:
        queue = Queue[int](name="shop.orders")
        queue.put_nowait(1)
        app = HealthApp()
        reply = (await ask(app, "/scale", query="queue=shop.orders")).json
        assert (reply["queue"], reply["size"]) == ("shop.orders", 1)
        missing = await ask(app, "/scale", query="queue=mails")
        assert missing.status == 404
        assert missing.json["reasons"] == ["there is no such queue; there are shop.orders"]
        assert (await ask(app, "/scale", query="format=xml")).status == 400

    arun(main())


def test_scale_as_external_metrics(arun: ARun) -> None:
    """Kubernetes' own shape: quantities as strings in thousandths, and no item for what is not known."""

    async def main() -> None:
        queue = Queue[int](name="orders")
        queue.put_nowait(1)
        reply = (await ask(HealthApp(), "/scale", query="format=external&queue=orders")).json
        assert reply["kind"] == "ExternalMetricValueList"
        assert reply["apiVersion"] == "external.metrics.k8s.io/v1beta1"
        values = {item["metricName"]: item["value"] for item in reply["items"]}
        assert values["otel_sched_size"] == "1000m"
        assert values.keys() == {
            "otel_sched_size",
            "otel_sched_oldest_age_seconds",
            "otel_sched_backlog_seconds",
            "otel_sched_active",
        }
        assert {item["metricLabels"]["queue"] for item in reply["items"]} == {"orders"}

    arun(main())


def test_queues_of_one_name_are_one(arun: ARun) -> None:
    """Sizes add up, ages take the maximum, as in every metric."""

    async def main() -> None:
        first, second = Queue[int](name="orders"), Queue[int](name="orders")
        first.put_nowait(1)
        second.put_nowait(2)
        assert (await ask(HealthApp(), "/scale")).json["queues"]["orders"]["size"] == 2

    arun(main())


def test_looking_keeps_no_queue_and_no_job_alive() -> None:
    """A queue that is gone leaves its totals, and nothing of its jobs."""

    class Item:
        pass

    async def main() -> None:
        queues = Queues(30.0, asyncio.get_running_loop().time)
        queue, item = Queue[Item](name="orders", observer=SILENT), Item()
        queue.put_nowait(item)
        assert queues.look().live["orders"].size == 1
        gone = [weakref.ref(queue), weakref.ref(item), weakref.ref(queue.ledger)]
        del queue, item
        gc.collect()
        look = queues.look()
        assert look.live == {}
        assert look.totals["orders"].put == 1
        gc.collect()
        assert [each() for each in gone] == [None, None, None]
        assert queues.look().totals["orders"].put == 1

    run(main())


def test_what_ran_in_a_loop_that_is_closed_has_ended(telemetry: InMemoryTelemetry) -> None:
    """asyncio calls nobody back there; what waits in the queue waits on, for another loop may take it."""
    queue = Queue[int](name="orders", observer=OtelObserver(**telemetry.providers))
    app = HealthApp()
    for number in range(3):
        queue.put_nowait(number)

    async def take() -> None:
        await queue.get()
        await asyncio.sleep(60)

    async def main() -> None:
        tasks.append(asyncio.ensure_future(take()))
        await asyncio.sleep(0)
        assert (await ask(app, "/scale", query="queue=orders")).json["active"] == 1

    tasks: list[asyncio.Future[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    reply = asyncio.run(ask(app, "/scale", query="queue=orders")).json
    assert (reply["active"], reply["size"]) == (0, 2)
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_the_pace_is_that_of_the_window() -> None:
    """Jobs that ended before it do not count."""
    odometer = Odometer(10.0)
    assert odometer.read(Reading(0.0, 0, 0)) == Pace()
    assert odometer.read(Reading(0.5, 9, 9)) == Pace()  # too early to say
    assert odometer.read(Reading(10.0, 100, 100)) == Pace(10.0, 10.0)
    assert odometer.read(Reading(20.0, 120, 110)) == Pace(1.0, 10.0)
    assert odometer.read(Reading(30.0, 120, 110)) == Pace(0.0, 10.0)


def test_a_consumer_without_task_done_has_a_pace_too() -> None:
    """What it takes counts, as long as nothing was ever seen to end."""
    odometer = Odometer(10.0)
    odometer.read(Reading(0.0, 0, 0))
    assert odometer.read(Reading(5.0, 50, 0)) == Pace(10.0, 5.0)


def test_a_clock_that_runs_backwards_makes_no_pace() -> None:
    """A clock of the user's may; there is nothing to say then until it is where it was."""
    odometer = Odometer(10.0)
    odometer.read(Reading(100.0, 10, 10))
    assert odometer.read(Reading(50.0, 20, 20)) == Pace()
    assert odometer.read(Reading(105.0, 35, 35)) == Pace(5.0, 5.0)


def test_however_often_it_is_read_few_readings_are_kept() -> None:
    """A probe each millisecond costs no more memory than one each second."""
    odometer = Odometer(10.0)
    for millisecond in range(60_000):
        pace = odometer.read(Reading(millisecond / 1000, millisecond, millisecond))
    assert pace.rate == pytest.approx(1000.0)
    assert 10.0 <= pace.span < 11.0
    assert len(odometer._readings) <= KEPT + 2


@pytest.mark.parametrize(
    ("size", "oldest", "pace", "seconds"),
    [
        (0, 0.0, Pace(), 0.0),
        (0, 0.0, Pace(0.0, 30.0), 0.0),
        (6, 9.0, Pace(2.0, 30.0), 3.0),
        (6, 9.0, Pace(), 9.0),
        (6, 9.0, Pace(0.0, 30.0), 180.0),
    ],
    ids=["empty", "empty and idle", "at a pace", "before there is one", "nothing ends"],
)
def test_the_backlog_is_always_a_number(size: int, oldest: float, pace: Pace, seconds: float) -> None:
    """An autoscaler can do nothing without one: where nothing ends, it is an estimate from below."""
    assert backlog_seconds(size, oldest, pace) == seconds
