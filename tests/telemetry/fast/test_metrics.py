"""`attach()`: where durations can be kept here, where not and why, and what then reaches the exporter."""

import contextlib
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import (
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from otel_sched import Queue
from otel_sched._core import names
from otel_sched._core.version import VERSION
from otel_sched.telemetry.fast import attaching, refusal
from otel_sched.telemetry.fast.attaching import attach, attached
from otel_sched.telemetry.fast.histogram import FastHistogram
from otel_sched.telemetry.fast.metrics import TICK
from otel_sched.telemetry.observer import OtelObserver
from otel_sched.telemetry.providers import SCHEMA_URL, Providers
from otel_sched.testing import wait_until_sync
from tests.conftest import ARun
from tests.support.metric_exports import CUMULATIVE, DELTA, KeepingExporter, points, provider_of, reader_of, told
from tests.support.otel_globals import as_new

SCOPE = (names.SCOPE, VERSION, SCHEMA_URL)


class OwnProvider(MeterProvider):
    """Somebody's subclass, which may do anything."""


class OwnReader(PeriodicExportingMetricReader):
    """Somebody's reader, which treats metrics in its own way."""

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        """Treat them."""


class ClosedExporter(KeepingExporter):
    """An exporter whose methods cannot be replaced."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "export":
            raise AttributeError(name)
        super().__setattr__(name, value)


def one(*, aggregation: Any = None, exporter: Any = None, **arguments: Any) -> MeterProvider:
    """Return a provider with one reader."""
    chosen = exporter or KeepingExporter(aggregation=None if aggregation is None else {Histogram: aggregation})
    return provider_of(reader_of(chosen), **arguments)


def viewed(**arguments: Any) -> MeterProvider:
    """Return a provider with one View."""
    return one(views=[View(**arguments)])


def shut_down() -> MeterProvider:
    """Return a provider that is over."""
    provider = one()
    provider.shutdown()
    return provider


def in_use() -> MeterProvider:
    """Return a provider on which somebody made a histogram of ours."""
    provider = one()
    provider.get_meter(*SCOPE).create_histogram(names.WAIT_DURATION.name)
    return provider


def sharing() -> MeterProvider:
    """Return a provider whose exporter is another one's as well."""
    exporter = KeepingExporter()
    assert attach(one(exporter=exporter))
    return one(exporter=exporter)


def unknown() -> MeterProvider:
    """Return a provider of an SDK whose readers keep elsewhere what they want."""
    reader = reader_of(KeepingExporter())
    provider = provider_of(reader)
    del reader._instrument_class_temporality
    return provider


def switched_off() -> MeterProvider:
    """Return a provider whose configurator disables our meter."""
    from opentelemetry.sdk.metrics._internal import _disable_meter_configurator

    return one(_meter_configurator=_disable_meter_configurator)


ELSEWHERE: list[tuple[str, Callable[[], Any], str]] = [
    ("none", metrics.NoOpMeterProvider, "not the SDK's own"),
    ("subclass", lambda: OwnProvider([reader_of(KeepingExporter())], shutdown_on_exit=False), "not the SDK's own"),
    ("shut down", shut_down, "shut down"),
    ("no reader", provider_of, "exactly one reader"),
    ("two readers", lambda: provider_of(*(reader_of(KeepingExporter()) for _ in range(2))), "exactly one reader"),
    ("pull reader", lambda: provider_of(InMemoryMetricReader()), "not a PeriodicExportingMetricReader"),
    ("own reader", lambda: provider_of(OwnReader(KeepingExporter(), 1e9)), "not a PeriodicExportingMetricReader"),
    ("view by name", lambda: viewed(instrument_name="otel_sched.job.*"), "a View of it"),
    ("view of all", lambda: viewed(instrument_name="*", aggregation=DropAggregation()), "a View of it"),
    ("view by type", lambda: viewed(instrument_type=Histogram), "a View of it"),
    ("view by unit", lambda: viewed(instrument_unit="s"), "a View of it"),
    ("view by scope", lambda: viewed(meter_name=names.SCOPE), "a View of it"),
    ("exponential", lambda: one(aggregation=ExponentialBucketHistogramAggregation()), "another aggregation"),
    ("dropped", lambda: one(aggregation=DropAggregation()), "another aggregation"),
    ("own bounds", lambda: one(aggregation=ExplicitBucketHistogramAggregation([1.0])), "another aggregation"),
    (
        "no extremes",
        lambda: one(aggregation=ExplicitBucketHistogramAggregation(record_min_max=False)),
        "another aggregation",
    ),
    ("exemplars of all", lambda: one(exemplar_filter=AlwaysOnExemplarFilter()), "an exemplar filter of its own"),
    ("disabled", switched_off, "configurator disables"),
    ("in use", in_use, "made on it already"),
    ("shared exporter", sharing, "another provider's metrics already"),
    ("closed exporter", lambda: one(exporter=ClosedExporter()), "is not known"),
    ("unknown SDK", unknown, "is not known"),
]


@pytest.mark.parametrize(("make", "why"), [each[1:] for each in ELSEWHERE], ids=[each[0] for each in ELSEWHERE])
def test_where_it_cannot_be_the_plain_way_stays(
    make: Callable[[], Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """False, one line that says why, and histograms of the provider's own."""
    provider = make()
    with caplog.at_level(logging.INFO, logger="otel_sched"):
        assert attach(provider) is False
    (line,) = [each for each in caplog.records if each.name == "otel_sched"]
    assert line.levelno == logging.WARNING
    assert why in line.getMessage()
    assert attached(provider) is None
    histograms = Providers(None, provider, None).histograms("orders", None)
    assert not any(isinstance(each, FastHistogram) for each in histograms)
    for each in histograms:
        each.record(1.0, {"a": "x"})


@pytest.mark.parametrize(
    "make",
    [
        one,
        lambda: viewed(instrument_name="http.*"),
        lambda: viewed(meter_name="other"),
        lambda: one(aggregation=DefaultAggregation()),
        lambda: one(aggregation=ExplicitBucketHistogramAggregation()),
    ],
    ids=["plain", "view of others", "view of another scope", "default", "explicit"],
)
def test_where_it_can_be_it_is_once(make: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """True, silently, as often as it is asked; what goes out goes out once."""
    provider = make()
    with caplog.at_level(logging.INFO, logger="otel_sched"):
        assert attach(provider)
        assert attach(provider)
    assert not caplog.records
    wait = Providers(None, provider, None).histograms("orders", None)[0]
    assert isinstance(wait, FastHistogram)
    wait.record(1.0, {"a": "x"})
    provider.force_flush()


@pytest.mark.parametrize("what", ["otlp", 5, object(), KeepingExporter()])
def test_what_is_no_provider_is_refused(what: Any) -> None:
    """A mistake of the caller's is no reason to go on in silence."""
    with pytest.raises(TypeError, match="must be a MeterProvider"):
        attach(what)


def test_without_an_argument_it_is_the_global_provider() -> None:
    """None before there is one, and then that one."""
    with as_new():
        assert attach() is False
        exporter = KeepingExporter()
        metrics.set_meter_provider(one(exporter=exporter))
        assert attach()
        assert isinstance(Providers(None, None, None).histograms("orders", None)[0], FastHistogram)


def test_without_the_sdk_it_says_so() -> None:
    """An application that has only the API is told so, and nothing breaks."""
    program = """
import logging, sys
sys.modules["opentelemetry.sdk"] = None
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from otel_sched.telemetry.fast.attaching import attach
assert attach() is False
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50.0, check=True)
    assert "there is no OpenTelemetry SDK" in done.stdout


def test_histograms_made_before_there_was_a_provider_stay_plain(caplog: pytest.LogCaptureFixture) -> None:
    """A hub that was there first records the plain way for good, and attach() does not split its series in two."""
    with as_new(), caplog.at_level(logging.INFO, logger="otel_sched"):
        early = Providers(None, None, None)
        early.histograms("orders", None)
        exporter = KeepingExporter()
        provider = one(exporter=exporter)
        metrics.set_meter_provider(provider)
        assert attach() is False
        assert "made on it already" in caplog.text
        early.histograms("orders", None)[0].record(1.0, {"a": "x"})
        provider.force_flush()
        assert [point.count for point in points(exporter.exports[-1]).values()] == [1]


def test_attached_before_it_became_global_it_leaves_earlier_histograms_alone() -> None:
    """As `configure()` does it: what was made before stays plain, and so does all else of that provider."""
    with as_new():
        early = Providers(None, None, None)
        early.histograms("orders", None)
        exporter = KeepingExporter()
        provider = one(exporter=exporter)
        assert attach(provider)
        metrics.set_meter_provider(provider)
        late = Providers(None, None, None)
        for number, each in enumerate((early, late)):
            each.histograms("orders", None)[0].record(1.0, {"hub": str(number)})
            each.histograms("other", (1.0, 2.0))[0].record(1.0, {"hub": str(number)})
        assert not isinstance(late.histograms("orders", None)[0], FastHistogram)
        provider.force_flush()
        (metric_points,) = told(exporter.exports)
        assert len(metric_points) == 4


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA], ids=["cumulative", "delta"])
def test_queues_tell_the_same_both_ways(temporality: Any, arun: ARun) -> None:
    """The metrics of real queues have the same names, scopes, attributes and counts; also with buckets of their own."""

    async def work(provider: MeterProvider) -> None:
        observer = OtelObserver(meter_provider=provider)
        for name, buckets in (("orders", None), ("mails", (0.5, 5.0))):
            queue: Queue[int] = Queue(1, name=name, observer=observer, buckets=buckets)
            for item in range(3):
                await queue.put(item)
                await queue.get()
                queue.task_done()
        provider.force_flush()
        provider.shutdown()

    def shape(fast: bool) -> list[Any]:
        exporter = KeepingExporter({Histogram: temporality})
        provider = one(exporter=exporter)
        assert not fast or attach(provider)
        arun(work(provider))
        return [
            sorted(
                (
                    str(scope.scope),
                    scope.schema_url,
                    metric.name,
                    metric.unit,
                    metric.description,
                    str(sorted(point.attributes.items())),
                    getattr(point, "count", None),
                    str(getattr(point, "explicit_bounds", None)),
                )
                for resource in export.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if "age" not in metric.name
                for point in metric.data.data_points
            )
            for export in exporter.exports
        ]

    assert shape(fast=True)[0] == shape(fast=False)[0]


def test_all_points_of_an_export_have_one_time() -> None:
    """The SDK's and ours: a back end lines them up by it. None ends before it begins."""
    exporter = KeepingExporter()
    provider = one(exporter=exporter)
    assert attach(provider)
    provider.get_meter("shop").create_counter("orders").add(1)
    for each in Providers(None, provider, None).histograms("orders", None):
        each.record(1.0, {"a": "x"})
    for _ in range(2):
        provider.force_flush()
        found = points(exporter.exports[-1]).values()
        assert len(found) == 4
        assert len({point.time_unix_nano for point in found}) == 1
        assert all(point.start_time_unix_nano <= point.time_unix_nano for point in found)


def test_each_name_of_a_queue_has_its_own_buckets() -> None:
    """A queue with buckets of its own has a scope of its own, as in the plain way."""
    exporter = KeepingExporter()
    provider = one(exporter=exporter)
    assert attach(provider)
    providers = Providers(None, provider, None)
    for name, buckets in (("orders", None), ("mails", (1.0, 2.0)), ("calls", (3.0,))):
        providers.histograms(name, buckets)[0].record(1.5, {names.QUEUE_NAME: name})
    provider.force_flush()
    found = points(exporter.exports[-1]).values()
    assert {point.attributes[names.QUEUE_NAME]: point.bucket_counts for point in found if point.count == 1} == {
        "orders": tuple(int(i == 13) for i in range(22)),
        "mails": (0, 1, 0),
        "calls": (1, 0),
    }


def test_shutdown_exports_what_came_last() -> None:
    """The reader's last collection brings our histograms too; its own thread does that."""
    exporter = KeepingExporter()
    provider = provider_of(PeriodicExportingMetricReader(exporter, 3_600_000))
    assert attach(provider)
    Providers(None, provider, None).histograms("orders", None)[0].record(1.0, {"a": "x"})
    provider.shutdown()
    (point,) = points(exporter.exports[-1]).values()
    assert point.count == 1


def test_the_readers_own_thread_brings_them() -> None:
    """Without a flush, at the reader's interval."""
    exporter = KeepingExporter()
    provider = provider_of(PeriodicExportingMetricReader(exporter, 10))
    assert attach(provider)
    Providers(None, provider, None).histograms("orders", None)[0].record(1.0, {"a": "x"})
    wait_until_sync(lambda: any(points(each) for each in exporter.exports), description="a collection")
    provider.shutdown()


def test_the_tick_never_leaves() -> None:
    """What makes the reader export is taken out; metrics of others go through as they were."""
    exporter = KeepingExporter()
    provider = one(exporter=exporter)
    assert attach(provider)
    provider.get_meter("shop").create_counter("orders").add(1)
    provider.get_meter(*SCOPE).create_counter("ours").add(1)
    Providers(None, provider, None).histograms("orders", None)[0].record(1.0, {"a": "x"})
    provider.force_flush()
    (resource,) = exporter.exports[-1].resource_metrics
    found = {scope.scope.name: [metric.name for metric in scope.metrics] for scope in resource.scope_metrics}
    assert found == {"shop": ["orders"], names.SCOPE: ["ours", names.WAIT_DURATION.name]}
    assert TICK not in str(exporter.exports)


def test_a_failure_of_ours_lets_the_rest_through(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Should our histograms not be told, then the application's metrics are all the same; the log says so once."""
    exporter = KeepingExporter()
    provider = one(exporter=exporter)
    assert attach(provider)
    provider.get_meter("shop").create_counter("orders").add(1)
    monkeypatch.setattr(attached(provider), "histograms", lambda: 1 / 0)
    for _ in range(3):
        provider.force_flush()
    assert [("orders", frozenset()) in points(each) for each in exporter.exports] == [True] * 3
    assert len([each for each in caplog.records if each.name == "otel_sched"]) == 1


def test_an_export_that_fails_fails_as_before() -> None:
    """The exporter's answer and its exceptions reach the reader."""
    exporter = KeepingExporter()
    results: list[Any] = [MetricExportResult.FAILURE, RuntimeError("no")]

    def export(*_: Any, **__: Any) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    exporter.export = export  # type: ignore[method-assign]
    provider = one(exporter=exporter)
    assert attach(provider)
    provider.get_meter("shop").create_counter("orders").add(1)
    assert provider.force_flush() is not None
    assert len(results) == 1
    with contextlib.suppress(RuntimeError):  # the reader's own way of passing it on differs by version
        provider.force_flush()
    assert results == []


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA], ids=["cumulative", "delta"])
def test_a_reader_that_is_added_later_gets_them_too(temporality: Any) -> None:
    """In its own temporality and from then on, without taking anything from the first one."""
    first, second = KeepingExporter(), KeepingExporter({Histogram: temporality})
    provider = one(exporter=first)
    assert attach(provider)
    wait = Providers(None, provider, None).histograms("orders", None)[0]
    wait.record(1.0, {"a": "x"})
    later = reader_of(second)
    provider.add_metric_reader(later)
    wait.record(2.0, {"a": "x"})
    wait.record(4.0, {"a": "y"})
    for _ in range(2):
        provider.force_flush()
        later.force_flush()
    counts = [[(point.count, point.sum) for point in points(each).values()] for each in first.exports]
    assert counts == [[(2, 3.0), (1, 4.0)]] * 2
    counts = [[(point.count, point.sum) for point in points(each).values()] for each in second.exports]
    assert counts == [[(1, 2.0), (1, 4.0)]] * (2 if temporality is CUMULATIVE else 1)  # nothing new, no export


def test_a_later_reader_that_cannot_get_them_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A pull reader lacks our durations: one warning, with the way out."""
    provider = one()
    assert attach(provider)
    provider.add_metric_reader(InMemoryMetricReader())
    (line,) = [each for each in caplog.records if each.name == "otel_sched"]
    assert line.levelno == logging.WARNING
    assert "Give all readers to MeterProvider(...)" in line.getMessage()


def test_a_provider_that_is_dropped_is_freed() -> None:
    """Nothing of ours keeps an application's provider alive."""
    provider = one()
    assert attach(provider)
    Providers(None, provider, None).histograms("orders", None)[0].record(1.0, {"a": "x"})
    gone = weakref.ref(attached(provider))
    del provider
    gc.collect()
    assert gone() is None


def test_what_moves_in_the_sdk_is_looked_at_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the look at the SDK's insides fails, the exporter is untouched."""
    exporter = KeepingExporter()
    provider = one(exporter=exporter)

    def fail(_: Any) -> Any:
        raise AttributeError("moved")

    monkeypatch.setattr(refusal, "temporality", fail)
    assert attaching.attach(provider) is False
    assert "export" not in vars(exporter)
