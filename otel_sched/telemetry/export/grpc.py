"""Floor 5: the official OTLP/gRPC exporters' channel, for bytes. Imports no gRPC: whoever made the exporter did."""

import os
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..endpoint import Signal
from .answers import Answer, Parcel, Verdict, partial
from .pack import Packer

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_RETRY_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_RECONNECT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
PATIENCE_AT_FORK = 0.1
"""Seconds that a fork lets a call finish: a receiver that is well needs less, and nothing is then sent twice."""
LONGEST_FORK = 1.0
"""Seconds that a fork waits at most, for a call that does not let itself be cancelled."""
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


class GrpcTransport:
    """A channel of the exporter's, with its own stub that takes bytes."""

    def __init__(self, exporter: Any, pack: Packer, response: Any, signal: Signal) -> None:
        self._exporter = exporter
        self._pack = pack
        self.pieces = pack.pieces
        self._response = response
        self._method = _METHODS[signal]
        self._headers = tuple(exporter._headers)
        self.timeout: float = float(exporter._timeout)
        self._left: list[Any] = []
        self._turn = threading.Lock()
        self._call: Any = None
        self._held = False
        self._keep_connections_apart()
        self._export = self._stub()
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)
            os.register_at_fork(
                before=lambda: None if (it := me()) is None else it._before_fork(),
                after_in_parent=lambda: None if (it := me()) is None else it._in_parent(),
                after_in_child=lambda: None if (it := me()) is None else it._in_child(),
            )

    def _keep_connections_apart(self) -> None:
        """Have a new channel open a connection of its own: gRPC shares them, dead ones too, between alike channels."""
        options = getattr(self._exporter, "_channel_options", None)
        if isinstance(options, tuple):
            self._exporter._channel_options = (*options, ("grpc.use_local_subchannel_pool", 1))
            self._exporter._channel.close()
            self._exporter._initialize_channel_and_stub()

    def _before_fork(self) -> None:
        """Leave gRPC, which does not survive a fork from within a call; a batch cut short is simply tried again."""
        began = time.monotonic()
        held = self._turn.acquire(timeout=PATIENCE_AT_FORK)
        while not held and time.monotonic() < began + LONGEST_FORK:
            held = self._turn.acquire(timeout=0.005)
            if not held and (call := self._call) is not None:
                call.cancel()
        self._held = held

    def _in_parent(self) -> None:
        if self._held:
            self._held = False
            self._turn.release()

    def _in_child(self) -> None:
        self._held = False
        self._turn = threading.Lock()
        self._call = None

    def _stub(self) -> Any:
        return self._exporter._channel.unary_unary(
            self._method, request_serializer=None, response_deserializer=self._response.FromString
        )

    def pack(self, batch: Sequence[Any]) -> Parcel:
        """Return the request; the channel compresses it."""
        return Parcel(*self._pack(batch))

    def send(self, parcel: Parcel, timeout: float) -> Answer:
        """Call the service."""
        call: Any = None
        arguments = {"metadata": self._headers, "timeout": timeout}
        try:
            with self._turn:
                if threading.main_thread().is_alive():
                    self._call = call = self._export.future(parcel.data, **arguments)  # a fork can cancel it
                    response = call.result()
                else:  # the interpreter ends, and from 3.12 on it starts no thread, which such a call needs
                    response = self._export(parcel.data, **arguments)
        except RuntimeError as error:  # no thread for it: it has begun to end just now
            return Answer(Verdict.LATER, repr(error), after=0.01)
        except Exception as error:
            if call is not None and call.cancelled():
                return Answer(Verdict.LATER, "cancelled for a fork", after=0.0)
            code = getattr(error, "code", None)
            if not callable(code):
                raise
            return self._judge(error, str(getattr(code(), "name", "UNKNOWN")))
        finally:
            self._call = None
        return partial(response, parcel.items)

    def _judge(self, error: Any, code: str) -> Answer:
        """Decide by the OTLP specification's table: exhausted resources only count when a delay is named."""
        after = _retry_delay(error)
        if code in _RECONNECT:
            self._reconnect()  # a channel's own backoff goes up to two minutes
        reason = f"gRPC {code}: {error.details()}"
        if code in _RETRY_CODES or (code == "RESOURCE_EXHAUSTED" and after is not None):
            return Answer(Verdict.LATER, reason, after=after)
        return Answer(Verdict.TOO_LARGE if code == "RESOURCE_EXHAUSTED" else Verdict.REFUSED, reason)

    def _reconnect(self) -> None:
        if self._exporter._shutdown:
            return
        with suppress(Exception):
            self._exporter._channel.close()
        self._open()

    def _open(self) -> None:
        self._exporter._initialize_channel_and_stub()
        self._export = self._stub()

    def renew(self) -> None:
        """Open a channel of one's own; the parent's is kept, for to close it here could wait for ever."""
        self._left.append((self._exporter._channel, self._exporter._client))
        self._open()

    def close(self) -> None:
        """Shut the exporter down; a call that is under way ends at once."""
        self._exporter.shutdown()


def _retry_delay(error: Any) -> float | None:
    """Return the seconds that a RetryInfo among the call's trailing metadata asks for."""
    kind = getattr(sys.modules.get("google.rpc.error_details_pb2"), "RetryInfo", None)
    if kind is None:
        return None
    try:
        found = dict(error.trailing_metadata() or ())
        data = found.get("google.rpc.retryinfo-bin")
        if data is None:
            data = _detail(found.get("grpc-status-details-bin", b""))
        if data is None:
            return None
        delay = kind.FromString(data).retry_delay
        return max(0.0, float(delay.seconds + delay.nanos / 1e9))
    except Exception:
        return None


def _detail(status: bytes) -> bytes | None:
    """Return the RetryInfo in a serialized google.rpc.Status, whose class need not be installed.

    It is the value of an Any: after the type's URL come tag 2, its length (less than 128) and the message.
    """
    _, url, rest = status.partition(_RETRY_INFO)
    return rest[2 : 2 + rest[1]] if url and rest[:1] == b"\x12" else None
