"""@instrument: the same function, and a span for each call, tied to whoever queued the item that it handles."""

import asyncio
import contextlib
import inspect
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, sampling
from opentelemetry.trace import SpanKind

from otel_sched import Observer, OtelObserver, Queue, WorkerPool, instrument, set_default_observer
from otel_sched._core.observer import Calls, default_observer
from otel_sched.telemetry import hub, unclaimed
from otel_sched.testing import InMemoryTelemetry
from tests.chains import Chain, ids, no_span_here
from tests.conftest import ARun
from tests.support.otel_globals import as_new


class Boom(Exception):
    """What goes wrong in these tests."""


@pytest.fixture(autouse=True)
def nothing_unclaimed() -> None:
    """Begin without a job that an earlier test took and left, in this very context, for a call to claim."""
    unclaimed.forget()


@pytest.fixture
def chain(telemetry: InMemoryTelemetry) -> Chain:
    """Give a queue with telemetry in memory."""
    return Chain(telemetry)


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes without the prefix of ours."""
    return {key.removeprefix("otel_sched."): value for key, value in (span.attributes or {}).items()}


# The function stays what it was


async def charge(order: int, *, twice: bool = False) -> int:
    """Charge an order."""
    return order * (2 if twice else 1)


def test_a_decorated_function_looks_and_works_as_before(chain: Chain, arun: ARun) -> None:
    """Name, docstring, signature, annotations, coroutine function, arguments and result."""
    decorated = instrument(observer=chain.observer)(charge)
    assert (decorated.__name__, decorated.__qualname__, decorated.__doc__) == ("charge", "charge", "Charge an order.")
    assert decorated.__module__ == charge.__module__
    assert inspect.signature(decorated) == inspect.signature(charge)
    assert inspect.iscoroutinefunction(decorated)
    assert asyncio.iscoroutinefunction(decorated) if hasattr(asyncio, "iscoroutinefunction") else True
    assert decorated.__wrapped__ is charge  # type: ignore[attr-defined]
    assert arun(decorated(4, twice=True)) == 8
    with pytest.raises(TypeError, match="order"):
        arun(decorated())  # type: ignore[call-arg]


def test_the_span_is_called_after_the_function_or_as_it_is_told(chain: Chain, arun: ARun) -> None:
    """The qualified name without <locals>, or name=; the full name in code.function.name; no process attributes."""

    class Till:
        @instrument(observer=chain.observer)
        async def take(self, coin: int) -> tuple[Any, int]:
            return self, coin

        @staticmethod
        @instrument(observer=chain.observer)
        async def give() -> int:
            return 1

        @classmethod
        @instrument(observer=chain.observer)
        async def open(cls) -> Any:
            return cls

    @instrument(name="payment", observer=chain.observer)
    async def pay() -> None: ...

    async def main() -> None:
        till = Till()
        assert await till.take(3) == (till, 3)
        assert await Till.give() == 1
        assert await Till.open() is Till
        await pay()

    arun(main())
    assert [span.name for span in chain.telemetry.spans] == ["Till.take", "Till.give", "Till.open", "payment"]
    for span in chain.telemetry.spans:
        assert span.kind is SpanKind.INTERNAL
        assert set(span.attributes or {}) == {"code.function.name"}
        assert str((span.attributes or {})["code.function.name"]).startswith("tests.test_wrap.")
        assert span.parent is None
        assert span.status.is_unset


def test_without_parentheses_and_with(arun: ARun) -> None:
    """@instrument and @instrument() are the same."""

    @instrument
    async def one() -> int:
        return 1

    @instrument()
    async def two() -> int:
        return 2

    async def main() -> list[int]:
        return [await one(), await two()]

    assert arun(main()) == [1, 2]


def plain() -> None: ...


async def generator() -> Any:
    yield 1


class Callable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("thing", [plain, lambda: None, generator, Callable, None, "charge", 5])
def test_what_is_no_coroutine_function_is_refused(thing: Any) -> None:
    """TypeError that shows what was given, with and without parentheses."""
    if thing is not None:  # instrument(None) is instrument()
        with pytest.raises(TypeError, match=r"@instrument takes a coroutine function \(async def\), got"):
            instrument(thing)
    with pytest.raises(TypeError, match=r"@instrument takes a coroutine function"):
        instrument(name="x")(thing)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 1}, TypeError, "name must be a string, got 1"),
        ({"observer": "x"}, TypeError, "observer must be an otel_sched Observer, got 'x'"),
    ],
)
def test_bad_arguments_are_refused_where_they_are_given(arguments: Any, error: Any, message: str) -> None:
    """Before there is a function to decorate."""
    with pytest.raises(error, match=message):
        instrument(**arguments)


# Whose child it is


def test_inside_a_job_the_call_is_part_of_it(chain: Chain, arun: ARun) -> None:
    """A child of the process span, with a link to the producer and the job's id; spans inside are its children."""
    handle = instrument(name="handle", observer=chain.observer)(chain.work)

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            item = await chain.queue.get()
            before = trace.get_current_span()
            await handle(item)
            assert trace.get_current_span() is before
            chain.queue.task_done()

        await asyncio.create_task(worker())

    arun(main())
    process, put, call = chain.one("process orders"), chain.one("put orders"), chain.one("handle")
    assert call.kind is SpanKind.INTERNAL
    assert ids(call.parent) == ids(process.context)
    assert [ids(link.context) for link in call.links] == [ids(put.context)]
    assert ids(chain.one("charge a").parent) == ids(call.context)
    assert attributes_of(call)["job.id"] == attributes_of(process)["job.id"]
    assert attributes_of(call)["queue.name"] == "orders"
    assert chain.outcomes() == ["ok"]


