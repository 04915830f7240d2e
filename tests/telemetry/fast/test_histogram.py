"""Histograms that are kept here say what the SDK's own would have said, to the last bit."""

import itertools
import json
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from otel_sched._core import names
from otel_sched.telemetry.fast.attaching import attach
from otel_sched.telemetry.fast.histogram import FOLD_AT, FastHistogram, LocalSeries, held
from otel_sched.telemetry.fast.metrics import FastMetrics
from otel_sched.telemetry.providers import Providers
from tests.support.metric_exports import (
    CUMULATIVE,
    DELTA,
    KeepingExporter,
    context_of,
    points,
    provider_of,
    reader_of,
    told,
)

TEMPORALITIES = pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA], ids=["cumulative", "delta"])

values = st.one_of(
    st.sampled_from(names.BUCKETS),
    st.floats(min_value=0.0, max_value=5000.0),
    st.floats(),
    st.integers(min_value=-2, max_value=4000),
)
steps = st.one_of(
    st.just("collect"),
    st.tuples(
        st.integers(0, 2),  # which histogram
        values,
        st.sampled_from([None, {}, {"a": "x"}, {"a": "y"}, {"a": "x", "b": "y"}, {"b": "y", "a": "x"}]),
        st.sampled_from(["sampled", "dropped", "none"]),
    ),
)


class Kept:
    """One provider with the histograms that `Providers` gives for it, fast or plain, and what it exported."""

    def __init__(self, temporality: Any = CUMULATIVE, *, fast: bool = True, buckets: Any = None, **reader: Any) -> None:
        self.exporter = KeepingExporter({Histogram: temporality})
        self.provider = provider_of(reader_of(self.exporter, **reader))
        if fast:
            assert attach(self.provider)
        self.histograms = Providers(None, self.provider, None).histograms("orders", buckets)
        assert all(isinstance(each, FastHistogram) is fast for each in self.histograms)
        self.wait = self.histograms[0]

    def collect(self) -> dict[tuple[str, frozenset[tuple[str, Any]]], Any]:
        """Export now and return the points that went out."""
        before = len(self.exporter.exports)
        self.provider.force_flush()
        return points(self.exporter.exports[-1]) if len(self.exporter.exports) > before else {}

    def only(self) -> Any:
        """Export now and return the only point that went out."""
        (point,) = self.collect().values()
        return point


def play(kept: Kept, program: list[Any]) -> list[dict[Any, Any]]:
    """Do what the program says, and return what was told."""
    for number, step in enumerate(program, 1):
        if step == "collect":
            kept.collect()
            continue
        which, value, attributes, span = step
        context = set_span_in_context(INVALID_SPAN) if span == "none" else context_of(number, sampled=span == "sampled")
        kept.histograms[which].record(value, attributes, context=context)
    kept.collect()
    kept.provider.shutdown()
    return told(kept.exporter.exports)


@TEMPORALITIES
@pytest.mark.parametrize("buckets", [None, (0.5,), (-1.0, 0.0, 2.5, 1000.0)], ids=["default", "one", "own"])
@settings(deadline=None, max_examples=60)
@given(program=st.lists(steps, max_size=40))
def test_any_program_tells_what_the_sdk_tells(temporality: Any, buckets: Any, program: list[Any]) -> None:
    """Counts, sums, extremes, buckets and exemplars are equal, export by export, whatever was recorded when."""
    fast = play(Kept(temporality, buckets=buckets), program)
    assert fast == play(Kept(temporality, fast=False, buckets=buckets), program)


@TEMPORALITIES
def test_thousands_of_measurements_add_up_to_the_last_bit(temporality: Any) -> None:
    """Folding in between changes neither the order of addition nor anything else."""
    program: list[Any] = [(0, 0.1 * (i % 97), {"a": "xy"[i % 2]}, "none") for i in range(5 * FOLD_AT)]
    program.insert(3 * FOLD_AT + 7, "collect")
    assert play(Kept(temporality), program) == play(Kept(temporality, fast=False), program)


def test_who_measures_often_appends_to_lists() -> None:
    """What is appended to a series' lists counts as a measurement; the lists stay the same objects."""
    kept = Kept()
    series = kept.wait.series({"a": "x"})
    append, example = series.values.append, series.exemplars.extend
    for i in range(3 * FOLD_AT):
        append(0.001)
        if len(series.values) >= FOLD_AT:
            series.fold()
            assert not series.values
        if i == 5:
            example((0.001, 1_000, 7, 8))
    append(4.0)
    point = kept.only()
    assert (point.count, point.max, point.attributes) == (3 * FOLD_AT + 1, 4.0, {"a": "x"})
    assert [(each.trace_id, each.span_id, each.time_unix_nano) for each in point.exemplars] == [(7, 8, 1_000)]
    append(4.0)
    assert kept.only().count == 3 * FOLD_AT + 2


