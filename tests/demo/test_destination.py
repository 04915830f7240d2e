"""Where the demo exports to: what is said wins, then what is set, then what answers, then nowhere."""

import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import pytest

from otel_sched.demo.destination import NOWHERE, Destination, choose
from tests.support.otlp_receiver import refused_endpoint

OFF = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.fixture
def open_port() -> Iterator[int]:
    """A port of this machine where something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port of this machine where nothing listens."""
    return urlsplit(refused_endpoint()).port or 0


def test_an_argument_wins() -> None:
    """An endpoint on the command line is taken as it is, shown without its password."""
    found = choose("http://u:p@h:1", "grpc", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"})

    assert found == Destination("http://u:p@h:1", "grpc", shown="http://u:***@h:1")


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}, "http://h:1 (OTEL_EXPORTER_OTLP_ENDPOINT)"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "h:1"}, "h:1 (OTEL_EXPORTER_OTLP_LOGS_ENDPOINT)"),
        ({"OTEL_SDK_DISABLED": "true"}, "nowhere (OTEL_SDK_DISABLED)"),
        (OFF, "nowhere (OTEL_*_EXPORTER)"),
        ({**OFF, "OTEL_TRACES_EXPORTER": "console"}, "console, nowhere (OTEL_*_EXPORTER)"),
    ],
)
def test_variables_are_left_to_configure(environ: Mapping[str, str], shown: str, open_port: int) -> None:
    """Where the environment says where to, nothing is probed and nothing overruled."""
    assert choose(None, None, environ, {"grpc": open_port}) == Destination(shown=shown)


def test_what_answers_at_the_default_is_taken(open_port: int, closed_port: int) -> None:
    """The first port that answers, with its protocol, if that protocol is wanted."""
    found = f"http://127.0.0.1:{open_port}"

    assert choose(None, None, {}, {"grpc": closed_port, "http/protobuf": open_port}) == Destination(
        found, "http/protobuf", shown=found
    )
    assert not choose(None, "grpc", {}, {"grpc": closed_port, "http/protobuf": open_port}).shown
    assert not choose(None, None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"http/protobuf": open_port}).shown


def test_without_a_collector_export_is_off(closed_port: int) -> None:
    """Nothing is sent to where nobody listens, except by exporters that were asked for."""
    assert choose(None, None, {}, {"grpc": closed_port}).variables == OFF
    asked = choose(None, None, {"OTEL_LOGS_EXPORTER": "console"}, {"grpc": closed_port}).variables
    assert asked == {name: value for name, value in OFF.items() if name != "OTEL_LOGS_EXPORTER"}


def test_the_advice_fits_a_line() -> None:
    """How to get a collector is one line, on the narrowest terminal too."""
    assert len(NOWHERE) <= 80
