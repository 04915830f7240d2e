"""An OTLP receiver that misbehaves as real ones do: gRPC or HTTP/protobuf, on a free port of 127.0.0.1.

    with FaultyReceiver("grpc", Fault.SILENT) as receiver:
        configure(endpoint=receiver.endpoint, protocol="grpc")
        ...
        receiver.fault = Fault.NONE  # it has recovered

What it accepted it decodes and counts: distinct spans and log records. In front of the server, which can answer
badly, stands a gate, which can treat the connection badly; every change of the fault takes effect at once.
`python -m tests.support.faulty` runs one in a process of its own.
"""

import argparse
import asyncio
import json
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

RESET_AFTER = 300
"""Bytes of a connection that get through before it is reset: the head of a request, never a whole one."""


class Fault(StrEnum):
    """What the receiver does instead of its work."""

    NONE = "none"
    REFUSED = "refused"  # nobody listens at the port
    SILENT = "silent"  # accepts and never answers; what is connected already becomes a black hole
    SLOW = "slow"  # answers after `latency` seconds
    BUSY = "busy"  # 503 with Retry-After; UNAVAILABLE
    THROTTLED = "throttled"  # 429 with Retry-After; RESOURCE_EXHAUSTED with RetryInfo
    RESET = "reset"  # resets the connection in the middle of a request
    PARTIAL = "partial"  # takes one half and rejects the other: OTLP's partial success
    INVALID = "invalid"  # 400; INVALID_ARGUMENT: no use in trying again


_CONNECTION = (Fault.REFUSED, Fault.SILENT, Fault.RESET)
_SIGNALS: Mapping[str, tuple[str, Any, Any]] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": (
        "traces",
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
    ),
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": (
        "metrics",
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
    ),
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": (
        "logs",
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
    ),
}
_REJECTED = {"traces": "rejected_spans", "logs": "rejected_log_records"}
_PATHS = {f"/v1/{entry[0]}": entry for entry in _SIGNALS.values()}


@dataclass(frozen=True)
class Arrival:
    """When a request of a signal was there, on the monotonic clock, and the fault it met."""

    time: float
    signal: str
    fault: Fault


DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


