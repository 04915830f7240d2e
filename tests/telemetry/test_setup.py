"""configure(): what it sets up, on a real receiver."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBasedTraceIdRatio

from otel_sched._core.errors import ConfigurationError
from otel_sched.telemetry import pipeline
from otel_sched.telemetry.logs import JobFilter, OtlpHandler
from otel_sched.telemetry.sampling import FollowLinks
from otel_sched.telemetry.setup import Telemetry, configure
from tests.conftest import ARun
from tests.support.otel_globals import as_new
from tests.support.otlp_receiver import OtlpReceiver, SilentServer, refused_endpoint

PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture(autouse=True)
def _new_globals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "600000")
    with as_new():
        yield


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """Give the block a root logger as a new process has it, without the test runner's own handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def produce(telemetry: Telemetry) -> Any:
    """Make one span, one log record inside it and one measurement; return the span's context."""
    with telemetry.tracer_provider.get_tracer("test").start_as_current_span("work") as span:
        logging.getLogger("app").warning("hello", extra={"order": 7})
    telemetry.meter_provider.get_meter("test").create_counter("made", "{thing}").add(3, {"kind": "a"})
    return span.get_span_context()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_three_signals_arrive(protocol: str, receiver: OtlpReceiver) -> None:
    """Over either protocol, with resource, headers and the log record tied to its span."""
    telemetry = configure(
        service_name="shop",
        service_version="1.2",
        endpoint=receiver.endpoint(protocol),
        protocol=protocol,
        headers={"X-Tenant": "acme"},
        resource={"deployment.environment.name": "test"},
    )
    span = produce(telemetry)
    assert telemetry.close(timeout=10.0)

    (found,) = receiver.spans()
    assert (found.name, found.trace_id, found.scope) == ("work", f"{span.trace_id:032x}", "test")
    named = {key: found.resource[key] for key in ("service.name", "service.version", "deployment.environment.name")}
    assert named == {"service.name": "shop", "service.version": "1.2", "deployment.environment.name": "test"}
    (record,) = receiver.log_records()
    assert (record.body, record.span_id, record.attributes) == ("hello", found.span_id, {"order": 7})
    assert (record.severity_text, record.scope, record.resource) == ("WARN", "app", found.resource)
    points = receiver.points("made")
    assert [(p.value, p.attributes, p.unit, p.monotonic) for p in points] == [(3, {"kind": "a"}, "{thing}", True)]
    assert {request.signal for request in receiver.requests()} == {"traces", "metrics", "logs"}
    assert {request.headers["x-tenant"] for request in receiver.requests()} == {"acme"}
    assert {request.transport for request in receiver.requests()} == {protocol.partition("/")[0]}


