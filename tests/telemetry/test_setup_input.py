"""What configure() refuses: each a clear error that names the value, what was expected and the way out."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_sched._core.errors import ConfigurationError
from otel_sched.telemetry.endpoint import Destination, exporter_names
from otel_sched.telemetry.settings import Settings
from otel_sched.telemetry.setup import configure
from tests.support.otel_globals import as_new


@pytest.fixture(autouse=True)
def _new_globals() -> Iterator[None]:
    with as_new():
        yield


def untouched() -> bool:
    """Tell whether every provider is still OpenTelemetry's own proxy."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
    return all("Proxy" in type(provider).__name__ for provider in providers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"endpoint": "localhost:4317"},
            r"endpoint='localhost:4317' is no http or https URL.*http://localhost:4317",
        ),
        ({"endpoint": "collector"}, "no http or https URL"),
        ({"endpoint": "ftp://collector:4317"}, "no http or https URL"),
        ({"endpoint": "http://"}, "no http or https URL"),
        ({"endpoint": " http://collector:4317"}, "no http or https URL"),
        ({"endpoint": "http://collector:99999"}, "out of range"),
        ({"endpoint": "http://collector:port"}, "port"),
        ({"endpoint": "http://collector:0"}, "no http or https URL"),
        ({"endpoint": "http://[::1"}, "Invalid IPv6"),
        ({"endpoint": "http://collector:4318?key=1"}, "query"),
        ({"endpoint": ""}, "endpoint is empty"),
        ({"endpoint": "http://collector:4318/v1/traces"}, "URL of one signal.*give the base"),
        ({"endpoint": "http://collector/v1/logs", "protocol": "grpc"}, "path, which gRPC cannot use"),
        ({"protocol": "http"}, r"protocol='http' is no OTLP protocol.*http/protobuf"),
        ({"protocol": "http/json"}, "no OTLP protocol"),
        ({"endpoint": "https://collector:4317", "insecure": True}, "insecure=True contradicts.*is encrypted"),
        (
            {"endpoint": "http://collector:4317", "insecure": False},
            "insecure=False contradicts.*not encrypted",
        ),
        ({"sampler": ALWAYS_ON, "sampling_ratio": 0.5}, "give one of them"),
        ({"sampling_ratio": 1.5}, "outside 0 to 1"),
        ({"sampling_ratio": -0.1}, "outside 0 to 1"),
        ({"sampling_ratio": float("nan")}, "outside 0 to 1"),
        ({"sampling_ratio": 0.5, "traces": False}, "traces are off"),
        ({"traces": False, "metrics": False, "logs": False}, "all off"),
        ({"metric_interval": 0}, "positive, finite number of seconds"),
        ({"export_timeout": -1.0}, "positive, finite number of seconds"),
        ({"exit_timeout": float("inf")}, "positive, finite number of seconds"),
        ({"service_name": " "}, "service_name is empty"),
        ({"service_name": "a", "resource": {"service.name": "b"}}, "contradicts"),
        ({"log_level": "LOUD"}, "no level of logging"),
        ({"log_level": -1}, "below zero"),
        ({"log_processors": [TracerProvider()], "logs": False}, "logs are off"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, Any], message: str) -> None:
    """A ConfigurationError, which is a ValueError, and nothing was set up."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        configure(**arguments)
    assert isinstance(caught.value, ValueError)
    assert untouched()


@pytest.mark.parametrize(
    "arguments",
    [
        {"service_name": 7},
        {"endpoint": b"http://collector"},
        {"protocol": 1},
        {"headers": [("a", "b")]},
        {"headers": {"a": 1}},
        {"headers": {"": "b"}},
        {"insecure": "yes"},
        {"resource": "service.name=a"},
        {"resource": {"a": object()}},
        {"sampler": "always_on"},
        {"sampling_ratio": "0.5"},
        {"sampling_ratio": True},
        {"traces": 1},
        {"metric_interval": "15"},
        {"metric_interval": True},
        {"exit_timeout": None},
        {"logging": None},
        {"structlog": "yes"},
        {"log_level": 2.5},
        {"log_level": True},
        {"span_processors": [object()]},
        {"span_processors": "none"},
        {"metric_readers": TracerProvider()},
        {"shutdown_on_exit": 0},
    ],
)
def test_wrong_types_are_refused(arguments: dict[str, Any]) -> None:
    """A TypeError that names the argument."""
    with pytest.raises(TypeError, match=next(iter(arguments))):
        configure(**arguments)
    assert untouched()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, r"OTEL_TRACES_EXPORTER names 'jaeger'.*console"),
        ({"OTEL_LOGS_EXPORTER": "none,otlp"}, "says none and more"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL='http/json'"),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "smoke"}, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL='smoke'"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT='collector:4318' is no http or https URL",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317/path", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "path, which gRPC",
        ),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "brotli"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE='-1' must be a positive"),
        ({"OTEL_BLRP_SCHEDULE_DELAY": "soon"}, "OTEL_BLRP_SCHEDULE_DELAY='soon' must be a positive"),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "11"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=11 is more than",
        ),
        ({"OTEL_METRICS_EXEMPLAR_FILTER": "sometimes"}, "sometimes"),
        ({"OTEL_PYTHON_ID_GENERATOR": "dice"}, "OTEL_PYTHON_ID_GENERATOR names 'dice'"),
        ({"OTEL_CONFIG_FILE": "otel.yaml"}, "OTEL_CONFIG_FILE.*opentelemetry-instrument"),
    ],
)
def test_contradictory_variables_are_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable; providers, threads and logging are as they were."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match=message):
        configure(service_name="shop")
    assert untouched()
    assert not [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]


def test_nothing_is_sent_to_where_the_missing_exporter_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the exporter's package the error gives the line that installs it."""
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'otel-sched[otlp]'")):
        Destination(protocol="grpc").resolve("traces", "otlp", {}, lambda name: name == "otlp_proto_http")