def test_the_same_attributes_are_the_same_series() -> None:
    """The order of attributes makes no difference, and a dict that is changed later does no harm."""
    kept = Kept()
    attributes = {"a": "x", "b": "y"}
    series = kept.wait.series(attributes)
    assert kept.wait.series({"b": "y", "a": "x"}) is series
    attributes["a"] = "z"
    assert series.attributes == {"a": "x", "b": "y"}


def test_a_series_without_measurements_is_not_told() -> None:
    """As the SDK has no point for attributes that nobody recorded with."""
    kept = Kept()
    kept.wait.series({"a": "x"})
    assert kept.collect() == {}


def test_delta_intervals_follow_one_another() -> None:
    """Each interval begins where the one before ended, also for attributes that were new in between."""
    kept = Kept(DELTA)
    kept.wait.record(1.0, {"a": "x"})
    first = kept.only()
    assert first.start_time_unix_nano <= first.time_unix_nano
    kept.wait.record(1.0, {"a": "y"})
    second = kept.only()
    assert second.start_time_unix_nano == first.time_unix_nano
    assert kept.collect() == {}


def test_cumulative_points_keep_their_start_and_go_on_without_news() -> None:
    """As the SDK's: the start stays, the time moves, an exemplar is told once."""
    kept = Kept()
    kept.wait.record(1.0, {"a": "x"}, context=context_of(5))
    first, second = kept.only(), kept.only()
    assert (second.start_time_unix_nano, second.count) == (first.start_time_unix_nano, 1)
    assert second.time_unix_nano >= first.time_unix_nano
    assert (len(first.exemplars), len(second.exemplars)) == (1, 0)


def test_without_a_context_the_current_span_counts() -> None:
    """A measurement is an example of the span that is current, if that is sampled."""
    kept = Kept()
    with trace.use_span(trace.get_current_span(context_of(9))):
        kept.wait.record(1.0)
    kept.wait.record(2.0)
    (exemplar,) = kept.only().exemplars
    assert (exemplar.trace_id, exemplar.value) == (9, 1.0)


def test_a_provider_without_exemplars_gets_none() -> None:
    """The filter always_off is obeyed."""
    exporter = KeepingExporter()
    provider = provider_of(reader_of(exporter), exemplar_filter=AlwaysOffExemplarFilter())
    assert attach(provider)
    wait = Providers(None, provider, None).histograms("orders", None)[0]
    wait.record(1.0, {"a": "x"}, context=context_of(5))
    provider.force_flush()
    (point,) = points(exporter.exports[-1]).values()
    assert (point.count, list(point.exemplars)) == (1, [])


@pytest.mark.parametrize("limit", [None, 3], ids=["default", "own"])
def test_attribute_sets_beyond_the_limit_share_one_series(limit: int | None) -> None:
    """2000 or what the reader says, and then the SDK's own overflow series: no name of a job fills the memory."""
    reader = {} if limit is None else {"cardinality_limits": {Histogram: limit}}
    program = [(0, 1.0, {"a": str(i % 2010)}, "none") for i in range(2050)]
    fast = play(Kept(**reader), program)
    assert fast == play(Kept(fast=False, **reader), program)
    assert len(fast[-1]) == (limit or 2000) + 1


@TEMPORALITIES
def test_threads_lose_nothing_to_collections(temporality: Any) -> None:
    """Threads that append and fold while others collect: each measurement is told, once."""
    kept = Kept(temporality)
    series = kept.wait.series({"a": "x"})
    each, threads = 30 * FOLD_AT, 4

    def produce() -> None:
        append = series.values.append
        for _ in range(each):
            append(1.0)
            if len(series.values) >= FOLD_AT:
                series.fold()

    told_before = 0
    producers = [threading.Thread(target=produce) for _ in range(threads)]
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        found = kept.collect()
        for point in found.values():
            assert point.count == point.sum == sum(point.bucket_counts)
            told_before = told_before + point.count if temporality is DELTA else point.count
    for producer in producers:
        producer.join()
    for point in kept.collect().values():
        told_before = told_before + point.count if temporality is DELTA else point.count
    assert told_before == each * threads


def test_what_comes_in_the_middle_of_a_fold_is_kept() -> None:
    """Between the copy of a list and its emptying another thread may append: that stays for the next fold."""

    class Raced(list[Any]):
        """A list to which somebody appends as soon as it was copied."""

        def __getitem__(self, key: Any) -> Any:
            copied = super().__getitem__(key)
            if isinstance(key, slice):
                self.extend((2.0, 1_000, 6, 6) if len(copied) == 4 else (2.0,))
            return copied

    kept = Kept()
    series = kept.wait.series({"a": "x"})
    series.values, series.exemplars = Raced([1.0]), Raced([1.0, 1_000, 5, 5])
    series.fold()
    assert (series.values, series.exemplars) == ([2.0], [2.0, 1_000, 6, 6])
    point = kept.only()
    assert (point.count, point.sum, [each.trace_id for each in point.exemplars]) == (2, 3.0, [5, 6])