def test_providers_become_the_global_ones(receiver: OtlpReceiver) -> None:
    """What the application and its libraries take from OpenTelemetry's API is ours."""
    telemetry = configure(endpoint=receiver.grpc_endpoint)
    assert trace.get_tracer_provider() is telemetry.tracer_provider
    assert metrics.get_meter_provider() is telemetry.meter_provider
    assert _logs.get_logger_provider() is telemetry.logger_provider


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_variables_alone_suffice(protocol: str, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, protocol, headers, compression, service name and resource all come from the environment."""
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint(protocol),
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "from-variable",
        "OTEL_RESOURCE_ATTRIBUTES": "team=blue",
    }.items():
        monkeypatch.setenv(name, value)
    telemetry = configure()
    produce(telemetry)
    assert telemetry.close(timeout=10.0)
    (found,) = receiver.spans()
    assert (found.resource["service.name"], found.resource["team"]) == ("from-variable", "blue")
    assert len(receiver.log_records()) == len(receiver.points("made")) == 1
    assert {request.headers["x-tenant"] for request in receiver.requests()} == {"acme"}
    if protocol != "grpc":
        assert {request.headers["content-encoding"] for request in receiver.requests()} == {"gzip"}


def test_arguments_win_over_variables(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over the variables of a single signal."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", refused_endpoint())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    telemetry = configure(service_name="mine", endpoint=receiver.http_endpoint, protocol="http/protobuf")
    produce(telemetry)
    assert telemetry.close(timeout=10.0)
    assert receiver.spans()[0].resource["service.name"] == "mine"


def test_each_signal_may_go_its_own_way(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of one signal decides its endpoint and protocol."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc_endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{receiver.http_endpoint}/v1/logs")
    telemetry = configure()
    produce(telemetry)
    assert telemetry.close(timeout=10.0)
    transports = {request.signal: request.transport for request in receiver.requests()}
    assert transports == {"traces": "grpc", "metrics": "grpc", "logs": "http"}


def test_an_exporter_may_be_none_or_console(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_*_EXPORTER selects; spans still have ids, for the log lines."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp,console")
    telemetry = configure(endpoint=receiver.http_endpoint, protocol="http/protobuf")
    span = produce(telemetry)
    assert telemetry.close(timeout=10.0)
    assert not receiver.requests("traces")
    assert receiver.log_records()[0].trace_id == f"{span.trace_id:032x}"
    sent = [(each.signal, each.exporter, each.exported) for each in telemetry.stats() if each.signal != "metrics"]
    assert sent == [("logs", "otlp", 1), ("logs", "console", 1)]


def test_a_disabled_sdk_sets_nothing_up(monkeypatch: pytest.MonkeyPatch, arun: ARun) -> None:
    """OTEL_SDK_DISABLED=true: no provider, no thread, and a handle that works."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    before = threading.active_count()
    telemetry = configure(service_name="shop")
    assert threading.active_count() == before
    assert "Proxy" in type(trace.get_tracer_provider()).__name__
    produce(telemetry)
    assert arun(telemetry.flush())
    assert arun(telemetry.shutdown())
    assert "disabled" in repr(telemetry)


def test_a_signal_that_is_off_is_left_alone(receiver: OtlpReceiver) -> None:
    """No provider for it; an application's own may stand there."""
    telemetry = configure(endpoint=receiver.grpc_endpoint, metrics=False, logs=False)
    assert "Proxy" in type(metrics.get_meter_provider()).__name__
    produce(telemetry)
    assert telemetry.close(timeout=10.0)
    assert {request.signal for request in receiver.requests()} == {"traces"}


def test_parts_of_ones_own_join_the_pipeline() -> None:
    """Processors and readers given as arguments see everything, exporters or not."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    telemetry = configure(
        endpoint=refused_endpoint(),
        span_processors=[SimpleSpanProcessor(spans)],
        metric_readers=[reader],
        logs=False,
    )
    produce(telemetry)
    assert [span.name for span in spans.get_finished_spans()] == ["work"]
    assert reader.get_metrics_data() is not None
    telemetry.close(timeout=0.1)


def test_same_arguments_same_handle(receiver: OtlpReceiver) -> None:
    """Idempotent; lists and mappings are compared by what is in them."""
    one = configure(endpoint=receiver.grpc_endpoint, headers={"a": "b"}, log_level="info")
    assert configure(endpoint=receiver.grpc_endpoint, headers={"a": "b"}, log_level=logging.INFO) is one


def test_other_arguments_are_refused_and_named(receiver: OtlpReceiver) -> None:
    """The message lists what differs, and the first configuration stands."""
    telemetry = configure(service_name="a", endpoint=receiver.grpc_endpoint)
    with pytest.raises(ConfigurationError, match=r"other arguments: service_name: 'a' before, 'b' now$"):
        configure(service_name="b", endpoint=receiver.grpc_endpoint)
    produce(telemetry)
    assert telemetry.close(timeout=10.0)
    assert receiver.spans()


def test_after_shutdown_it_is_refused(receiver: OtlpReceiver) -> None:
    """OpenTelemetry's globals are set once: better a clear error than providers that are dead."""
    configure(endpoint=receiver.grpc_endpoint).close()
    with pytest.raises(ConfigurationError, match="shut down cannot be set up again"):
        configure(endpoint=receiver.grpc_endpoint)


def test_default_sampler_follows_links_and_a_chosen_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, then variable, then our default."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    for arguments, expected in (({}, ParentBasedTraceIdRatio), ({"sampling_ratio": 0.5}, FollowLinks)):
        with as_new():
            provider: Any = configure(endpoint=refused_endpoint(), **arguments).tracer_provider  # type: ignore[arg-type]
            assert type(provider.sampler) is expected
    with as_new():
        provider = configure(endpoint=refused_endpoint(), sampler=ALWAYS_OFF).tracer_provider
        assert provider.sampler is ALWAYS_OFF
    monkeypatch.delenv("OTEL_TRACES_SAMPLER")
    with as_new():
        provider = configure(endpoint=refused_endpoint()).tracer_provider
        assert type(provider.sampler) is FollowLinks


@pytest.mark.parametrize(
    ("argument", "variable", "expected"),
    [(None, None, 15_000.0), (None, "7000", None), (2.5, "7000", 2500.0)],
)
def test_metric_interval(
    argument: float | None, variable: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 seconds, unless an argument or OTEL_METRIC_EXPORT_INTERVAL, which the SDK reads, says otherwise."""
    asked: list[float | None] = []

    class Reader(PeriodicExportingMetricReader):
        def __init__(self, exporter: Any, interval: float | None) -> None:
            asked.append(interval)
            super().__init__(exporter, interval)

    monkeypatch.setattr(pipeline, "PeriodicExportingMetricReader", Reader)
    monkeypatch.delenv("OTEL_METRIC_EXPORT_INTERVAL")
    if variable is not None:
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", variable)
    configure(endpoint=refused_endpoint(), metric_interval=argument, traces=False, logs=False)
    assert asked == [expected]


def test_stats_tell_what_became_of_everything(receiver: OtlpReceiver) -> None:
    """Spans, log records and data points, per exporter."""
    telemetry = configure(endpoint=receiver.grpc_endpoint)
    produce(telemetry)
    waiting = {each.signal: (each.handed, each.missing) for each in telemetry.stats()}
    assert waiting == {"traces": (1, 1), "logs": (1, 1), "metrics": (0, 0)}
    assert telemetry.close(timeout=10.0)
    done = {each.signal: (each.exporter, each.handed, each.exported, each.failed) for each in telemetry.stats()}
    assert done["traces"] == done["logs"] == ("otlp", 1, 1, 0)
    assert done["metrics"][1] == done["metrics"][2] > 0


class TestFlush:
    """flush() and shutdown() are bounded, tell the truth, and leave the loop alone."""

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_flush_exports_what_waits(self, protocol: str, receiver: OtlpReceiver, arun: ARun) -> None:
        """When it returns True, the receiver has it all."""
        telemetry = configure(endpoint=receiver.endpoint(protocol), protocol=protocol)
        produce(telemetry)
        assert arun(telemetry.flush(timeout=10.0))
        assert len(receiver.spans()) == len(receiver.log_records()) == len(receiver.points("made")) == 1

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_flush_is_false_when_the_receiver_refuses(self, protocol: str, arun: ARun) -> None:
        """The SDK itself would say True."""
        import grpc

        with OtlpReceiver(http_status=400, grpc_status=grpc.StatusCode.INVALID_ARGUMENT) as refusing:
            telemetry = configure(endpoint=refusing.endpoint(protocol), protocol=protocol)
            produce(telemetry)
            assert not arun(telemetry.flush(timeout=10.0))
            assert refusing.refused >= 3
            assert all(each.failed for each in telemetry.stats())
            telemetry.close(timeout=5.0)

    @pytest.mark.parametrize("act", ["flush", "shutdown"])
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_a_silent_receiver_costs_the_bound_and_no_loop_time(self, act: str, protocol: str, arun: ARun) -> None:
        """A real socket that accepts and never answers, while the loop goes on."""
        with SilentServer() as silent:
            telemetry = configure(endpoint=silent.endpoint, protocol=protocol, export_timeout=1.5)
            produce(telemetry)

            async def main() -> tuple[bool, float, float]:
                gap, stop = 0.0, asyncio.Event()

                async def tick() -> None:
                    nonlocal gap
                    last = time.monotonic()
                    while not stop.is_set():
                        await asyncio.sleep(0.01)
                        now = time.monotonic()
                        gap, last = max(gap, now - last), now

                ticking = asyncio.create_task(tick())
                begun = time.monotonic()
                result = await getattr(telemetry, act)(timeout=0.8)
                took = time.monotonic() - begun
                stop.set()
                await ticking
                return result, took, gap

            result, took, gap = arun(main())
            assert silent.accepted.is_set()
        assert not result
        assert 0.7 < took < 1.8
        assert gap < 0.5
        telemetry.close(timeout=10.0)

    def test_calls_that_wait_for_a_stuck_exporter_do_not_pile_up_threads(self, arun: ARun) -> None:
        """One thread for each signal, however often flush() is called."""
        with SilentServer() as silent:
            telemetry = configure(endpoint=silent.endpoint, protocol="http/protobuf", export_timeout=1.0)
            produce(telemetry)
            before = threading.active_count()

            async def main() -> list[bool]:
                return await asyncio.gather(*(telemetry.flush(timeout=0.2) for _ in range(50)))

            assert not any(arun(main()))
            assert threading.active_count() <= before
        telemetry.close(timeout=10.0)

    def test_shutdown_may_be_called_again(self, receiver: OtlpReceiver, arun: ARun) -> None:
        """At once, in turn and by close(): the same result."""
        telemetry = configure(endpoint=receiver.grpc_endpoint)
        produce(telemetry)

        async def main() -> list[bool]:
            return await asyncio.gather(*(telemetry.shutdown(timeout=10.0) for _ in range(3)))

        assert arun(main()) == [True, True, True]
        assert arun(telemetry.shutdown())
        assert arun(telemetry.flush())
        assert telemetry.close()
        assert len(receiver.spans()) == 1
        assert "shut down" in repr(telemetry)

    def test_shutdown_that_ran_out_of_time_may_be_waited_for(self, arun: ARun) -> None:
        """The first call gives up after its bound, a second one waits on."""
        with SilentServer() as silent:
            telemetry = configure(
                endpoint=silent.endpoint,
                protocol="http/protobuf",
                export_timeout=1.0,
                metrics=False,
                logs=False,
            )
            produce(telemetry)
            assert not arun(telemetry.shutdown(timeout=0.1))
            assert not telemetry.close(timeout=20.0)
            assert all(each.failed == 1 and not each.missing for each in telemetry.stats())

    def test_close_refuses_to_block_a_loop(self, receiver: OtlpReceiver, arun: ARun) -> None:
        """It says what to call."""
        telemetry = configure(endpoint=receiver.grpc_endpoint)

        async def main() -> None:
            with pytest.raises(RuntimeError, match=r"await telemetry\.shutdown"):
                telemetry.close()

        arun(main())

    @pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
    def test_bounds_must_be_bounds(self, timeout: float, receiver: OtlpReceiver, arun: ARun) -> None:
        """No waiting for ever."""
        telemetry = configure(endpoint=receiver.grpc_endpoint)
        with pytest.raises(ConfigurationError, match="timeout"):
            arun(telemetry.flush(timeout=timeout))
        with pytest.raises(ConfigurationError, match="timeout"):
            telemetry.close(timeout=timeout)

    def test_as_context_manager(self, receiver: OtlpReceiver, arun: ARun) -> None:
        """With a loop and without."""

        async def main() -> None:
            async with configure(endpoint=receiver.grpc_endpoint) as telemetry:
                produce(telemetry)

        arun(main())
        assert len(receiver.spans()) == 1
        with as_new(), configure(endpoint=receiver.grpc_endpoint) as telemetry:
            produce(telemetry)
        assert len(receiver.spans()) == 2

    def test_a_cancelled_flush_does_not_hurt(self, arun: ARun) -> None:
        """The waiting coroutine goes, the export goes on, the next call works."""
        with SilentServer() as silent:
            telemetry = configure(endpoint=silent.endpoint, protocol="http/protobuf", export_timeout=0.5)
            produce(telemetry)

            async def main() -> bool:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await telemetry.flush(timeout=5.0)
                return await telemetry.shutdown(timeout=10.0)

            assert not arun(main())


class TestLogging:
    """What happens to the application's logging, and that it is taken back."""

    def test_a_bare_root_gets_lines_on_stderr(self, receiver: OtlpReceiver, capsys: pytest.CaptureFixture[str]) -> None:
        """Otherwise our handler would have silenced Python's last resort."""
        with bare_root() as root:
            telemetry = configure(endpoint=receiver.grpc_endpoint)
            span = produce(telemetry)
            logging.getLogger("app").info("info counts too")
            telemetry.close(timeout=10.0)
            assert (root.handlers, root.level) == ([], logging.WARNING)
        err = capsys.readouterr().err
        assert f"WARNING app: hello [trace_id={span.trace_id:032x} job_id=]" in err
        assert "info counts too" in err
        assert [record.body for record in receiver.log_records()] == ["hello", "info counts too"]

    def test_an_applications_own_set_up_stays(self, receiver: OtlpReceiver) -> None:
        """Its handlers get the fields, its level stays; shutdown removes what was added."""
        mine = logging.NullHandler()
        with bare_root() as root:
            root.addHandler(mine)
            telemetry = configure(endpoint=receiver.grpc_endpoint)
            assert [type(each) for each in root.handlers] == [logging.NullHandler, OtlpHandler]
            assert [type(each) for each in mine.filters] == [JobFilter]
            assert root.level == logging.WARNING
            telemetry.close()
            assert (root.handlers, mine.filters) == ([mine], [])

    def test_it_can_be_told_to_leave_logging_alone(self, receiver: OtlpReceiver) -> None:
        """logging=False, structlog=False."""
        with bare_root() as root:
            telemetry = configure(endpoint=receiver.grpc_endpoint, logging=False, structlog=False)
            assert not root.handlers
            assert not structlog.is_configured()
            telemetry.close()

    def test_structlog_is_configured_when_nobody_did(
        self, receiver: OtlpReceiver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """JSON lines with the trace, and each event over OTLP; lines go on after shutdown."""
        telemetry = configure(endpoint=receiver.grpc_endpoint)
        log = structlog.get_logger()
        with telemetry.tracer_provider.get_tracer("test").start_as_current_span("work"):
            log.info("charged", order=7)
        log.debug("below the level")
        telemetry.close(timeout=10.0)
        log.info("after")
        first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        (record,) = receiver.log_records()
        assert (record.body, record.attributes, record.trace_id) == (
            "charged",
            {"order": 7},
            first["trace_id"],
        )
        assert (first["order"], last["event"]) == (7, "after")

    def test_structlog_of_the_application_is_left_alone(self, receiver: OtlpReceiver) -> None:
        """Unless told to take it, which is refused with the way out."""
        processors: list[Callable[..., Any]] = [structlog.processors.KeyValueRenderer()]
        structlog.configure(processors=processors)
        with pytest.raises(ConfigurationError, match=r"add add_job_context and OtlpProcessor"):
            configure(endpoint=receiver.grpc_endpoint, structlog=True)
        assert "Proxy" in type(trace.get_tracer_provider()).__name__
        configure(endpoint=receiver.grpc_endpoint)
        assert structlog.get_config()["processors"] is processors