class Books:
    """What was accepted, each span and log record with how often; and every request that reached the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.spans: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.again: Counter[str] = Counter()  # names of the spans that came once more
        self.logs: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.arrivals: list[Arrival] = []
        self.put: dict[str, float] = {}

    def arrived(self, signal: str, fault: Fault) -> None:
        with self._lock:
            self.arrivals.append(Arrival(time.monotonic(), signal, fault))

    def take(self, signal: str, message: Any, half: bool) -> int:
        """Accept what is in *message*, or only *half* of its spans or log records; return how many it rejects."""
        with self._lock:
            if signal == "metrics":
                for queue, number, is_delta in _jobs_put(message):
                    self.put[queue] = number + (self.put.get(queue, 0) if is_delta else 0)
                return 0
            kind, leaf = ("spans", "spans") if signal == "traces" else ("logs", "log_records")
            items = [
                item
                for group in getattr(message, f"resource_{kind}")
                for scope in getattr(group, f"scope_{kind}")
                for item in getattr(scope, leaf)
            ]
            kept = items[: len(items) // 2] if half else items
            for item in kept:
                if signal == "traces":
                    (self.again if self.spans[item.span_id.hex()] else self.names)[item.name] += 1
                    self.spans[item.span_id.hex()] += 1
                else:
                    self.logs[item.body.string_value] += 1
            for item in items[len(kept) :]:  # as much work as to take it: who rejects faster is sent more
                self.refused[f"{item.name} {item.span_id.hex()}" if signal == "traces" else item.body.string_value] += 1
            self.rejected[signal] += len(items) - len(kept)
            return len(items) - len(kept)


def _jobs_put(message: Any) -> list[tuple[str, float, bool]]:
    """Return the jobs put by queue, and whether those are only the newest of them."""
    return [
        (attribute.value.string_value, point.as_int or point.as_double, metric.sum.aggregation_temporality == DELTA)
        for group in message.resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        if metric.name == "otel_sched.jobs.put"
        for point in metric.sum.data_points
        for attribute in point.attributes
    ]


class FaultyReceiver:
    """Listens for one protocol until `stop()`, or as a context manager; `fault` may be set at any time.

    Args:
        protocol: `grpc` or `http/protobuf`.
        fault: What it does first.
        latency: Seconds that `Fault.SLOW` takes to answer.
        retry_after: Seconds that `Fault.BUSY` and `Fault.THROTTLED` ask to wait.
        blind: Decode nothing and count requests alone, which takes the least of the machine.
    """

    def __init__(
        self,
        protocol: str,
        fault: Fault = Fault.NONE,
        *,
        latency: float = 10.0,
        retry_after: int = 1,
        blind: bool = False,
    ) -> None:
        self.protocol, self.latency, self.retry_after, self.blind = protocol, latency, retry_after, blind
        self.books = Books()
        self._fault = fault
        self._changed = threading.Condition()
        self._server = _GrpcServer(self) if protocol == "grpc" else _HttpServer(self)
        self._gate = Gate(self._server.port)

    @property
    def endpoint(self) -> str:
        """The URL to give to `configure()`; it stays the same whatever happens."""
        return f"http://127.0.0.1:{self._gate.port}"

    @property
    def fault(self) -> Fault:
        """What it does wrong now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
        self._gate.turn(fault if fault in _CONNECTION else Fault.NONE)

    @property
    def struck(self) -> int:
        """How often a fault has met a request or connection; a refused one never shows."""
        return self._gate.struck + sum(each.fault is not Fault.NONE for each in self.books.arrivals)

    def start(self) -> None:
        self._server.start()
        self._gate.start()
        self.fault = self._fault

    def stop(self) -> None:
        with self._changed:
            self._fault = Fault.NONE  # whoever waits in a slow answer
            self._changed.notify_all()
        self._gate.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, entry: tuple[str, Any, Any], body: bytes, there: Callable[[], bool]) -> tuple[Fault, bytes]:
        """Return the fault and, where the answer is a good one, its body.

        What nobody waits for any more (`there`) is not accepted: the sender has to count it as undelivered.
        """
        signal, request, response = entry
        fault = self._fault
        self.books.arrived(signal, fault)
        if fault is Fault.SLOW:
            self._dawdle(there)
            if not there():
                return fault, b""
        elif fault not in (Fault.NONE, Fault.PARTIAL):
            return fault, b""
        half = fault is Fault.PARTIAL
        rejected = int(half) if self.blind else self.books.take(signal, request.FromString(body), half)
        answer = response()
        if rejected and signal != "metrics":
            setattr(answer.partial_success, _REJECTED[signal], rejected)
            answer.partial_success.error_message = "half of it is too much"
        return Fault.NONE, answer.SerializeToString()

    def _dawdle(self, there: Callable[[], bool]) -> None:
        until = time.monotonic() + self.latency
        with self._changed:
            while self._fault is Fault.SLOW and time.monotonic() < until and there():
                self._changed.wait(0.05)