def test_threads_that_ask_for_a_series_at_once_get_the_same_one() -> None:
    """None of them measures into a series that nobody collects."""
    kept = Kept()
    barrier = threading.Barrier(8)

    def produce() -> None:
        barrier.wait(10.0)
        for i in range(200):
            kept.wait.record(1.0, {"a": str(i)})

    producers = [threading.Thread(target=produce) for _ in range(8)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    assert [point.count for point in kept.collect().values()] == [8] * 200


def test_a_fold_waits_for_nobody() -> None:
    """While somebody else folds or collects, who measures goes on; what waits is folded later."""
    kept = Kept()
    series = kept.wait.series({"a": "x"})
    with held():
        for _ in range(2 * FOLD_AT):
            kept.wait.record(1.0, {"a": "x"})
        assert len(series.values) == 2 * FOLD_AT
    assert kept.only().count == 2 * FOLD_AT


FORKING = """
import json, os, sys, threading
from otel_sched.telemetry.fast.histogram import FOLD_AT
from tests.telemetry.fast.test_histogram import Kept

kept = Kept()
series = kept.wait.series({"a": "x"})
stop = threading.Event()

def produce():
    while not stop.is_set():
        series.values.extend([1.0] * FOLD_AT)
        series.fold()

producer = threading.Thread(target=produce)
producer.start()
told = []
for _ in range(20):
    out, into = os.pipe()
    child = os.fork()
    if not child:
        series.values.append(2.0)
        point = kept.only()
        os.write(into, json.dumps([point.count, point.sum, point.max]).encode())
        os._exit(0)
    os.close(into)
    told.append(json.loads(os.read(out, 1000)))
    os.close(out)
    os.waitpid(child, 0)
stop.set()
producer.join()
last = kept.only()
print(json.dumps([told, last.count, last.sum, last.max]))
"""


def test_a_forked_child_goes_on_from_whole_counts() -> None:
    """However busy the parent is, a child finds no lock held and no half-made counts; the parent's stay its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=50.0,
        check=True,
    )
    told_by_children, count, total, highest = json.loads(done.stdout)
    assert len(told_by_children) == 20
    for child_count, child_total, child_highest in told_by_children:
        assert child_count % FOLD_AT == 1
        assert (child_total, child_highest) == (child_count + 1, 2.0)
    assert (count % FOLD_AT, total, highest) == (0, count, 1.0)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), float("-inf")])
def test_what_the_sdk_would_not_take_is_not_taken(value: float) -> None:
    """A measurement that is no duration changes nothing."""
    kept = Kept()
    kept.wait.record(value, {"a": "x"})
    assert kept.collect() == {}


def test_a_finalizer_that_measures_during_a_fold_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may strike there, and what it destroys may be a coroutine that ends its job."""
    histogram = FastHistogram((1.0, 2.0), [object()])
    series = histogram.series({"outcome": "ok"})
    series.values.append(0.5)
    by_bucket = LocalSeries._by_bucket

    def struck(self: LocalSeries, *args: Any) -> list[int]:
        monkeypatch.undo()
        other = histogram.series({"outcome": "error"})
        other.values.append(1.5)
        other.fold()
        return by_bucket(self, *args)

    monkeypatch.setattr(LocalSeries, "_by_bucket", struck)
    series.fold()
    with held():
        for each in histogram.all_series():
            each.fold_locked()
    counts = {each.attributes["outcome"]: each.tallies[0].counts for each in histogram.all_series()}
    assert counts == {"ok": [1, 0, 0], "error": [0, 1, 0]}


def test_a_reader_counts_from_when_it_came() -> None:
    """What waited before is the others'; a series that was made while it came is no exception."""
    readers: list[Any] = [object()]
    histogram = FastHistogram((1.0,), readers)
    series = histogram.series({})
    series.values.append(0.5)
    readers.append(object())
    series.fold()
    series.values.append(1.5)
    series.fold()
    readers.append(object())
    series.fold()
    assert [tally.counts for tally in series.tallies] == [[1, 1], [0, 1], None]


def test_readers_may_come_while_histograms_are_made() -> None:
    fast = FastMetrics(2000, True)
    instrument = names.WAIT_DURATION
    stop = threading.Event()

    def make() -> None:
        for number in itertools.count():
            if stop.is_set():
                break
            fast.histogram(instrument, (1.0,), {"number": number}).series({"a": "x"}).values.append(0.5)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for _ in range(30):
            fast.join(object(), AggregationTemporality.CUMULATIVE)
    finally:
        stop.set()
        thread.join()
    for _, histogram in fast.histograms():
        for series in histogram.all_series():
            with held():
                series.fold_locked()
            assert len(series.tallies) == 30
