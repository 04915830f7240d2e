"""/metrics: the names and points that the OpenTelemetry contract has, in Prometheus' text format."""

import asyncio
import contextlib
import gc
import logging
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_sched import Listener, Observer, OtelObserver, Queue, WorkerPool
from otel_sched._core import finding, names
from otel_sched._core.clock import monotonic
from otel_sched._core.finding import FindingKind
from otel_sched._core.job import Job
from otel_sched._core.ledger import Ledger
from otel_sched._core.liveness import Beats
from otel_sched._core.points import POINTS
from otel_sched.health import HealthApp, metrics
from otel_sched.health.exposition import Family, Sample, exposition
from otel_sched.health.metrics import prometheus_name
from otel_sched.testing import InMemoryTelemetry, run
from tests.health.asking import ask
from tests.loops import running

CONTRACT = {
    prometheus_name(instrument): instrument
    for instrument in names.INSTRUMENTS
    if instrument.kind != names.HISTOGRAM and instrument not in (*names.OF_THE_EXPORT, *names.OF_DIAGNOSTICS)
}
LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')

Points = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: bytes) -> Points:
    """Read the text format; every line must be one, and each metric be announced before its points."""
    points: Points = {}
    announced = ""
    for line in text.decode().removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            announced = line.split(" ")[2]
            continue
        if line.startswith("# TYPE "):
            assert line.split(" ")[2] == announced
            assert line.split(" ")[3] in ("counter", "gauge")
            continue
        found = LINE.match(line)
        assert found is not None, line
        name, labels, value = found.groups()
        assert name == announced
        assert LABEL.sub("", labels) == "", labels
        key = (name, frozenset((label, unescaped(text)) for label, text in LABEL.findall(labels)))
        assert key not in points, f"{key} stands there twice"
        points[key] = float(value)
    return points


def unescaped(text: str) -> str:
    """Undo what a label's value has gone through."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def test_all_that_is_counted_is_shown() -> None:
    """Only histograms are left out, what is about the export, and what diagnostics alone can tell."""
    assert {prometheus_name(instrument) for instrument in POINTS} == CONTRACT.keys()


async def busy(telemetry: InMemoryTelemetry) -> list[Any]:
    """Have some of everything: queues of both ways, outcomes, cancellations, drops, workers, failing observers."""
    observer = OtelObserver(**telemetry.providers)
    orders = Queue[int](10, name="orders", observer=observer)
    orders_too = Queue[int](5, name="orders", observer=observer)
    odd = Queue[int](name='o"d\\d\nGröße', observer=observer)

    async def handle(number: int) -> None:
        if number == 2:
            raise ValueError("two")
        if number == 3:
            await asyncio.sleep(3600)

    pool = WorkerPool(orders, handle, workers=2, grace=0)
    pool.start()
    for number in range(4):
        await orders.put(number)
    orders_too.put_nowait(1)
    for number in range(8):
        odd.put_nowait(number)
    await odd.get()
    odd._queue.clear()  # dropped
    odd.put_nowait(9)
    odd.shutdown(immediate=True)  # cancelled while queued
    await asyncio.sleep(1)
    return [orders, orders_too, odd, pool]


def test_it_says_what_the_telemetry_says(telemetry: InMemoryTelemetry, caplog: pytest.LogCaptureFixture) -> None:
    """Each point that an exporter would get has the same name, labels and value here, and there is none beside it."""
    caplog.set_level(logging.CRITICAL)

    async def main() -> None:
        kept = await busy(telemetry)
        reply = await ask(HealthApp(), "/metrics")
        expected: Points = {}
        for name, points in telemetry.metrics().items():
            instrument = next(each for each in names.INSTRUMENTS if each.name == name)
            if prometheus_name(instrument) in CONTRACT:
                for point in points:
                    labels = {key.replace(".", "_"): value for key, value in point.attributes.items()}
                    expected[prometheus_name(instrument), frozenset(labels.items())] = point.value
        here = read(reply.body)
        ages = {key for key in expected if key[0].endswith("age_seconds")}
        assert here.keys() == expected.keys()
        assert {key: here[key] for key in here.keys() - ages} == {key: expected[key] for key in expected.keys() - ages}
        assert all(here[key] == pytest.approx(expected[key], abs=1.0) for key in ages)
        met = {name for name, _ in here}
        assert CONTRACT.keys() - met == {"otel_sched_telemetry_dropped_total", "otel_sched_telemetry_errors_total"}
        await kept[-1].stop()

    run(main())


def test_the_official_parser_reads_the_same(telemetry: InMemoryTelemetry, caplog: pytest.LogCaptureFixture) -> None:
    """Prometheus' own client library has the same names, kinds, labels and values of it, however odd the names are."""
    caplog.set_level(logging.CRITICAL)
    odd = ['"', "\\", "\n!", "\\n", 'a{b="c"} 1\n# TYPE x gauge', "\x07", "\u2028!", "Größe", "x" * 1000, "}"]

    async def main() -> None:
        kept = [*await busy(telemetry), *(Queue[int](name=name) for name in odd)]
        with contextlib.closing(running()) as loop:
            Beats(loop, 0.5, "'\"").turned(monotonic())
            body = (await ask(HealthApp(), "/metrics")).body
        families = list(text_string_to_metric_families(body.decode()))
        samples = [each for family in families for each in family.samples]
        official = {(each.name, frozenset(each.labels.items())): each.value for each in samples}
        assert official == read(body)
        assert {each.labels.get("otel_sched_queue_name") for each in samples} >= set(odd)
        counters = {each.name for family in families for each in family.samples if family.type == "counter"}
        assert counters == {name for name, _ in official if name.endswith("_total")}
        assert {family.type for family in families} == {"counter", "gauge"}
        await next(each for each in kept if isinstance(each, WorkerPool)).stop()

    run(main())