class Gate:
    """Stands before a server at a port of its own, and passes connections on unless it is turned to a fault."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._place = _bound(0)  # never listens: keeps the port ours while nobody does
        self.port: int = self._place.getsockname()[1]
        self.struck = 0
        self._way = Fault.NONE
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def turn(self, way: Fault) -> None:
        """Treat connections that way from now on; all but a black hole cuts those there are."""
        asyncio.run_coroutine_threadsafe(self._turn(way), self._loop).result(10.0)

    def stop(self) -> None:
        self.turn(Fault.REFUSED)
        asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()
        self._place.close()

    async def _turn(self, way: Fault) -> None:
        self._way = way
        if way in (Fault.REFUSED, Fault.RESET):
            for writer in list(self._open):
                _cut(writer)
        if way is Fault.REFUSED:
            if self._server is not None:
                self._server.close()
                self._server = None
        elif self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=_bound(self.port))

    async def _wind_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._open:
            _cut(writer)
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._way is Fault.SILENT:
                self.struck += 1
                while await reader.read(65536):
                    pass
            else:
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._open.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, forth = await asyncio.open_connection("127.0.0.1", self._behind)
        ways = [asyncio.create_task(self._pump(reader, forth, writer)), asyncio.create_task(self._pump(behind, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            forth.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter | None = None
    ) -> None:
        """Carry bytes until one side ends; *back* leads to the client where *source* is the client's."""
        carried = 0
        lost = False
        while data := await source.read(65536):
            if self._way is Fault.SILENT:
                self.struck += not lost
                lost = True  # for good: half a request would confuse the server
            if lost:
                continue
            carried += len(data)
            if back is not None and self._way is Fault.RESET and carried > RESET_AFTER:
                self.struck += 1
                _cut(back)
                return
            sink.write(data)
            await sink.drain()


def _bound(port: int) -> socket.socket:
    """Return a socket that is bound to *port* and does not listen."""
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    return place


def _cut(writer: asyncio.StreamWriter) -> None:
    """Reset a connection: its peer reads an error, not an end."""
    plain = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: FaultyReceiver) -> None:
        super().__init__(("127.0.0.1", 0), _HttpHandler)
        self.receiver = receiver
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="faulty-http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing on stderr: that connections break is what this is for."""


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        receiver = self.server.receiver
        fault, answer = receiver.answer(_PATHS[self.path], body, self._there)
        if fault is Fault.SLOW:
            self.close_connection = True
            return
        self.send_response({Fault.BUSY: 503, Fault.THROTTLED: 429, Fault.INVALID: 400}.get(fault, 200))
        if fault in (Fault.BUSY, Fault.THROTTLED):
            self.send_header("Retry-After", str(receiver.retry_after))
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _there(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing on stderr."""


class _GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self, receiver: FaultyReceiver) -> None:
        self._receiver = receiver
        self._server = grpc.server(ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0.2).wait()

    def service(self, handler_call_details: Any) -> Any:
        entry = _SIGNALS[handler_call_details.method]

        def export(body: bytes, context: Any) -> bytes:
            fault, answer = self._receiver.answer(entry, body, context.is_active)
            if fault is Fault.THROTTLED:
                context.set_trailing_metadata(_retry_info(self._receiver.retry_after))
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
            elif fault in (Fault.BUSY, Fault.SLOW):
                context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
            elif fault is Fault.INVALID:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "makes no sense")
            return answer

        return grpc.unary_unary_rpc_method_handler(export)


def _retry_info(seconds: int) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that asks to wait: as collectors send it, and as Python's exporter reads it."""
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = seconds
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="slow down", details=[detail])
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("google.rpc.retryinfo-bin", info.SerializeToString()),
    )


def main() -> None:
    """Print the endpoint, serve until stdin ends, print how many requests came."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--protocol", default="http/protobuf", choices=["grpc", "http/protobuf"])
    parser.add_argument("--fault", default=Fault.NONE, type=Fault, choices=list(Fault))
    parser.add_argument("--flap", type=float, help="seconds after which the port opens and closes in turns")
    parser.add_argument("--latency", type=float, default=10.0)
    options = parser.parse_args()
    with FaultyReceiver(options.protocol, options.fault, latency=options.latency, blind=True) as receiver:
        print(receiver.endpoint, flush=True)
        while not select.select([sys.stdin], [], [], options.flap)[0]:
            receiver.fault = Fault.NONE if receiver.fault is Fault.REFUSED else Fault.REFUSED
    print(json.dumps({"requests": len(receiver.books.arrivals)}))


if __name__ == "__main__":
    main()
