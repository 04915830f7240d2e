"""A small OTLP receiver that decodes what it gets: gRPC and HTTP/protobuf, on free ports of 127.0.0.1.

    with OtlpReceiver() as receiver:
        configure(endpoint=receiver.grpc_endpoint)
        ...
    assert [span.name for span in receiver.spans()] == [...]

What it returns is flat and plain: ids are hex strings (empty when absent), times are nanoseconds, attributes
a dict.
"""

import gzip
import socket
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

Signal = Literal["traces", "metrics", "logs"]

_MESSAGES: Mapping[Signal, tuple[Any, Any]] = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "metrics": (
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
    ),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}
_SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")
_TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")


@dataclass(frozen=True)
class Request:
    """One export request, decoded."""

    signal: Signal
    transport: Literal["grpc", "http"]
    path: str
    headers: dict[str, str]
    message: Any


@dataclass(frozen=True)
class Link:
    """A link of a span."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]
    flags: int


@dataclass(frozen=True)
class Event:
    """An event of a span."""

    name: str
    time: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span with the resource and the scope it came in."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start: int
    end: int
    status: str
    status_message: str
    attributes: dict[str, Any]
    links: tuple[Link, ...]
    events: tuple[Event, ...]
    flags: int
    resource: dict[str, Any] = field(repr=False)
    scope: str = ""


@dataclass(frozen=True)
class Exemplar:
    """An exemplar of a data point."""

    trace_id: str
    span_id: str
    value: float
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A data point with its metric: `value` for sums and gauges, `count` to `buckets` for histograms."""

    name: str
    kind: str
    unit: str
    description: str
    attributes: dict[str, Any]
    start: int
    time: int
    temporality: str = ""
    monotonic: bool = False
    value: float = 0.0
    count: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    resource: dict[str, Any] = field(default_factory=dict, repr=False)
    scope: str = ""
    request: int = 0


@dataclass(frozen=True)
class LogRecord:
    """A log record with the resource and the scope it came in."""

    body: Any
    severity: int
    severity_text: str
    trace_id: str
    span_id: str
    flags: int
    time: int
    observed_time: int
    attributes: dict[str, Any]
    event_name: str
    resource: dict[str, Any] = field(repr=False)
    scope: str = ""