def test_observers_that_failed_and_records_that_were_held_back_are_counted() -> None:
    """The two that appear with the first one."""

    class Broken(Listener):
        def queued(self, job: Job[Any]) -> None:
            raise RuntimeError("broken")

    class Breaks(Observer):
        def watch(self, ledger: Ledger) -> Listener:
            return Broken()

    async def main() -> None:
        queue = Queue[int](name="orders", observer=Breaks())
        queue.put_nowait(1)
        queue.ledger.held = 7
        points = read((await ask(HealthApp(), "/metrics")).body)
        name = ("otel_sched_queue_name", "orders")
        reason, signal = "otel_sched_telemetry_reason", "otel_sched_telemetry_signal"
        assert points["otel_sched_telemetry_errors_total", frozenset({name, (reason, "observer")})] == 1
        held = frozenset({name, (reason, "repeated"), (signal, "logs")})
        assert points["otel_sched_telemetry_dropped_total", held] == 7

    logging.getLogger("otel_sched").disabled = True
    try:
        run(main())
    finally:
        logging.getLogger("otel_sched").disabled = False


def test_a_counter_never_runs_backwards() -> None:
    """Also when one of several queues of the name goes: Prometheus would take that for a restart."""

    async def main() -> None:
        app, name = HealthApp(), frozenset({("otel_sched_queue_name", "orders")})
        staying, going = Queue[int](name="orders"), Queue[int](name="orders")
        for number in range(3):
            staying.put_nowait(number)
            going.put_nowait(number)
        assert read((await ask(app, "/metrics")).body)["otel_sched_jobs_put_total", name] == 6
        del going
        gc.collect()
        for _ in range(2):
            points = read((await ask(app, "/metrics")).body)
            assert points["otel_sched_jobs_put_total", name] == 6
            assert points["otel_sched_queue_size", name] == 3

    run(main())


def test_event_loops_show_how_long_ago_they_turned() -> None:
    """So that one which hangs shows on a dashboard, too."""
    with contextlib.closing(running()) as loop:
        Beats(loop, 0.5, "main").turned(monotonic() - 5)
        points = read(asyncio.run(ask(HealthApp(), "/metrics")).body)
    key = "otel_sched_eventloop_beat_age_seconds", frozenset({("otel_sched_eventloop_name", "main")})
    assert points.keys() == {key}
    assert points[key] >= 5


def test_what_diagnostics_have_found_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue's findings under its name, and those of no queue."""
    monkeypatch.setattr(finding, "tally", {})
    monkeypatch.setattr(metrics, "tally", finding.tally)
    for queue in ("orders", "orders", ""):
        finding.count(FindingKind.LOOP_BLOCKED, queue)
    points = read(asyncio.run(ask(HealthApp(), "/metrics")).body)
    kind = ("otel_sched_finding_kind", "loop_blocked")
    assert points == {
        ("otel_sched_findings_total", frozenset({kind, ("otel_sched_queue_name", "orders")})): 2,
        ("otel_sched_findings_total", frozenset({kind})): 1,
    }


def test_the_content_type_is_that_of_the_text_format() -> None:
    """Prometheus 3 refuses a target without one that it knows."""
    reply = asyncio.run(ask(HealthApp(), "/metrics"))
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_what_would_break_a_line_is_escaped() -> None:
    """Backslash and newline in both, the quote in labels only; what is no UTF-8 becomes a question mark, and NUL."""
    text = exposition(
        [
            Family(
                "a_total",
                "counter",
                'one\\two\n"three"',
                [Sample({"x": 'say "hi"\\\n', "y": "\ud800é\0"}, 2), Sample({}, 0.5)],
            )
        ]
    )
    assert text.decode().split("\n") == [
        '# HELP a_total one\\\\two\\n"three"',
        "# TYPE a_total counter",
        'a_total{x="say \\"hi\\"\\\\\\n",y="?é?"} 2',
        "a_total 0.5",
        "",
    ]
