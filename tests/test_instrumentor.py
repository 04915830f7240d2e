"""Queues of a program that nobody touches are watched, and left as they were when that ends."""

import asyncio
import collections
import gc
import heapq
import inspect
import logging
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import otel_sched
from otel_sched._core import callsite
from otel_sched._core.observed import Observed
from otel_sched.instrumentor import EXCLUDE, INCLUDE, OtelSchedInstrumentor
from otel_sched.testing import InMemoryTelemetry
from tests.conftest import ARun

PLAIN_INIT = asyncio.Queue.__init__
PLAIN_RECORD = logging.Logger.makeRecord
SITE_PACKAGES = "/opt/app/lib/python3.11/site-packages"


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Whatever a test does, the next one finds Python as it was."""
    callsite.reset()
    yield
    OtelSchedInstrumentor().uninstrument()
    assert asyncio.Queue.__init__ is PLAIN_INIT
    assert logging.Logger.makeRecord is PLAIN_RECORD
    callsite.reset()


@pytest.fixture
def instrumentor(telemetry: InMemoryTelemetry) -> OtelSchedInstrumentor:
    """The instrumentor, at work with providers of the test's own."""
    made = OtelSchedInstrumentor()
    made.instrument(**telemetry.providers)
    return made


def module(name: str, source: str, filename: str = "app.py") -> Any:
    """Run *source* as a module of that name and file."""
    made = types.ModuleType(name)
    made.__file__ = filename
    exec(compile(source, filename, "exec"), made.__dict__)
    return made


def name_of(queue: "asyncio.Queue[Any]") -> str | None:
    """The name under which a queue is observed; None for a plain one."""
    return queue.ledger.name if isinstance(queue, Observed) else None


async def pass_one(queue: "asyncio.Queue[Any]") -> Any:
    """Put an item and work on it, as a program would."""
    await queue.put("item")
    item = await queue.get()
    queue.task_done()
    await queue.join()
    return item


