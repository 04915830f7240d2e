"""The same workload tells the same on the plain path and on the fast one, field by field: plain is the oracle."""

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from otel_sched import watch
from otel_sched._core import names
from tests.chains import Chain
from tests.conftest import ARun
from tests.support.both_paths import PathTelemetry
from tests.support.compare import assert_same, timeless
from tests.support.programs import Line, Program, Put, Step
from tests.support.random_programs import INSIDE, SAMPLERS, Sdk, programs, sdks, told_by
from tests.telemetry import test_chain

BREAKS_THE_TRACER = "test_an_observer_that_fails_is_taken_out_and_the_work_goes_on"
"""It puts a broken tracer where the plain path alone looks for one: there is nothing to compare."""


def cases() -> Iterator[Any]:
    """Yield every case of the chain, with the arguments that it is parametrised by."""
    for name, test in vars(test_chain).items():
        marks = getattr(test, "pytestmark", [])
        skipped = any(mark.name == "skipif" and mark.args[0] for mark in marks)
        if not name.startswith("test_") or name == BREAKS_THE_TRACER or skipped:
            continue
        axes = [list(arguments_of(mark)) for mark in marks if mark.name == "parametrize"]
        if "chain" in inspect.signature(test).parameters:
            axes.append([{"chain": "drop-in"}, {"chain": "watched"}])
        for chosen in itertools.product(*axes):
            arguments = {key: value for each in chosen for key, value in each.items()}
            said = "-".join([name.removeprefix("test_"), *map(str, arguments.values())])
            yield pytest.param(test, arguments, id=said)


def arguments_of(mark: Any) -> Iterator[dict[str, Any]]:
    """Yield the arguments that one `parametrize` stands for."""
    given_names, values = mark.args[:2]
    split = [each.strip() for each in given_names.split(",")] if isinstance(given_names, str) else list(given_names)
    for value in values:
        yield dict(zip(split, [value] if len(split) == 1 else value, strict=True))


def told_by_case(test: Callable[..., None], arguments: dict[str, Any], fast: bool, loop: dict[str, Any]) -> Any:
    """Run one case of the chain on one path and a real clock; return what it told that does not depend on that."""
    telemetry = PathTelemetry(fast)
    try:
        offered: dict[str, Any] = {**arguments, **loop, "telemetry": telemetry}
        if arguments.get("chain") == "drop-in":
            offered["chain"] = Chain(telemetry)
        elif arguments.get("chain") == "watched":
            offered["chain"] = Chain(telemetry, lambda seen: watch(asyncio.Queue(), name="orders", observer=seen))
        test(**{name: offered[name] for name in inspect.signature(test).parameters})
        telemetry.meter_provider.force_flush()
        told = telemetry.told()
    finally:
        telemetry.close()
    assert telemetry.attached is fast
    telemetry.assert_sent_as_told()
    return timeless({**told, "metrics": [each for each in told["metrics"] if each][-1:]})


@pytest.mark.parametrize(("test", "arguments"), list(cases()))
def test_every_case_of_the_chain(
    test: Callable[..., None], arguments: dict[str, Any], arun: ARun, loop_kind: str
) -> None:
    """Its own assertions hold on both paths, and what was told is equal."""
    loop = {"arun": arun, "loop_kind": loop_kind}
    plain, fast = (told_by_case(test, arguments, path, loop) for path in (False, True))
    assert_same(plain, fast)


def assert_paths_agree(program: Program, sdk: Sdk) -> PathTelemetry:
    """Assert that both paths tell the same of a program in virtual time; return what the fast one told."""
    plain, _ = told_by(program, sdk, fast=False)
    fast, telemetry = told_by(program, sdk, fast=True)
    telemetry.assert_sent_as_told()
    assert telemetry.attached is sdk.light_metrics
    assert_same(plain, fast)
    return telemetry


@pytest.mark.timeout(300)  # many programs, and a busy machine
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(programs(), sdks)
def test_random_programs(program: Program, sdk: Sdk) -> None:
    """Queues, pools, options, producers, handlers, samplers, limits and processors as chance has it."""
    assert_paths_agree(program, sdk)


ENDS: dict[str, tuple[Step, ...]] = {
    "ok": (("look", None), ("sleep", 3)),
    "child": (("child", (("look", None), ("sleep", 1))), ("log", 20)),
    "raises": (("sleep", 2), ("raise", "boom")),
    "raises what cannot be shown": (("raise", "unspeakable"),),
    "times out": (("timeout", 5),),
    "cancelled": (("sleep", 1), ("cancel", None)),
    "recorded": (("record", "key"), ("sleep", 1)),
    "logged": (("log_error", "boom"),),
    "written on": (
        ("attribute", ("user", 1)),
        ("event", "ping"),
        ("link", None),
        ("status", "ERROR"),
        ("rename", "other"),
    ),
    "ended by hand": (("end", None), ("attribute", ("user", 1)), ("look", None)),
    "outlived": (("linger", (40, (("look", None), ("child", ()), ("log", 20), ("put", (1, ()))))), ("hold", None)),
    "puts": (("put", (1, (("look", None),))), ("call", (("look", None),))),
    "suppressed": (("suppress", (("put", (1, ())), ("look", None))),),
}
EVERYTHING = tuple(ENDS.values())