class OtlpReceiver:
    """Receives OTLP over gRPC and HTTP at once and keeps every request; a context manager.

    Args:
        http_status: The status of every HTTP answer; with another than 200 nothing is kept.
        grpc_status: The status code of every gRPC answer; with another than OK nothing is kept.
    """

    def __init__(self, *, http_status: int = 200, grpc_status: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.http_status = http_status
        self.grpc_status = grpc_status
        self.refused = 0
        self._requests: list[Request] = []
        self._arrived = threading.Condition()
        self._http = _HttpServer(("127.0.0.1", 0), _HttpHandler)
        self._http.receiver = self
        self._grpc = grpc.server(ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
        self._register()
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")

    @property
    def http_endpoint(self) -> str:
        """The base URL for HTTP/protobuf."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def grpc_endpoint(self) -> str:
        """The URL for gRPC."""
        return f"http://127.0.0.1:{self._grpc_port}"

    def endpoint(self, protocol: str) -> str:
        """The URL for *protocol*, `grpc` or `http/protobuf`."""
        return self.grpc_endpoint if protocol == "grpc" else self.http_endpoint

    def start(self) -> None:
        """Begin to listen."""
        self._grpc.start()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="otlp-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; what was received stays."""
        self._grpc.stop(0.5).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def requests(self, signal: Signal | None = None) -> list[Request]:
        """Return the requests that arrived so far, in order."""
        with self._arrived:
            return [request for request in self._requests if signal in (None, request.signal)]

    def clear(self) -> None:
        """Forget what arrived so far."""
        with self._arrived:
            self._requests.clear()

    def wait_for(self, signal: Signal, timeout: float = 10.0) -> list[Request]:
        """Block until a request of *signal* is there; AssertionError after *timeout* seconds."""
        with self._arrived:
            here = self._arrived.wait_for(lambda: any(r.signal == signal for r in self._requests), timeout)
        assert here, f"no {signal} arrived within {timeout} s"
        return self.requests(signal)

    def spans(self) -> list[Span]:
        """Return all spans that arrived."""
        return [
            _span(span, _attributes(group.resource.attributes), scoped.scope.name)
            for request in self.requests("traces")
            for group in request.message.resource_spans
            for scoped in group.scope_spans
            for span in scoped.spans
        ]

    def points(self, name: str | None = None) -> list[Point]:
        """Return all data points that arrived, of one metric or all; cumulative ones come again and again."""
        return [
            point
            for number, request in enumerate(self.requests("metrics"))
            for group in request.message.resource_metrics
            for scoped in group.scope_metrics
            for metric in scoped.metrics
            if name in (None, metric.name)
            for point in _points(metric, _attributes(group.resource.attributes), scoped.scope.name, number)
        ]

    metrics = points

    def latest(self, name: str | None = None) -> dict[tuple[str, frozenset[tuple[str, Any]]], Point]:
        """Return the last point of each series, by metric name and attributes."""
        return {(point.name, frozenset(point.attributes.items())): point for point in self.points(name)}

    def log_records(self) -> list[LogRecord]:
        """Return all log records that arrived."""
        return [
            _log_record(record, _attributes(group.resource.attributes), scoped.scope.name)
            for request in self.requests("logs")
            for group in request.message.resource_logs
            for scoped in group.scope_logs
            for record in scoped.log_records
        ]

    def _keep(self, request: Request) -> None:
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()

    def _register(self) -> None:
        """Register the three official services, each with one `Export` method."""
        for signal, stub, add in (
            (
                "traces",
                trace_service_pb2_grpc.TraceServiceServicer,
                trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
            ),
            (
                "metrics",
                metrics_service_pb2_grpc.MetricsServiceServicer,
                metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
            ),
            (
                "logs",
                logs_service_pb2_grpc.LogsServiceServicer,
                logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
            ),
        ):
            add(type(f"{signal}Servicer", (stub,), {"Export": self._exporter(signal)})(), self._grpc)

    def _exporter(self, signal: Any) -> Any:
        def export(_servicer: Any, message: Any, context: Any) -> Any:
            if self.grpc_status is not grpc.StatusCode.OK:
                self.refused += 1
                context.abort(self.grpc_status, "refused by the test")
            headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            self._keep(Request(signal, "grpc", "", headers, message))
            return _MESSAGES[signal][1]()

        return export


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    receiver: OtlpReceiver


class _HttpHandler(BaseHTTPRequestHandler):
    """Takes POST /v1/{traces,metrics,logs}, below any prefix."""

    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        last = self.path.rpartition("/")[2]
        signal = next((name for name in _MESSAGES if name == last), None)
        if signal is None or not self.path.endswith(f"/v1/{signal}"):
            self._answer(404, b"")
        elif self.headers.get("Content-Type") != "application/x-protobuf":
            self._answer(415, b"")
        elif receiver.http_status != 200:
            receiver.refused += 1
            self._answer(receiver.http_status, b"")
        else:
            message = _MESSAGES[signal][0].FromString(_unpacked(body, self.headers.get("Content-Encoding", "")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver._keep(Request(signal, "http", self.path, headers, message))
            self._answer(200, _MESSAGES[signal][1]().SerializeToString())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing on stderr."""


class SilentServer:
    """Listens, accepts and never answers; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._peers: list[socket.socket] = []
        self.accepted = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="silent", daemon=True)

    @property
    def endpoint(self) -> str:
        """Its URL, for either protocol."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._socket.close()
        for peer in self._peers:
            peer.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._peers.append(peer)
            self.accepted.set()


def refused_endpoint() -> str:
    """Return the URL of a port of 127.0.0.1 where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _value(value: Any) -> Any:
    """Return the Python value of an OTLP AnyValue."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    inner = getattr(value, kind)
    if kind == "array_value":
        return [_value(each) for each in inner.values]
    return _attributes(inner.values) if kind == "kvlist_value" else inner


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _span(span: Any, resource: dict[str, Any], scope: str) -> Span:
    return Span(
        name=span.name,
        kind=_SPAN_KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=_STATUSES[span.status.code],
        status_message=span.status.message,
        attributes=_attributes(span.attributes),
        links=tuple(
            Link(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes), link.flags)
            for link in span.links
        ),
        events=tuple(Event(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        flags=span.flags,
        resource=resource,
        scope=scope,
    )


def _points(metric: Any, resource: dict[str, Any], scope: str, request: int) -> list[Point]:
    kind: str = metric.WhichOneof("data")
    data = getattr(metric, kind)
    common: dict[str, Any] = {
        "name": metric.name,
        "kind": kind,
        "unit": metric.unit,
        "description": metric.description,
        "temporality": "" if kind == "gauge" else _TEMPORALITIES[data.aggregation_temporality],
        "monotonic": kind == "sum" and data.is_monotonic,
        "resource": resource,
        "scope": scope,
        "request": request,
    }
    return [
        Point(
            **common,
            attributes=_attributes(point.attributes),
            start=point.start_time_unix_nano,
            time=point.time_unix_nano,
            exemplars=_exemplars(point.exemplars),
            **(_number(point) if kind in ("sum", "gauge") else _distribution(kind, point)),
        )
        for point in data.data_points
    ]


def _number(point: Any) -> dict[str, Any]:
    kind = point.WhichOneof("value")
    return {"value": getattr(point, kind) if kind else 0.0}


def _distribution(kind: str, point: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"count": point.count, "sum": point.sum}
    if kind == "histogram":
        found |= {"bounds": tuple(point.explicit_bounds), "buckets": tuple(point.bucket_counts)}
    if point.count and hasattr(point, "min"):
        found |= {"min": point.min, "max": point.max}
    return found


def _exemplars(exemplars: Sequence[Any]) -> tuple[Exemplar, ...]:
    return tuple(
        Exemplar(
            each.trace_id.hex(),
            each.span_id.hex(),
            _number(each)["value"],
            _attributes(each.filtered_attributes),
        )
        for each in exemplars
    )


def _log_record(record: Any, resource: dict[str, Any], scope: str) -> LogRecord:
    return LogRecord(
        body=_value(record.body),
        severity=record.severity_number,
        severity_text=record.severity_text,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        flags=record.flags,
        time=record.time_unix_nano,
        observed_time=record.observed_time_unix_nano,
        attributes=_attributes(record.attributes),
        event_name=getattr(record, "event_name", ""),
        resource=resource,
        scope=scope,
    )