def test_a_pools_handler_may_be_decorated(chain: Chain, arun: ARun) -> None:
    """The pool accepts it, and calls the job after the function itself."""

    @instrument(observer=chain.observer)
    async def handle(item: Any) -> None:
        await chain.work(item)

    async def main() -> None:
        async with WorkerPool(chain.queue, handle):
            await chain.put("a")

    arun(main())
    process = chain.one("process orders")
    assert attributes_of(process)["job.name"] == "handle"
    assert ids(chain.one("charge a").parent) == ids(
        next(span for span in chain.telemetry.spans if span.name.endswith("handle")).context
    )


def test_a_job_that_was_only_waited_for_is_claimed_by_the_call_that_gets_its_item(
    telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """Its span is the process span: kind, name, link, job id and outcome; it can be claimed once."""
    chain = Chain(telemetry, process_spans="never")
    handle = instrument(name="handle", observer=chain.observer)(chain.work)

    async def main() -> None:
        await chain.put("a")
        item = await chain.queue.get()
        assert no_span_here()
        await handle(item)
        assert no_span_here()
        await handle(item)
        chain.queue.task_done()

    arun(main())
    process, put = chain.one("process orders"), chain.one("put orders")
    assert process.kind is SpanKind.CONSUMER
    assert [ids(link.context) for link in process.links] == [ids(put.context)]
    found = attributes_of(process)
    assert found["job.id"] == attributes_of(put)["job.id"]
    assert (found["queue.name"], found["job.name"], found["job.outcome"]) == ("orders", "handle", "ok")
    again = chain.one("handle")
    assert (again.kind, list(again.links)) == (SpanKind.INTERNAL, [])
    assert chain.total("otel_sched.jobs.finished", job__outcome="unobserved") == 1


def test_a_job_whose_item_is_gone_cannot_be_claimed_by_one_in_its_place(
    telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """Memory is used again: the next object may have the id of the last one, and is still another."""
    chain = Chain(telemetry, process_spans="never")

    class Item:
        pass

    @instrument(name="handle", observer=chain.observer)
    async def handle(item: Item) -> None: ...

    async def main() -> None:
        for _ in range(20):
            await chain.queue.put(Item())
            await chain.queue.get()
            await handle(Item())

    arun(main())
    assert chain.processed() == []
    assert len(chain.named("handle")) == 20


def test_a_call_with_another_item_claims_nothing(telemetry: InMemoryTelemetry, arun: ARun) -> None:
    """A wrong link would be worse than none."""
    chain = Chain(telemetry, process_spans="never")
    handle = instrument(name="handle", observer=chain.observer)(chain.work)

    async def main() -> None:
        await chain.put("a", "b")
        await chain.queue.get()
        await handle("something else")
        chain.queue.task_done()
        await handle("a")

    arun(main())
    assert chain.processed() == []
    assert [len(span.links) for span in chain.named("handle")] == [0, 0]


def test_inside_a_span_of_the_users_own_the_claimed_call_stays_in_that_trace(chain: Chain, arun: ARun) -> None:
    """A request that awaits a reply: the call is the request's child and is linked to the reply's producer."""
    handle = instrument(name="handle", observer=chain.observer)(chain.work)

    async def main() -> None:
        await chain.put("a")
        with chain.tracer.start_as_current_span("asking"):
            await handle(await chain.queue.get())

    arun(main())
    process = chain.one("process orders")
    assert ids(process.parent) == ids(chain.one("asking").context)
    assert [ids(link.context) for link in process.links] == [ids(chain.one("put orders").context)]


def test_outside_of_any_job_the_call_is_a_span_of_the_users_trace(chain: Chain, arun: ARun) -> None:
    """A child of what is current, or a root."""
    call = instrument(name="call", observer=chain.observer)(charge)

    async def main() -> None:
        await call(1)
        with chain.tracer.start_as_current_span("request"):
            await call(2)

    arun(main())
    root, child = chain.named("call")
    assert root.parent is None
    assert ids(child.parent) == ids(chain.one("request").context)


def test_calls_at_once_do_not_mix(chain: Chain, arun: ARun) -> None:
    """gather of calls in one asyncio task each: everyone's inner span is its own call's child."""

    @instrument(name="call", observer=chain.observer)
    async def call(item: int) -> None:
        await asyncio.sleep(0)
        await chain.work(item)

    async def main() -> None:
        await asyncio.gather(*(call(item) for item in range(5)))

    arun(main())
    calls = {ids(span.context) for span in chain.named("call")}
    assert {ids(chain.one(f"charge {item}").parent) for item in range(5)} == calls
    assert len(calls) == 5


# How it ends


def test_an_exception_comes_through_and_is_on_the_span(chain: Chain, arun: ARun) -> None:
    """Status, error.type and, outside a job, one exception event; the same exception object arrives."""
    error = Boom("no money")

    @instrument(name="call", observer=chain.observer)
    async def call() -> None:
        raise error

    with pytest.raises(Boom) as raised:
        arun(call())
    assert raised.value is error
    span = chain.one("call")
    assert (span.status.is_ok, span.status.description) == (False, "no money")
    assert str((span.attributes or {})["error.type"]).endswith("test_wrap.Boom")
    assert [event.name for event in span.events] == ["exception"]


def test_inside_a_job_the_exception_is_told_once(chain: Chain, arun: ARun) -> None:
    """The job's record has the stack; the call's span has the status and type alone."""

    @instrument(name="call", observer=chain.observer)
    async def call(item: Any) -> None:
        raise Boom

    async def main() -> None:
        async with WorkerPool(chain.queue, call):
            await chain.put("a")

    arun(main())
    span = chain.one("call")
    assert span.events == ()
    assert not span.status.is_ok
    assert len(chain.lines("failed")) == 1
    assert chain.outcomes() == ["error"]


@pytest.mark.parametrize(
    ("error", "outcome", "failed"),
    [(TimeoutError, "timeout", True), (asyncio.CancelledError, "cancelled", False), (Boom, "error", True)],
)
def test_the_outcome_of_a_claimed_job(
    error: type[BaseException], outcome: str, failed: bool, telemetry: InMemoryTelemetry, arun: ARun
) -> None:
    """On the span that stands for the run that nobody saw."""
    chain = Chain(telemetry, process_spans="never")

    @instrument(observer=chain.observer)
    async def handle(item: Any) -> None:
        raise error

    async def main() -> None:
        await chain.put("a")
        item = await chain.queue.get()
        with contextlib.suppress(error):
            await handle(item)

    arun(main())
    span = chain.one("process orders")
    assert attributes_of(span)["job.outcome"] == outcome
    assert span.status.is_unset != failed


def test_a_cancelled_call_ends_its_span_without_an_error(chain: Chain, arun: ARun) -> None:
    """Status unset, no error.type; the cancellation comes through."""

    @instrument(name="call", observer=chain.observer)
    async def call() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    arun(main())
    span = chain.one("call")
    assert span.status.is_unset
    assert "error.type" not in (span.attributes or {})


def test_a_function_decorated_twice_has_two_spans(chain: Chain, arun: ARun) -> None:
    """One inside the other; nothing worse."""
    once = instrument(name="inner", observer=chain.observer)(charge)
    twice = instrument(name="outer", observer=chain.observer)(once)
    assert arun(twice(2, twice=True)) == 4
    assert ids(chain.one("inner").parent) == ids(chain.one("outer").context)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_call_in_which_its_job_ends_leaves_nothing_current(sampled: bool, arun: ARun) -> None:
    """task_done() within the decorated function: the job's ended span is nobody's parent afterwards."""
    telemetry = InMemoryTelemetry(None if sampled else sampling.ALWAYS_OFF)
    chain = Chain(telemetry)

    @instrument(name="call", observer=chain.observer)
    async def call(item: Any) -> None:
        chain.queue.task_done()

    async def main() -> None:
        await chain.put("a")

        async def worker() -> None:
            await call(await chain.queue.get())
            assert no_span_here()

        await asyncio.create_task(worker())

    arun(main())
    assert chain.total("otel_sched.jobs.finished", job__outcome="ok") == 1
    if sampled:
        assert chain.one("call").end_time is not None
    telemetry.close()


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise LookupError("no text")


def test_an_exception_without_a_text_ends_the_span_all_the_same(chain: Chain, arun: ARun) -> None:
    """Its __str__ raises: the call's span and the job's span end, with status and type."""

    @instrument(name="call", observer=chain.observer)
    async def call(item: Any) -> None:
        raise Unprintable

    async def main() -> None:
        with pytest.raises(Unprintable):
            await call(1)
        assert no_span_here()
        async with WorkerPool(chain.queue, call, workers=1):
            await chain.put("a")

    arun(main())
    spans = [*chain.named("call"), *chain.processed()]
    assert len(spans) == 3
    assert all(not span.status.is_ok for span in spans)
    assert chain.outcomes() == ["error"]


# Who is told


def test_without_an_sdk_a_call_is_just_a_call(arun: ARun, monkeypatch: pytest.MonkeyPatch) -> None:
    """No span is made; and once the providers are set, calls of the same function have spans."""
    with as_new():
        monkeypatch.setattr(hub, "_hubs", type(hub._hubs)())
        call = instrument(name="call", observer=OtelObserver())(charge)
        telemetry = InMemoryTelemetry()

        async def main() -> None:
            await call(1)
            trace.set_tracer_provider(telemetry.tracer_provider)
            await call(2)

        arun(main())
        assert [span.name for span in telemetry.spans] == ["call"]
        telemetry.close()


class Breaks(Observer):
    """An observer whose hooks of calls raise."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.left: list[Any] = []

    def wrap(self, name: str, function: str) -> Calls:
        if "wrap" in self.broken:
            raise LookupError("telemetry")
        observer = self

        class Told(Calls):
            def entered(self, items: Any) -> Any:
                if "entered" in observer.broken:
                    raise LookupError("telemetry")
                return "token"

            def left(self, token: Any, error: BaseException | None) -> None:
                observer.left.append((token, error))
                if "left" in observer.broken:
                    raise LookupError("telemetry")

        return Told()


@pytest.mark.parametrize("broken", ["wrap", "entered", "left"])
def test_an_observer_that_raises_costs_no_call(broken: str, arun: ARun, caplog: pytest.LogCaptureFixture) -> None:
    """Logged; the function's own result and exceptions come through."""
    observer = Breaks(broken)

    @instrument(observer=observer)
    async def call(fails: bool) -> int:
        if fails:
            raise Boom
        return 1

    assert arun(call(False)) == 1
    with pytest.raises(Boom):
        arun(call(True))
    assert "LookupError: telemetry" in caplog.text


def test_every_call_that_was_entered_is_left(arun: ARun) -> None:
    """With its token, and the exception that ended it."""
    observer = Breaks()
    error = Boom()

    @instrument(observer=observer)
    async def call(fails: bool) -> None:
        if fails:
            raise error

    arun(call(False))
    with pytest.raises(Boom):
        arun(call(True))
    assert observer.left == [("token", None), ("token", error)]


def test_where_nobody_wants_to_know_the_function_is_given_back() -> None:
    """An observer that does not wrap costs nothing at all."""
    assert instrument(observer=Observer())(charge) is charge
    assert instrument(name="x", observer=Observer())(charge) is charge


def test_the_default_observer_can_be_replaced() -> None:
    """set_default_observer() reaches queues and functions made from then on; anything else is refused."""
    before = default_observer()
    try:
        set_default_observer(Observer())
        assert instrument(charge) is charge
        queue: Queue[int] = Queue(name="orders")
        assert not queue.ledger.following
        with pytest.raises(TypeError, match="expected an otel_sched Observer, got 'x'"):
            set_default_observer("x")  # type: ignore[arg-type]
    finally:
        set_default_observer(before)