@pytest.mark.parametrize("consumer", ["done", "pool", "forgetful", "swallow", "inside", "dispatch", "waiter", "batch"])
@pytest.mark.parametrize("end", sorted(ENDS))
def test_each_end_of_a_job_under_each_consumer(end: str, consumer: str) -> None:
    """What chance may leave out today."""
    lines = (Line(consumer=consumer), Line(consumer="pool"))
    assert_paths_agree(Program(lines, (Put((ENDS[end], ENDS["ok"])), Put((ENDS[end],), inside="none"))), Sdk())


OPTIONS: tuple[dict[str, Any], ...] = (
    {"carry": "baggage"},
    {"carry": "context", "correlation": "link"},
    {"process_spans": "never"},
    {"process_spans": "always", "correlation": "parent"},
    {"producer_spans": False},
    {"settle": "next_get", "buckets": (0.25, 1.0)},
)


@pytest.mark.parametrize("light_metrics", [True, False], ids=["light metrics", "the SDK's metrics"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_option_of_a_queue(options: dict[str, Any], light_metrics: bool) -> None:
    """With baggage to carry, in time to be a child and too late for it."""
    chosen = tuple(options.items())
    lines = (Line(options=chosen), Line("watched", "pool", options=chosen))
    puts = (Put(EVERYTHING, inside="baggage"), Put(EVERYTHING, 1, delay=700, inside="baggage"), Put(EVERYTHING, 1))
    assert_paths_agree(Program(lines, puts), Sdk(light_metrics=light_metrics))
    assert_paths_agree(Program(lines, puts), Sdk(light_metrics=light_metrics, logs=False))


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_under_each_producer(sampler: str, inside: str) -> None:
    """Under a recording span, under one of another process, under none; at a ratio that keeps some and drops some."""
    lines = (Line(), Line(consumer="pool"))
    program = Program(lines, (Put(EVERYTHING, inside=inside), Put((ENDS["ok"],) * 8, 1, delay=700, inside=inside)))
    for ids in ("random", "counting"):
        assert_paths_agree(program, Sdk(sampler=(sampler, 0.5), ids=ids))


@pytest.mark.parametrize("processor", ["note", "write"])
@pytest.mark.parametrize(
    "limit", [(), ("max_span_attributes", 3), ("max_events", 0), ("max_links", 0), ("max_attribute_length", 4)]
)
def test_processors_and_limits(processor: str, limit: tuple[str, int] | tuple[()]) -> None:
    """A processor sees each span as it starts and as it ends, within the provider's limits, and may write on it."""
    limits = (limit,) if limit else ()
    program = Program((Line(), Line(consumer="pool")), (Put(EVERYTHING), Put(EVERYTHING, 1, inside="baggage")))
    assert_paths_agree(program, Sdk(limits=limits, processor=processor))


@pytest.mark.parametrize("delta", [False, True], ids=["cumulative", "delta"])
def test_counts_sums_and_buckets_are_exact(delta: bool) -> None:
    """Fast minus plain is nothing, in every histogram of every collection, however many measurements were folded."""
    items = tuple((("sleep", ticks % 9), *([("flush", None)] if ticks % 500 == 0 else [])) for ticks in range(1500))
    program = Program((Line("fifo", "pool", 40),), (Put(items), Put(items[:300], delay=9, inside="none")))
    plain, fast = (histograms(told_by(program, Sdk(delta=delta), path)[0]) for path in (False, True))
    assert plain.keys() == fast.keys()
    assert sum(count for count, *_ in fast.values()) >= 3600
    for key, (count, total, buckets) in plain.items():
        assert fast[key][0] - count == 0
        assert fast[key][1] - total == 0
        assert [one - other for one, other in zip(fast[key][2], buckets, strict=True)] == [0] * len(buckets)


def histograms(told: dict[str, Any]) -> dict[tuple[int, str, str], tuple[int, float, list[int]]]:
    """Return count, sum and buckets of every histogram point, by collection, metric and attributes."""
    return {
        (index, metric, str(point["attributes"])): (
            int(point["count"].split()[1]),
            float(point["sum"].split()[1]),
            [int(each.split()[1]) for each in point["bucket_counts"]],
        )
        for index, collection in enumerate(told["metrics"])
        for metric, said in collection.items()
        for point in said["points"]
        if point["type"] == "HistogramDataPoint"
    }


def test_exemplars_point_to_exported_spans() -> None:
    """Of waits and of runs, each on the span of the job that was measured."""
    program = Program((Line(), Line(consumer="pool")), (Put(EVERYTHING[:4]), Put(EVERYTHING[:4], 1)))
    telemetry = assert_paths_agree(program, Sdk(sampler=("parent ratio", 0.5)))
    exported = {span.context.span_id for span in telemetry.spans if span.context is not None}
    assert telemetry.exemplars()
    assert {each.span_id for each in telemetry.exemplars()} <= exported
    jobs = [span for span in telemetry.spans if names.JOB_WAIT in (span.attributes or {})]
    assert {each.span_id for each in telemetry.exemplars()} <= {span.get_span_context().span_id for span in jobs}