def test_a_queue_of_the_application_is_observed_under_the_place_that_creates_it(
    instrumentor: OtelSchedInstrumentor, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """A program that never heard of us gets a span for each job."""
    app = module("shop.main", "import asyncio\nclass Shop:\n  def __init__(self): self.orders = asyncio.Queue()")

    async def main() -> None:
        queue = app.Shop().orders
        assert isinstance(queue, asyncio.Queue)
        assert await pass_one(queue) == "item"

    arun(main())
    assert [span.name for span in telemetry.spans] == ["process shop.main.Shop.orders"]


class Heap(asyncio.Queue[Any]):
    """A container of its own, in an attribute of its own."""

    def _init(self, maxsize: int) -> None:
        self.heap: list[Any] = []

    def _put(self, item: Any) -> None:
        heapq.heappush(self.heap, item)

    def _get(self) -> Any:
        return heapq.heappop(self.heap)

    def qsize(self) -> int:
        return len(self.heap)

    def empty(self) -> bool:
        return not self.heap


class Goes(asyncio.Queue[Any]):
    """Goes on after the base constructor: attributes under names of ours, another container, a first item."""

    def __init__(self, label: str) -> None:
        super().__init__(5)
        self.name = label
        self.stats: Any = {"made": 1}
        self._queue: Any = collections.deque()
        self.put_nowait("item")
        self.get_nowait()
        self.task_done()


class Comes(asyncio.Queue[Any]):
    """Needs what it sets before the base constructor."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        super().__init__()

    def _put(self, item: Any) -> None:
        self.seen.append(item)
        super()._put(item)  # type: ignore[misc]


class Slotted(asyncio.Queue[Any]):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.extra = 1


class Twice(asyncio.Queue[Any]):
    def __init__(self) -> None:
        super().__init__()
        super().__init__(3)


class Equal(asyncio.Queue[Any]):
    """Compares by something else than identity, and has no hash."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Wrapping(asyncio.Queue[Any]):
    async def get(self) -> Any:
        return await super().get()

    async def put(self, item: Any) -> None:
        await super().put(item)


KINDS: list[Callable[[], "asyncio.Queue[Any]"]] = [
    asyncio.Queue,
    asyncio.PriorityQueue,
    asyncio.LifoQueue,
    asyncio.Queue[int],
    Heap,
    lambda: Goes("goes"),
    Comes,
    Slotted,
    Twice,
    Equal,
    Wrapping,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_queue_is_observed_and_works(
    instrumentor: OtelSchedInstrumentor,
    telemetry: InMemoryTelemetry,
    arun: ARun,
    kind: Callable[[], "asyncio.Queue[Any]"],
) -> None:
    """Watching begins inside the base constructor; a subclass's own goes on and finds all in order."""

    async def main() -> int:
        queue = kind()
        assert name_of(queue) == f"{__name__}.{main.__qualname__.replace('.<locals>', '')}.queue"
        assert await pass_one(queue) == "item"
        assert queue.empty()
        instrumentor.uninstrument()
        assert await pass_one(queue) == "item"
        return 2 if isinstance(queue, Goes) else 1

    jobs = arun(main())
    assert len(telemetry.spans) == jobs


def test_a_subclass_that_goes_on_keeps_what_it_set(instrumentor: OtelSchedInstrumentor) -> None:
    """Its own attributes win, also under names that our queues have."""
    queue = Goes("mine")
    assert (queue.name, queue.stats, queue.maxsize) == ("mine", {"made": 1}, 5)
    assert type(queue).__name__ == "Goes"
    assert isinstance(queue, Goes)
    assert Slotted().extra == 1


def test_a_class_that_cannot_be_subclassed_stays_plain(
    instrumentor: OtelSchedInstrumentor, caplog: pytest.LogCaptureFixture, arun: ARun
) -> None:
    """A queue that we cannot watch works as ever, and the log says so once."""

    class Final(asyncio.Queue[Any]):
        def __init_subclass__(cls) -> None:
            raise TypeError("Final is final")

    async def main() -> None:
        for _ in range(3):
            queue = Final()
            assert name_of(queue) is None
            assert await pass_one(queue) == "item"

    arun(main())
    assert [record.message for record in caplog.records] == ["a queue could not be watched; there may be more"]


def test_a_constructor_that_raises_is_the_callers_affair(instrumentor: OtelSchedInstrumentor) -> None:
    """Wrong arguments and a subclass that fails raise as they always did, and leave nothing behind."""

    class Fails(asyncio.Queue[Any]):
        def __init__(self) -> None:
            super().__init__()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Fails()
    with pytest.raises(TypeError, match="unexpected keyword"):
        asyncio.Queue(size=3)  # type: ignore[call-arg]
    assert str(inspect.signature(asyncio.Queue)) == "(maxsize=0)"
    gc.collect()
    assert not instrumentor._watched


def test_our_own_queues_are_left_alone(instrumentor: OtelSchedInstrumentor) -> None:
    """A queue of ours is observed by itself, under the name that it was given."""
    kinds = (otel_sched.Queue, otel_sched.PriorityQueue, otel_sched.LifoQueue)
    queues: list[Any] = [kind(name="mine") for kind in kinds]
    assert [type(queue) for queue in queues] == list(kinds)
    assert [name_of(queue) for queue in queues] == ["mine"] * 3
    assert not instrumentor._watched


def test_the_programs_own_watch_takes_over(
    instrumentor: OtelSchedInstrumentor, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """A program that watches its queue itself gets the name and the arguments it says, and keeps them."""
    queue: Any = asyncio.Queue()
    assert name_of(queue) != "orders"
    otel_sched.watch(queue, name="orders", correlation="link", observer=otel_sched.OtelObserver())
    assert name_of(queue) == "orders"
    assert queue.ledger.options.correlation == "link"
    assert arun(pass_one(queue)) == "item"
    assert telemetry.spans == ()
    instrumentor.uninstrument()
    assert name_of(queue) == "orders"


def test_queues_that_exist_already_are_left_alone(telemetry: InMemoryTelemetry) -> None:
    """What was made before instrument() stays plain."""
    before: asyncio.Queue[Any] = asyncio.Queue()
    OtelSchedInstrumentor().instrument(**telemetry.providers)
    assert name_of(before) is None
    assert name_of(asyncio.Queue()) is not None


LIBRARY = "import asyncio\ndef make(): return asyncio.Queue()"


def library(name: str) -> Any:
    """A module that is installed as a package."""
    return module(name, LIBRARY, f"{SITE_PACKAGES}/{name.replace('.', '/')}.py")


def test_the_queues_of_libraries_are_left_out(
    instrumentor: OtelSchedInstrumentor, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """A library's queues, the standard library's included, are nobody's backlog, and use up no name."""

    async def main() -> None:
        for future in asyncio.as_completed([asyncio.sleep(0, 1), asyncio.sleep(0, 2)]):
            assert await future in (1, 2)

    arun(main())
    assert name_of(library("driver.pool").make()) is None
    assert telemetry.spans == ()
    assert not instrumentor._watched
    assert not callsite._names


@pytest.mark.parametrize(
    ("include", "exclude", "seen"),
    [
        (None, None, {"shop.main"}),
        ("driver", None, {"shop.main", "driver.pool", "driver.other"}),
        ("driver.*", None, {"shop.main", "driver.pool", "driver.other"}),
        ("driver.pool", None, {"shop.main", "driver.pool"}),
        ("*.pool, *.unknown", None, {"shop.main", "driver.pool", "drivers.pool"}),
        (["driver", "drivers"], None, {"shop.main", "driver.pool", "driver.other", "drivers.pool"}),
        ("*", "driver", {"shop.main", "drivers.pool"}),
        ("driver", "driver.pool", {"shop.main", "driver.other"}),
        (None, "shop", set()),
        ((), ("shop.m?in",), set()),
        ("driver", "*", set()),
        ("", " , ", {"shop.main"}),
    ],
)
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_include_adds_and_exclude_wins(
    telemetry: InMemoryTelemetry,
    monkeypatch: pytest.MonkeyPatch,
    include: Any,
    exclude: Any,
    seen: set[str],
    way: str,
) -> None:
    """Patterns of module names stand for what they match and all below; the environment says the same."""
    if way == "argument":
        OtelSchedInstrumentor().instrument(**telemetry.providers, include=include, exclude=exclude)
    else:
        for variable, value in ((INCLUDE, include), (EXCLUDE, exclude)):
            if value is not None:
                monkeypatch.setenv(variable, value if isinstance(value, str) else ",".join(value))
        OtelSchedInstrumentor().instrument(**telemetry.providers)
    modules = [module("shop.main", LIBRARY), *map(library, ("driver.pool", "driver.other", "drivers.pool"))]
    assert {made.__name__ for made in modules if name_of(made.make())} == seen


def test_an_argument_wins_over_the_environment(telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an empty one: it says that nothing is to be excluded."""
    monkeypatch.setenv(EXCLUDE, "shop")
    OtelSchedInstrumentor().instrument(**telemetry.providers, exclude=[])
    assert name_of(module("shop.main", LIBRARY).make()) == "shop.main.make"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"include": 3}, TypeError, "include must be strings"),
        ({"exclude": [3]}, TypeError, "exclude must be strings"),
        ({"exclude": b"shop"}, TypeError, "exclude must be strings"),
        ({"include": "./shop/main.py"}, ValueError, "patterns of module names"),
        ({"include": ["shop,mail"]}, ValueError, "patterns of module names"),
        ({"include": [""]}, ValueError, "patterns of module names"),
        ({"settle": "never"}, ValueError, "settle must be one of"),
        ({"name": "x"}, TypeError, "takes no argument 'name'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says what is wrong and nothing is instrumented; under the command it goes to the log."""
    instrumentor = OtelSchedInstrumentor()
    with pytest.raises(error, match=message):
        instrumentor.instrument(**arguments)
    assert asyncio.Queue.__init__ is PLAIN_INIT
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert caplog.records == []
    instrumentor.instrument(**arguments, skip_dep_check=True)
    if "name" in arguments:  # for some other instrumentor
        assert instrumentor.is_instrumented_by_opentelemetry
    else:
        assert message in caplog.text
        assert asyncio.Queue.__init__ is PLAIN_INIT


def test_a_wrong_pattern_in_the_environment_is_left_out(
    telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception would keep every instrumentation from being loaded: the rest of the patterns holds."""
    monkeypatch.setenv(EXCLUDE, "./shop/main.py, mail")
    OtelSchedInstrumentor().instrument(**telemetry.providers)
    assert f"{EXCLUDE}: './shop/main.py' is no pattern" in caplog.text
    assert name_of(module("mail", LIBRARY).make()) is None
    assert name_of(module("shop.main", LIBRARY).make()) is not None


def test_options_reach_every_queue(telemetry: InMemoryTelemetry) -> None:
    """What `watch()` takes, instrument() takes for all."""
    OtelSchedInstrumentor().instrument(**telemetry.providers, correlation="link", producer_spans=False)
    queue: Any = asyncio.Queue()
    assert queue.ledger.options.correlation == "link"
    assert queue.ledger.options.producer_spans is False


def test_uninstrument_puts_everything_back(instrumentor: OtelSchedInstrumentor) -> None:
    """Constructor, log records, and every queue that is alive, in class and attributes."""
    queue: Any = asyncio.Queue()
    heap = Heap()
    expected = set(vars(queue)) - {each for each in vars(queue) if each.startswith("_otel_")}
    instrumentor.uninstrument()
    assert asyncio.Queue.__init__ is PLAIN_INIT
    assert logging.Logger.makeRecord is PLAIN_RECORD
    assert (type(queue), type(heap)) == (asyncio.Queue, Heap)
    assert set(vars(queue)) == expected == set(vars(asyncio.Queue()))
    assert name_of(asyncio.Queue()) is None
    assert not instrumentor._watched


def test_queues_in_use_survive_both_ways(
    instrumentor: OtelSchedInstrumentor, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """Items inside, consumers and producers that wait, and work in hand go on as if nothing had happened."""

    async def main() -> None:
        empty: asyncio.Queue[int] = asyncio.Queue()
        full: asyncio.Queue[int] = asyncio.Queue(2)
        getter = asyncio.create_task(empty.get())
        full.put_nowait(1)
        full.put_nowait(2)
        putter = asyncio.create_task(full.put(3))
        await asyncio.sleep(0)
        instrumentor.uninstrument()
        assert full.qsize() == 2
        empty.put_nowait(7)
        assert await getter == 7
        assert await full.get() == 1
        await putter
        assert [full.get_nowait(), full.get_nowait()] == [2, 3]
        for queue, times in ((empty, 1), (full, 3)):
            for _ in range(times):
                queue.task_done()
            await queue.join()
            with pytest.raises(ValueError, match="too many times"):
                queue.task_done()
        instrumentor.instrument(**telemetry.providers)
        assert name_of(full) is None
        again: asyncio.Queue[int] = asyncio.Queue()
        assert await pass_one(again) == "item"

    arun(main())
    assert [span.name.rpartition(".")[2] for span in telemetry.spans][-1] == "again"


def test_work_in_hand_ends_unobserved(
    instrumentor: OtelSchedInstrumentor, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """A job that runs when observation ends leaves no span open, and the worker goes on with it."""

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        queue.put_nowait(1)
        queue.put_nowait(2)
        await queue.get()
        assert otel_sched.current_job() is not None
        instrumentor.uninstrument()
        assert otel_sched.current_job() is None
        queue.task_done()
        assert await queue.get() == 2
        queue.task_done()
        await queue.join()

    arun(main())
    [span] = telemetry.spans
    assert (span.attributes or {})["otel_sched.job.outcome"] == "unobserved"


def test_it_may_be_turned_on_and_off_at_will(
    telemetry: InMemoryTelemetry, caplog: pytest.LogCaptureFixture, arun: ARun
) -> None:
    """Twice on is once on, twice off is off, and the tenth time works as the first; no metric is doubled."""
    instrumentor = OtelSchedInstrumentor()
    instrumentor.uninstrument()
    assert caplog.records == []
    queues: list[Any] = []
    for _ in range(10):
        instrumentor.instrument(**telemetry.providers)
        assert instrumentor.is_instrumented_by_opentelemetry
        instrumentor.instrument(**telemetry.providers)
        assert "instrumented already" in caplog.text
        caplog.clear()
        queues.append(asyncio.Queue())
        arun(pass_one(queues[-1]))
        instrumentor.uninstrument()
        instrumentor.uninstrument()
        assert not instrumentor.is_instrumented_by_opentelemetry
        assert asyncio.Queue.__init__ is PLAIN_INIT
    assert len(telemetry.spans) == 10
    assert caplog.records == []
    points = telemetry.metrics()["otel_sched.jobs.put"]
    assert [point.value for point in points] == [10]


def test_somebody_elses_wrapper_is_respected(telemetry: InMemoryTelemetry) -> None:
    """A wrapper that came after ours stays when we go, ours falls silent inside it, and we can come back."""
    instrumentor = OtelSchedInstrumentor()
    instrumentor.instrument(**telemetry.providers)
    ours = asyncio.Queue.__init__
    made: list[Any] = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> None:
        ours(self, *args, **kwargs)
        made.append(self)

    try:
        asyncio.Queue.__init__ = theirs  # type: ignore[method-assign]
        assert name_of(asyncio.Queue()) is not None
        instrumentor.uninstrument()
        assert asyncio.Queue.__init__ is theirs
        assert name_of(asyncio.Queue()) is None
        instrumentor.instrument(**telemetry.providers)
        assert name_of(asyncio.Queue()) is not None
        assert len(made) == 3
        instrumentor.uninstrument()
        assert asyncio.Queue.__init__ is theirs
    finally:
        asyncio.Queue.__init__ = PLAIN_INIT  # type: ignore[method-assign]


def test_a_queue_that_cannot_be_put_back_does_not_keep_the_others(
    instrumentor: OtelSchedInstrumentor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure is logged, and the rest is restored."""
    broken: Any = asyncio.Queue()
    sound: Any = asyncio.Queue()

    def unwatch(queue: Any) -> None:
        if queue is broken:
            raise RuntimeError("broken")
        otel_sched.unwatch(queue)

    monkeypatch.setattr("otel_sched.instrumentor.unwatch", unwatch)
    instrumentor.uninstrument()
    assert type(sound) is asyncio.Queue
    assert [record.message for record in caplog.records] == ["a queue could not be put back"]
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_no_queue_is_kept_alive(instrumentor: OtelSchedInstrumentor, arun: ARun) -> None:
    """A queue that the program lets go of is gone, and so is our note of it."""

    async def main() -> "weakref.ref[Any]":
        queue: asyncio.Queue[Any] = asyncio.Queue()
        await pass_one(queue)
        return weakref.ref(queue)

    reference = arun(main())
    gc.collect()
    assert reference() is None
    assert not instrumentor._watched


def test_queues_are_made_in_many_threads_at_once(instrumentor: OtelSchedInstrumentor) -> None:
    """Each thread's loop has queues of its own; none is missed, and all are put back."""
    made: list[Any] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        made.extend(asyncio.Queue() for _ in range(100))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name_of(queue) is not None for queue in made} == {True}
    assert len(instrumentor._watched) == 800
    instrumentor.uninstrument()
    assert {type(queue) for queue in made} == {asyncio.Queue}


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Records]]:
    """A logger of the application's, and what it writes."""
    logger = logging.getLogger("shop.worker")
    handler = Records()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger, handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def test_a_worker_that_logs_and_swallows_its_exception_has_failed(
    instrumentor: OtelSchedInstrumentor,
    telemetry: InMemoryTelemetry,
    log: tuple[logging.Logger, Records],
    arun: ARun,
) -> None:
    """The commonest worker there is: its job's outcome is the exception that it logged."""

    async def main() -> None:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        for number in (1, 0):
            jobs.put_nowait(number)
        for _ in range(2):
            number = await jobs.get()
            try:
                _ = 1 / number
            except ZeroDivisionError:
                log[0].exception("job %d failed", number)
            finally:
                jobs.task_done()

    arun(main())
    spans = telemetry.spans
    assert [(span.attributes or {})["otel_sched.job.outcome"] for span in spans] == ["ok", "error"]
    assert (spans[1].attributes or {})["error.type"] == "ZeroDivisionError"
    [record] = log[1].records
    assert record.__dict__["trace_id"] == format(spans[1].context.trace_id, "032x")
    assert record.__dict__["span_id"] == format(spans[1].context.span_id, "016x")


def test_log_records_carry_their_job_and_nothing_else_changes(
    instrumentor: OtelSchedInstrumentor, log: tuple[logging.Logger, Records], arun: ARun
) -> None:
    """Fields are added where a job runs; an `extra` of the same name is the application's and wins."""
    logger, handler = log

    async def main() -> None:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        logger.info("before")
        jobs.put_nowait(1)
        await jobs.get()
        logger.info("inside")
        logger.info("own", extra={"queue": "mine", "attempt": 7})
        jobs.task_done()
        logger.info("after")

    arun(main())
    before, inside, own, after = (record.__dict__ for record in handler.records)
    assert inside["queue"].endswith(".main.jobs")
    assert inside["job_id"]
    assert (own["queue"], own["attempt"]) == ("mine", 7)
    assert own["job_id"] == inside["job_id"]
    for plain in (before, after):
        assert not {"queue", "job_id", "trace_id"} & set(plain)


def test_it_is_an_instrumentor_as_others_know_them(instrumentor: OtelSchedInstrumentor) -> None:
    """One per process, no dependencies, and all of the interface of opentelemetry-instrumentation's."""
    base = pytest.importorskip("opentelemetry.instrumentation.instrumentor").BaseInstrumentor
    assert OtelSchedInstrumentor() is instrumentor
    assert list(instrumentor.instrumentation_dependencies()) == []
    public = {name for name in vars(base) if not name.startswith("_")}
    assert public <= set(dir(instrumentor))


def test_the_instrumentor_loads_no_sdk() -> None:
    """Its module can be imported where the API is all there is."""
    code = "import sys, otel_sched.instrumentor; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