def test_a_foreign_provider_is_refused() -> None:
    """OpenTelemetry's providers are set once: the application's stays, and may simply be used."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    with pytest.raises(ConfigurationError, match=r"provider for traces is set already.*traces=False"):
        configure(service_name="shop")
    assert "Proxy" in type(metrics.get_meter_provider()).__name__


def test_secrets_do_not_appear_in_messages_or_reprs() -> None:
    """Headers and passwords are for the collector."""
    settings = Settings(headers={"authorization": "secret"}, endpoint="http://me:secret@collector:4318")
    other = Settings(headers={"authorization": "secret2"}, endpoint="http://me:secret3@collector:4318")
    found = "; ".join(settings.differences(other))
    assert "secret" not in found
    assert "authorization" in found
    with pytest.raises(ConfigurationError) as caught:
        Settings(endpoint="ftp://me:secret@collector")
    assert "secret" not in str(caught.value)


BOTH = {"otlp_proto_grpc", "otlp_proto_http"}


@pytest.mark.parametrize(
    ("arguments", "environ", "installed", "exporter", "expected"),
    [
        ({}, {}, BOTH, "otlp_proto_grpc", {}),
        ({}, {}, {"otlp_proto_http"}, "otlp_proto_http", {}),
        (
            {"endpoint": "http://c:4317"},
            {},
            BOTH,
            "otlp_proto_grpc",
            {"endpoint": "http://c:4317", "insecure": True},
        ),
        (
            {"endpoint": "https://c:443"},
            {},
            BOTH,
            "otlp_proto_grpc",
            {"endpoint": "https://c:443", "insecure": False},
        ),
        (
            {"endpoint": "http://c:4318/"},
            {},
            BOTH,
            "otlp_proto_http",
            {"endpoint": "http://c:4318/v1/traces"},
        ),
        (
            {"endpoint": "https://c/otlp"},
            {},
            BOTH,
            "otlp_proto_http",
            {"endpoint": "https://c/otlp/v1/traces"},
        ),
        (
            {"endpoint": "https://c"},
            {},
            {"otlp_proto_http"},
            "otlp_proto_http",
            {"endpoint": "https://c/v1/traces"},
        ),
        (
            {"endpoint": "http://c:4317", "protocol": "http/protobuf"},
            {},
            BOTH,
            "otlp_proto_http",
            {"endpoint": "http://c:4317/v1/traces"},
        ),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, BOTH, "otlp_proto_http", {}),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, BOTH, "otlp_proto_http", {}),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"}, BOTH, "otlp_proto_grpc", {}),
        (
            {"insecure": True},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"},
            BOTH,
            "otlp_proto_grpc",
            {"insecure": True},
        ),
        (
            {},
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            BOTH,
            "otlp_proto_http",
            {},
        ),
        ({"protocol": "grpc"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, BOTH, "otlp_proto_grpc", {}),
        (
            {"headers": {"X-Key": "v"}, "timeout": 3.0},
            {},
            BOTH,
            "otlp_proto_grpc",
            {"headers": {"x-key": "v"}, "timeout": 3.0},
        ),
    ],
)
def test_where_a_signal_goes(
    arguments: dict[str, Any],
    environ: dict[str, str],
    installed: set[str],
    exporter: str,
    expected: dict[str, Any],
) -> None:
    """Arguments before variables, a signal's variable before the general one, a guess if nobody spoke."""
    target = Destination(**arguments).resolve("traces", "otlp", environ, installed.__contains__)
    assert (target.exporter, dict(target.arguments)) == (exporter, expected)


def test_an_exporter_named_in_full_settles_the_protocol() -> None:
    """OTEL_TRACES_EXPORTER=otlp_proto_http means what it says."""
    target = Destination(protocol="grpc").resolve("traces", "otlp_proto_http", {}, BOTH.__contains__)
    assert target.exporter == "otlp_proto_http"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["otlp"]),
        ("", ["otlp"]),
        ("none", []),
        ("console", ["console"]),
        ("otlp, console,otlp", ["otlp", "console"]),
    ],
)
def test_exporters_of_the_variable(value: str | None, expected: list[str]) -> None:
    """A list, none at all, or OTLP by default."""
    environ = {} if value is None else {"OTEL_TRACES_EXPORTER": value}
    assert exporter_names("traces", environ) == expected
