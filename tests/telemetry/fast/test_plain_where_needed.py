"""Where a provider is not the SDK's own, its own tracer is asked for each span, as if there were no fast path."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import Tracer, TracerProvider

from otel_sched import OtelObserver, Queue
from otel_sched.telemetry.fast.listener import FastListener
from otel_sched.telemetry.listener import OtelListener
from tests.chains import Chain
from tests.support.both_paths import PathTelemetry


class Asked(trace.Tracer):
    """A tracer that notes what it is asked for, and asks another."""

    def __init__(self, behind: trace.Tracer, spans: list[str]) -> None:
        self._behind = behind
        self._spans = spans

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
        """Note it."""
        self._spans.append(name)
        return self._behind.start_span(name, *args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        """Leave it to the other."""
        return self._behind.start_as_current_span(*args, **kwargs)


class Subclassed(TracerProvider):
    """A subclass, whose tracers are its own."""

    spans: list[str]

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return one that notes."""
        return Asked(super().get_tracer(*args, **kwargs), self.spans)


class Foreign(trace.TracerProvider):
    """A provider that has nothing to do with the SDK's but for what is behind it."""

    def __init__(self, behind: TracerProvider, spans: list[str]) -> None:
        self._behind = behind
        self._spans = spans

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return a tracer that notes."""
        return Asked(self._behind.get_tracer(*args, **kwargs), self._spans)


def subclassed(own: TracerProvider, spans: list[str]) -> trace.TracerProvider:
    """Make the provider one of a subclass."""
    own.__class__ = Subclassed
    own.spans = spans  # type: ignore[attr-defined]
    return own


def patched(own: TracerProvider, spans: list[str]) -> trace.TracerProvider:
    """Replace get_tracer of the SDK's own provider, as some agents do."""
    own.get_tracer = Foreign(TracerProvider(shutdown_on_exit=False), spans).get_tracer  # type: ignore[method-assign]
    return own


def subclassed_tracer(own: TracerProvider, spans: list[str]) -> trace.TracerProvider:
    """Have the SDK's own provider give out tracers of a subclass."""

    class Own(Tracer):
        def start_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
            spans.append(name)
            return super().start_span(name, *args, **kwargs)

    get_tracer = own.get_tracer

    def get_own(*args: Any, **kwargs: Any) -> trace.Tracer:
        tracer = get_tracer(*args, **kwargs)
        tracer.__class__ = Own
        return tracer

    own.get_tracer = get_own  # type: ignore[method-assign]
    return own


def listener_of(queue: Any, observer: OtelObserver) -> type:
    """Return what kind of listener a queue gets."""
    return type(observer.hub.listener(queue.ledger))


async def one_job(chain: Chain) -> None:
    """Put a job, take it, end it."""
    await chain.put("a")

    async def worker() -> None:
        await chain.work(await chain.queue.get())
        chain.queue.task_done()

    await asyncio.create_task(worker())


@pytest.mark.parametrize("make", [subclassed, Foreign, patched, subclassed_tracer])
def test_another_tracer_is_asked_for_each_span(make: Callable[[Any, list[str]], Any]) -> None:
    """A subclass, a provider of somebody else's, an agent's patch."""
    telemetry, spans = PathTelemetry(fast=True), list[str]()
    telemetry.tracer_provider = make(telemetry.tracer_provider, spans)
    chain = Chain(telemetry)  # type: ignore[arg-type]
    asyncio.run(one_job(chain))
    assert listener_of(chain.queue, chain.observer) is OtelListener
    assert [name for name in spans if name.endswith("orders")] == ["put orders", "process orders"]
    if make is not patched:
        chain.assert_tied("a")
    chain.assert_books_balance()
    telemetry.meter_provider.shutdown()


def test_no_spans_at_all_is_no_fault() -> None:
    """A provider that makes none: jobs are counted and timed."""
    telemetry = PathTelemetry(fast=True)
    telemetry.tracer_provider.shutdown()
    telemetry.tracer_provider = trace.NoOpTracerProvider()  # type: ignore[assignment]
    chain = Chain(telemetry)  # type: ignore[arg-type]
    asyncio.run(one_job(chain))
    assert listener_of(chain.queue, chain.observer) is OtelListener
    assert chain.total("otel_sched.job.run.duration", job__outcome="ok") == 1
    chain.assert_books_balance()


def test_a_subclassed_meter_provider_gets_each_measurement() -> None:
    """Spans are light all the same."""

    class Own(MeterProvider):
        pass

    telemetry = PathTelemetry(fast=True, light_metrics=False)
    telemetry.meter_provider.__class__ = Own
    chain = Chain(telemetry)  # type: ignore[arg-type]
    asyncio.run(one_job(chain))
    assert listener_of(chain.queue, chain.observer) is FastListener
    assert chain.total("otel_sched.job.wait.duration") == 1
    chain.assert_tied("a")
    telemetry.close()


def test_the_sdks_own_provider_gets_the_fast_path_unless_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default; not with fast=False; and the environment has a say where the program has none."""
    telemetry = PathTelemetry(fast=True)
    providers = telemetry.providers
    kinds = []
    for given in ({}, {"fast": False}, {"fast": True}):
        observer = OtelObserver(**providers, **given)
        kinds.append(listener_of(Queue[int](name="orders", observer=observer), observer))
    monkeypatch.setenv("OTEL_SCHED_FAST", "false")
    observer = OtelObserver(**providers)
    kinds.append(listener_of(Queue[int](name="orders", observer=observer), observer))
    assert kinds == [FastListener, OtelListener, FastListener, OtelListener]
    telemetry.close()
