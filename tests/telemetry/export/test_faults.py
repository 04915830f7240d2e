"""A receiver that fails in every way it can: the program goes on, ends in time, and knows to the span what was lost."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from otel_sched.testing import wait_until_sync
from tests.support.faulty import Fault, FaultyReceiver
from tests.support.steered import End, Steered

PROTOCOLS = ("grpc", "http/protobuf")
FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
CAPACITY, BATCH = 100, 25
SMALL = {
    f"OTEL_{kind}_{name}": str(value)
    for kind in ("BSP", "BLRP")
    for name, value in {"MAX_QUEUE_SIZE": CAPACITY, "MAX_EXPORT_BATCH_SIZE": BATCH}.items()
}
MOST = CAPACITY + BATCH
"""What may wait for one exporter: a full buffer, and the batch that is tried again and again."""
EXIT_TIMEOUT = 1.0
INTERPRETER = 3.0
"""Seconds that the end of a Python process may take on a busy machine, on top of what we add."""


def program(receiver: FaultyReceiver, variables: Mapping[str, str] | None = None, **arguments: Any) -> Steered:
    """Start a program that exports to *receiver*."""
    return Steered(
        variables,
        endpoint=receiver.endpoint,
        protocol=receiver.protocol,
        **{"export_timeout": 0.5, "exit_timeout": EXIT_TIMEOUT, "metric_interval": 0.5, **arguments},
    )


def delivered(receiver: FaultyReceiver, signal: str) -> int:
    """Return how many different spans or log records the receiver has accepted."""
    return len(receiver.books.spans if signal == "traces" else receiver.books.logs)


def assert_balanced(stats: Mapping[str, Any], receiver: FaultyReceiver, produced: int) -> None:
    """Each span or log record was delivered or counted as lost; nothing waits."""
    assert stats["missing"] == 0, stats
    assert stats["handed"] == produced, stats
    assert stats["exported"] + stats["failed"] == produced, stats
    assert stats["exported"] == delivered(receiver, stats["signal"]), stats


def assert_quiet(end: End) -> None:
    """The program came to its end, in time, with no exception of ours on its standard error."""
    assert end.status == 0, end.stderr
    assert "Traceback" not in end.stderr, end.stderr
    assert end.seconds < EXIT_TIMEOUT + INTERPRETER


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_fault_costs_is_counted_and_telemetry_flows_again(fault: Fault, protocol: str) -> None:
    """More jobs than the buffer holds run during the fault; after it everything arrives, without a restart."""
    with FaultyReceiver(protocol, fault) as receiver, program(receiver, SMALL) as running:
        running.jobs(3 * CAPACITY)
        assert running.handled == 3 * CAPACITY
        if fault is not Fault.REFUSED:
            wait_until_sync(lambda: receiver.struck >= 1, description="the fault to strike")
        for signal in ("traces", "logs"):
            stats = running.stats(signal)
            assert stats["handed"] == 3 * CAPACITY
            assert stats["missing"] <= MOST
            if fault is not Fault.PARTIAL:
                assert (stats["exported"], delivered(receiver, signal)) == (0, 0)
        receiver.fault = Fault.NONE
        for signal in ("traces", "logs"):
            running.wait_for_no(signal, "missing")
        running.jobs(20)
        assert running.flush(5.0)
        for signal in ("traces", "logs"):
            stats = running.stats(signal)
            assert_balanced(stats, receiver, 3 * CAPACITY + 20)
            assert stats["exported"] >= 20
        assert {f"charged {3 * CAPACITY + number}" for number in range(1, 21)} <= set(receiver.books.logs)
        wait_until_sync(lambda: receiver.books.put == {"orders": 3 * CAPACITY + 20}, description="the metrics")
        metrics = running.wait_for_no("metrics", "missing")
        assert not metrics["failed"] or fault is Fault.INVALID, metrics
    assert_quiet(running.ended)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metrics_outlive_an_outage_too(protocol: str) -> None:
    """With delta temporality each collection counts: those of an outage arrive after it, each once."""
    variables = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    with FaultyReceiver(protocol) as receiver, program(receiver, variables) as running:
        for fault in (Fault.REFUSED, Fault.SILENT, Fault.RESET):
            running.wait_for_no("metrics", "missing")
            receiver.fault = fault
            running.jobs(50)
            wait_until_sync(lambda: running.stats("metrics")["missing"] > 0, description="metrics to wait")
            receiver.fault = Fault.NONE
            running.jobs(50)
        assert running.flush(10.0)
        assert running.stats("metrics")["failed"] == 0
        assert receiver.books.put == {"orders": 300}
    assert_quiet(running.ended)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.SILENT, Fault.SLOW, Fault.RESET, Fault.THROTTLED])
def test_a_fault_that_lasts_holds_nobody_up(fault: Fault, protocol: str) -> None:
    """At exit: the bound is kept whatever the receiver does or asks for; what was left counts as lost, and is told."""
    with (
        FaultyReceiver(protocol, fault, retry_after=30, latency=60.0) as receiver,
        program(receiver, export_timeout=10.0) as running,
    ):
        running.jobs(2 * CAPACITY)
        if fault is not Fault.REFUSED:
            wait_until_sync(lambda: receiver.struck >= 1, description="the fault to strike")
    assert_quiet(running.ended)
    for signal in ("traces", "logs"):
        assert_balanced(running.stats(signal), receiver, 2 * CAPACITY)
    assert "telemetry was lost" in running.ended.stderr


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shutdown_and_flush_keep_their_bounds(protocol: str) -> None:
    """They come back, say that not all was exported, and the event loop lives on."""
    with FaultyReceiver(protocol, Fault.SILENT) as receiver, program(receiver, export_timeout=10.0) as running:
        running.jobs(CAPACITY)
        assert not running.flush(0.3)
        running.jobs(CAPACITY)
        assert not running.shutdown(0.5)
        running.jobs(CAPACITY)
        assert running.handled == 3 * CAPACITY
        stats = running.wait_for_no("traces", "missing")
        assert (stats["exported"], delivered(receiver, "traces")) == (0, 0)
        assert stats["failed"] == stats["handed"] >= 2 * CAPACITY
    assert_quiet(running.ended)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_outage_that_fits_into_the_buffer_loses_nothing(protocol: str) -> None:
    """The port closes and opens in turns, with jobs all the time: every span arrives."""
    with FaultyReceiver(protocol) as receiver, program(receiver) as running:
        for _ in range(4):
            receiver.fault = Fault.REFUSED
            running.jobs(50)
            receiver.fault = Fault.NONE
            running.jobs(50)
            for signal in ("traces", "logs"):
                running.wait_for_no(signal, "missing")
        assert running.flush(5.0)
        for signal in ("traces", "logs"):
            assert_balanced(running.stats(signal), receiver, 400)
            assert running.stats(signal)["failed"] == 0
    assert_quiet(running.ended)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_flapping_receiver_is_never_given_up(protocol: str) -> None:
    """Each time it fails in another way, and between them it is well for a moment."""
    with FaultyReceiver(protocol) as receiver, program(receiver) as running:
        for fault in (Fault.RESET, Fault.BUSY, Fault.SILENT, Fault.SLOW):
            seen = receiver.struck
            receiver.fault = fault
            running.jobs(30)
            wait_until_sync(lambda seen=seen: receiver.struck > seen, description=f"{fault} to strike")
            receiver.fault = Fault.NONE
            for signal in ("traces", "logs"):  # each has its own sender, and the fault may hold up either
                running.wait_for_no(signal, "missing")
        assert running.flush(5.0)
        for signal in ("traces", "logs"):
            assert_balanced(running.stats(signal), receiver, 120)
            assert running.stats(signal)["failed"] == 0
    assert_quiet(running.ended)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_waits_as_long_as_it_is_asked_to(protocol: str) -> None:
    """Retry-After and RetryInfo are obeyed, and what was refused for the time being is not lost."""
    with FaultyReceiver(protocol, Fault.THROTTLED, retry_after=1) as receiver, program(receiver) as running:
        running.jobs(10)
        wait_until_sync(lambda: len(_times(receiver)) >= 2, description="a second try")
        receiver.fault = Fault.NONE
        running.wait_for_no("traces", "missing")
        assert running.flush(5.0)
        assert_balanced(running.stats("traces"), receiver, 10)
        assert running.stats("traces")["failed"] == 0
    asked = [later - sooner for sooner, later in pairwise(_times(receiver))]
    assert min(asked) > 0.9, asked


def _times(receiver: FaultyReceiver) -> list[float]:
    """Return when spans were refused for the time being."""
    return [each.time for each in receiver.books.arrivals if (each.signal, each.fault) == ("traces", Fault.THROTTLED)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_slow_answers_that_come_in_time_lose_nothing(protocol: str) -> None:
    """Latency alone is no failure."""
    with FaultyReceiver(protocol, Fault.SLOW, latency=0.2) as receiver:
        with program(receiver, export_timeout=5.0, exit_timeout=5.0) as running:
            running.jobs(CAPACITY)
        assert_balanced(running.stats("traces"), receiver, CAPACITY)
        assert_balanced(running.stats("logs"), receiver, CAPACITY)
    assert set(receiver.books.spans.values()) == {1}
    assert running.ended.status == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_outage_takes_no_memory(protocol: str) -> None:
    """Once the buffer is full, twenty thousand jobs more take no more than the allocator's play."""
    with FaultyReceiver(protocol, Fault.SILENT) as receiver, program(receiver, SMALL) as running:
        running.jobs(2000)
        before = running.kilobytes
        running.jobs(20_000)
        assert running.kilobytes - before < 12_000
        assert running.stats("traces")["missing"] <= MOST
    assert_quiet(running.ended)
    assert_balanced(running.stats("traces"), receiver, 22_000)


def test_a_collection_that_is_not_over_in_time_is_no_success() -> None:
    slow = (
        "import time, opentelemetry.metrics as m; s = time.sleep; "
        "m.get_meter('slow').create_observable_gauge('slow', [lambda _: (s(1.5), [m.Observation(1)])[1]])"
    )
    with FaultyReceiver("grpc") as receiver, program(receiver, metric_interval=600.0) as running:
        running.run(slow)
        assert not running.shutdown(0.5)
    assert running.ended.status == 0
